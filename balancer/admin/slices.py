"""Long work in a process that has traffic, done in slices: between two of them the hub serves everybody else.

A page of a thousand backends takes a quarter of a second in all. Whoever makes one gets a `pause` to call between
pieces of the work, and must not know what that does.
"""

from __future__ import annotations

import time
from typing import Final

import gevent

from balancer.measures.stats import Pause

SLICE_S: Final = 0.002  # a request through the balancer takes half a millisecond, so this is what it may wait more
REST_S: Final = 0.002  # so that at most half of the time is ours; with 0 the hub wouldn't look at its sockets


def sliced() -> Pause:
    """The pause of one piece of work, which begins now."""
    began = time.monotonic()

    def pause() -> None:
        nonlocal began
        if time.monotonic() - began >= SLICE_S:
            gevent.sleep(REST_S)
            began = time.monotonic()

    return pause
