"""A scaler that only says what it would do: nothing is written, and nothing is started or stopped."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from hitmesh.scaler.scaler import Scaler
from hitmesh.settings.wanted import Change, Wanted


def test_what_it_would_change_is_said_and_not_written(caplog: pytest.LogCaptureFixture) -> None:
    written: list[Wanted] = []

    def write(wanted: Wanted) -> bool:
        written.append(wanted)
        return True

    scaler: Any = object.__new__(Scaler)
    scaler._told_dry = True
    scaler._said = {}
    scaler._decisions = 0
    scaler._office = SimpleNamespace(write=write)
    change = Change(at=1.0, role="collector", node="a", was=2, now=3, why="2 use 90% of a CPU each")
    with caplog.at_level(logging.INFO):
        assert not scaler._change(Wanted(), Wanted(changes=(change,)))
    assert not written
    assert scaler._decisions == 0
    assert "would change: collector 2 -> 3, on a: 2 use 90% of a CPU each" in caplog.text


def test_what_is_wanted_is_not_brought_about() -> None:
    looks: list[str] = []
    scaler: Any = object.__new__(Scaler)
    scaler._told_dry, scaler._node, scaler._hold = True, "a", ""
    scaler._office = SimpleNamespace(wanted=Wanted(counts={"a": {"collector": 3}}))
    scaler._live = SimpleNamespace(known=True)
    scaler._local = SimpleNamespace(look=lambda: looks.append("look"))  # it has nothing to bring anything with
    scaler._bring_once()
    assert looks == ["look"]
