"""The lock of a datacenter while something is done to it: taken, kept alive, given back.

Owns the greenlet-free thread that renews it; what a lock means is `hitmesh.deploy.memory`'s.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

from hitmesh.errors import CommandError, HitmeshError

RENEWALS: Final = 4  # within the time after which it is free: three may fail


@contextlib.contextmanager
def held(ask: Callable[[str, object], Any], who: str, what: str, for_s: float) -> Iterator[Callable[[], None]]:
    """Hold the lock; what is yielded raises CommandError once it isn't ours any more. Raises CommandError.

    `ask` is a datacenter's memory of deploys: a command, and what it is given.
    """
    token = uuid.uuid4().hex
    given = {"token": token, "who": who, "what": what, "for_s": for_s}
    ask("take", given)
    taken = [time.monotonic()]
    done, why = threading.Event(), [""]

    def renew() -> None:
        while not done.wait(for_s / RENEWALS):
            began = time.monotonic()
            try:
                ask("take", given)
            except HitmeshError as error:
                why[0] = error.message
                if "is at work" in error.message:  # somebody has broken it, and taken it
                    taken[0] = -math.inf
            else:
                taken[0] = began

    def may_go_on() -> None:
        if time.monotonic() > taken[0] + for_s:
            raise CommandError(f"the lock isn't ours any more: {why[0]}")

    thread = threading.Thread(target=renew, name="deploy lock", daemon=True)
    thread.start()
    try:
        yield may_go_on
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(HitmeshError):  # it is free by itself after `for_s`
            ask("free", {"token": token, "who": who})
