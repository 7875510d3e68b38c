"""When an instance is back with its new key, and who isn't waited for; the rest is tests/system/test_scale.py's."""

from __future__ import annotations

from pathlib import Path

import pytest

from hitmesh.cli import picture, rotation
from hitmesh.cli.rotation import Rotation
from hitmesh.cli.supervision import Supervisor
from hitmesh.state.keylist import Peer
from tests.hitmesh.dev_config import configured

COLLECTOR = Peer("dev", "collector", "collector-1")


class Mesh:
    """What the Nexuses would say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.lacking: list[str] = []
        self.living = ["collector-1.0a"]
        monkeypatch.setattr(picture, "ask", lambda _: None)
        monkeypatch.setattr(picture, "missing", lambda *_: self.lacking)
        monkeypatch.setattr(Rotation, "_living", lambda *_: self.living)
        monkeypatch.setattr(rotation, "SEEN_S", 0.0)
        self.rotation = Rotation(configured(), Supervisor(tmp_path), [COLLECTOR])

    def is_back(self) -> bool:
        return self.rotation._is_back(COLLECTOR, {"collector-1.0a"})


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mesh:
    return Mesh(monkeypatch, tmp_path)


def test_an_instance_is_back_when_another_process_of_it_lives_alone(mesh: Mesh) -> None:
    answers = []
    for living in (["collector-1.0a"], [], ["collector-1.0a", "collector-1.0b"], ["collector-1.0b"]):
        mesh.living = living
        answers.append(mesh.is_back())
    assert answers == [False, False, False, True]


def test_who_was_missing_before_is_not_waited_for_and_whoever_is_missing_since_is(mesh: Mesh) -> None:
    mesh.living = ["collector-1.0b"]
    mesh.rotation._lacked = {"collector-2", "owners of 3 of 32 partitions"}
    mesh.lacking = ["collector-2", "owners of 5 of 32 partitions"]
    assert mesh.is_back()
    mesh.lacking = ["collector-2", "balancer-1"]
    assert not mesh.is_back()
    mesh.rotation._lacked = set()
    mesh.lacking = ["owners of 1 of 32 partitions"]
    assert not mesh.is_back()
