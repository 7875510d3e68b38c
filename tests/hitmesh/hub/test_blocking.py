"""Calls that would stop the hub."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_nothing_but_the_guard_calls_into_the_thread_pool() -> None:
    sources = [path for package in ("hitmesh", "nexus", "balancer") for path in (ROOT / package).rglob("*.py")]
    assert [path.name for path in sources if "threadpool.apply" in path.read_text()] == []
    assert [path.name for path in sources if ".apply(guarded)" in path.read_text()] == ["blocking.py"]
