"""Whom `hitmesh trace` asks, and how often; who answers is said by the test."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from hitmesh.cli import folder, trace
from hitmesh.cli.trace import Place
from hitmesh.config import parse
from hitmesh.protocol.stations import Known, Station, Told

NODE = {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 2}
WORKER = "collector-1.0a0b0c0d0e0f"
PLACES = [
    Place("eu", "collector", "collector-1", "http://127.0.0.1:1", ""),
    Place("eu", "collector", "collector-2", "http://127.0.0.1:2", ""),
    Place("eu", "processor", "processor-1", "http://127.0.0.1:3", ""),
]


def test_who_is_silent_is_waited_for_once_and_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = Counter[str]()

    def ask(place: Place, _ids: object, _last: int) -> Told | str:
        asked[place.name] += 1
        if place.name == "collector-2":
            return "collector-2 of eu doesn't answer: nothing within 5 s"
        part = (7, 1)
        known = Known(name=f"{WORKER}:7:1", worker=WORKER, at_ms=1e12, parts=(part,), matches=(part,), hits=1)
        accepted = Station(at_ms=1e12, what="accepted", worker=WORKER, parts=(part,))
        found = ((known,), (accepted,)) if place.role == "collector" else ((), ())
        return Told(dc="eu", role=place.role, name=place.name, known=found[0], stations=found[1])

    monkeypatch.setattr(trace, "_ask", ask)
    monkeypatch.setattr(trace, "_places", lambda _: (PLACES, []))
    monkeypatch.setattr(folder, "datacenters", lambda _: [parse({"name": "eu", "nodes": {"a": NODE}}, source="x")])
    told = CliRunner().invoke(trace.trace, ["site/page", "--state-dir", str(tmp_path)])
    assert told.exit_code == 0, told.output
    assert f"batch {WORKER}:7:1" in told.output
    assert told.output.count("collector-2 of eu doesn't answer") == 1
    assert asked == {"collector-1": 2, "collector-2": 1, "processor-1": 2}
