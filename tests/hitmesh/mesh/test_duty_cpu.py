"""How busy a process says that it is."""

from __future__ import annotations

import time

import pytest

from hitmesh.mesh.duty import BUSY_S, FLICKER, CpuMeter


class Clock:
    """Both of them, which only go where they are told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.used = 10.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "process_time", lambda: self.used)

    def run(self, seconds: float, share: float) -> None:
        self.now += seconds
        self.used += seconds * share


def test_it_is_the_share_of_one_cpu_that_was_used_lately(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    meter = CpuMeter()
    clock.run(BUSY_S, 0.5)
    assert meter.read() == 0.5
    clock.run(BUSY_S / 2, 0.9)
    assert meter.read() == 0.5, "too little time has gone by"
    clock.run(BUSY_S / 2, 0.7)
    assert meter.read() == pytest.approx(0.8)
    clock.run(BUSY_S, 1.7)
    assert meter.read() == pytest.approx(1.7), "threads beside the hub"


def test_an_idle_one_doesnt_flicker(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    meter = CpuMeter()
    said = []
    for share in (0.01, 0.0, FLICKER - 0.005, 0.01) * 5:
        clock.run(BUSY_S, share)
        said.append(meter.read())
    assert len(set(said)) <= 2
    clock.run(BUSY_S, 0.4)
    assert meter.read() == pytest.approx(0.4)
