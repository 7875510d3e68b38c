"""What tests on whole hosts share."""

from __future__ import annotations

import pytest

from hitmesh.deploy.release import Built, build
from tests.hosts.bed import REPOSITORY, why_not
from tests.services import without


@pytest.fixture(scope="session", autouse=True)
def _bed_is_possible() -> None:
    """Without root, namespaces or sshd these tests are skipped, and fail under CI=true."""
    if reason := why_not():
        without(reason)


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The release of this checkout."""
    return build(REPOSITORY, tmp_path_factory.mktemp("releases"))
