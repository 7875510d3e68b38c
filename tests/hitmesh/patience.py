"""Waiting for a condition while gevent's hub runs in this process."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent

from tests.services import PATIENCE_S


def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait until it is true; an AssertionError with `what` when it wasn't in time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        gevent.sleep(0.01)
