"""How full a disk is, as a role tells it."""

from __future__ import annotations

import os
import threading
import types
from pathlib import Path

import gevent
import pytest

from hitmesh.mesh.room import ASK_S, Measured, Room, measured
from hitmesh.state.standing import DISK_USED
from tests.hitmesh.patience import until
from tests.services import PATIENCE_S


def test_a_role_tells_the_share_of_what_it_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = types.SimpleNamespace(f_blocks=1000, f_bfree=200, f_bavail=100, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    assert measured(tmp_path) == Measured(0.89, 409_600)  # root keeps a tenth for itself, which is nobody else's
    told = Room(tmp_path)
    assert told.load() == {}
    until(lambda: told.load() == {DISK_USED: 0.89})


def test_it_asks_now_and_then_and_not_with_every_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def ask(folder: Path) -> Measured:
        asked.append(folder)
        return Measured(0.5, 1)

    monkeypatch.setattr("hitmesh.mesh.room.measured", ask)
    clock = [0.0]
    monkeypatch.setattr("hitmesh.mesh.room.time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    told = Room(tmp_path)
    for _ in range(10):
        told.load()
    until(lambda: asked)
    assert len(asked) == 1
    clock[0] = ASK_S
    told.load()
    until(lambda: len(asked) == 2)


def test_a_folder_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert measured(tmp_path / "none") is None


def test_a_disk_that_hangs_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, goes_on = [], threading.Event()

    def hang(folder: Path) -> Measured:
        asked.append(folder)
        assert goes_on.wait(PATIENCE_S)
        return Measured(0.5, 1)

    monkeypatch.setattr("hitmesh.mesh.room.measured", hang)
    monkeypatch.setattr("hitmesh.mesh.room.ASK_S", 0.0)
    told = Room(tmp_path)
    for _ in range(20):  # each would take a thread from everybody else
        assert told.load() == {}
        gevent.sleep(0.01)
    assert len(asked) == 1
    goes_on.set()
    until(lambda: told.load() == {DISK_USED: 0.5})
