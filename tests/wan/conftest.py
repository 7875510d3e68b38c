"""What tests on the bed of hosts share."""

from __future__ import annotations

import pytest

from tests.services import require, without
from tests.wan.bed import why_not


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first: a worker that has nothing left to do takes over others' last tests, one by one.

    Of these each would start a whole mesh again.
    """
    items.sort(key=lambda item: "wan/test_three_datacenters.py" not in item.nodeid)


@pytest.fixture(scope="session", autouse=True)
def _bed_is_possible() -> None:
    """Without root or TUN devices these tests are skipped, and fail under CI=true."""
    require("ip")
    if reason := why_not():
        without(reason)
