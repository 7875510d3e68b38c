"""What tests on the bed of hosts share."""

from __future__ import annotations

import pytest

from tests.services import require, without
from tests.wan.bed import why_not


@pytest.fixture(scope="session", autouse=True)
def _bed_is_possible() -> None:
    """Without root or TUN devices these tests are skipped, and fail under CI=true."""
    require("ip")
    if reason := why_not():
        without(reason)
