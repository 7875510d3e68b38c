"""What tests of every package share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.access_log import lines

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("hitmesh", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hitmesh")

REPOSITORY = Path(__file__).resolve().parent.parent


def find_access_log(named: str, beside: Path, made: Path) -> Path:
    """The log that is `named`, else the one `beside` the checkout, else one that is made as `made`."""
    if named:
        assert Path(named).is_file(), f"HITMESH_ACCESS_LOG names {named}, which is not a file"
        return Path(named)
    if beside.is_file():
        return beside
    made.write_bytes(b"".join(lines()))
    return made


@pytest.fixture(scope="session")
def access_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10,000 requests in combined log format: a real site's where there is one, else made here.

    HITMESH_ACCESS_LOG names one; a checkout may have one beside it, in shared/data.
    """
    return find_access_log(
        os.environ.get("HITMESH_ACCESS_LOG", ""),
        REPOSITORY.parent / "shared" / "data" / "access.log",
        tmp_path_factory.mktemp("access-log") / "access.log",
    )
