"""What tests on whole hosts share."""

from __future__ import annotations

import pytest

from tests.hosts.bed import why_not
from tests.services import without


@pytest.fixture(scope="session", autouse=True)
def _bed_is_possible() -> None:
    """Without root, namespaces or sshd these tests are skipped, and fail under CI=true."""
    if reason := why_not():
        without(reason)
