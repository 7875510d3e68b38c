"""Roles that somebody starts by hand, from wherever that is: they work with the files of their mesh, or not at all."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitmesh.mesh.duty import EXIT_UNFIT
from tests.services import wait_for
from tests.system.mesh import Process
from tests.system.user import HITMESH, PATIENCE_S, PATIENT, User, mesh
from tests.system.visitors import Visitor, accepted, at_work


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    with mesh(tmp_path_factory.mktemp("by-hand"), timing={**PATIENT, "heartbeat_s": 0.5}, nexus=1, processor=1) as user:
        yield user
        user.assert_balanced()


def by_hand(user: User, folder: Path, *words: str) -> Process:
    """A processor that is started from another folder, and not told where the mesh's files are."""
    place = ["--config", str(user.config_path), "--name", "processor-9"]
    process = Process(["env", "-C", str(folder), *HITMESH, "processor", *place, *words], folder / "processor-9.log", {})
    process.start()
    return process


def test_one_that_is_not_told_where_the_files_are_takes_those_of_its_datacenters_file(
    user: User, tmp_path: Path
) -> None:
    process = by_hand(user, tmp_path)
    try:
        wait_for(lambda: "processor-9" in user.owned().values(), within_s=PATIENCE_S, what="its share")
        [place] = user.config.instances("collector")[:1]
        visitor = Visitor(f"http://{place.address}:{place.port}", [f"by-hand/{number}" for number in range(64)])
        with at_work(visitor):
            wait_for(lambda: accepted(visitor).total() >= 200, within_s=PATIENCE_S, what="hits")
        user.wait_until_settled()
        assert not visitor.failed
        assert user.committed("by-hand/") == accepted(visitor)
    finally:
        process.signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert not (tmp_path / "var").exists()


def test_one_that_would_count_in_another_store_ends_before_it_counts_anything(user: User, tmp_path: Path) -> None:
    process = by_hand(user, tmp_path, "--state-dir", str(tmp_path / "elsewhere"))
    try:
        assert process.wait(PATIENCE_S) == EXIT_UNFIT
    finally:
        process.kill()
    said = (tmp_path / "processor-9.log").read_text()
    assert "processor-1 counts in another totals store than sqlite:///totals.db is here" in said
    assert "--state-dir says where the datacenter's files are" in said
    wait_for(
        lambda: set(user.owned()) == set(range(user.config.partitions)), within_s=PATIENCE_S, what="all to be back"
    )
    assert set(user.owned().values()) == {"processor-1"}
