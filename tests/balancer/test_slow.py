"""Requests that take longer than `log.slow_ms` are said in the log, with their parts, and a storm of them isn't."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hitmesh.settings.sqlite import SqliteSettings
from tests.balancer.stage import Instance, ask, backends, proxy, sized, staged
from tests.balancer.wire.scripted import ScriptedBackend, Turn
from tests.services import wait_for

SLOW_MS = 100
TARGET = "/slow?q=a=b%1b'x"


def slowly(turn: Turn) -> None:
    time.sleep(3 * SLOW_MS / 1000)
    turn.say(sized(b"at last"))


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    with backends(1) as [one]:
        one.scripts[TARGET] = slowly
        yield one


@pytest.fixture(scope="module")
def balancer(backend: ScriptedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    folder = tmp_path_factory.mktemp("slow")
    log = {"slow_ms": 0, "format": "json"}
    with staged(folder, {"slow.example": proxy(backend.port)}, log=log, balancer={"trusted": ["127.0.0.1"]}) as one:
        yield one


def slow_lines(balancer: Instance) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in balancer.log().splitlines() if line.startswith("{")]
    return [each for each in found if each["message"].startswith("slow request")]


def test_from_when_on_it_is_slow_is_a_live_setting_and_a_slow_one_is_said_once_with_its_parts(
    balancer: Instance, backend: ScriptedBackend
) -> None:
    ask(balancer.port, "slow.example", TARGET, more=b"X-Request-Id: before\r\n")
    store = SqliteSettings(Path(balancer.folder) / "var" / "stage" / "settings.db")
    store.set("log.slow_ms", str(SLOW_MS).encode(), author="anna")
    wait_for(lambda: f"log.slow_ms = {SLOW_MS}" in balancer.log(), what="the setting in force")
    store.close()
    for number in range(3):
        ask(balancer.port, "slow.example", TARGET, more=b"X-Request-Id: mine-%d\r\n" % number)
    ask(balancer.port, "slow.example", "/quick")
    wait_for(lambda: slow_lines(balancer), what="the line")
    [line] = slow_lines(balancer)
    assert line["level"] == "warning" and (line["dc"], line["role"]) == ("stage", "balancer")
    assert (line["method"], line["host"], line["target"]) == ("GET", "slow.example", TARGET)
    assert (line["status"], line["client"], line["request_id"]) == (200, "127.0.0.1", "mine-0")
    assert line["backend"] == f"127.0.0.1:{backend.port}"
    assert line["ms"] >= line["backend_ms"] >= 2 * SLOW_MS
    parts = sum(line[f"{part}_ms"] for part in ("body", "waiting", "connect", "backend", "answer"))
    assert abs(parts - line["ms"]) <= 5  # each is rounded
