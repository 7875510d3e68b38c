"""The lock of a datacenter while something is done to it: taken, kept alive, given back.

Owns the greenlet-free thread that renews it; what a lock means is `hitmesh.deploy.memory`'s.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Final

from hitmesh.deploy.remote import RemoteHost
from hitmesh.errors import CommandError, HitmeshError

RENEWALS: Final = 4  # within the time after which it is free: three may fail


@contextlib.contextmanager
def held(host: RemoteHost, who: str, what: str, for_s: float) -> Iterator[Callable[[], None]]:
    """Hold the lock; what is yielded raises CommandError once somebody has broken it. Raises CommandError."""
    token = uuid.uuid4().hex
    given = {"token": token, "who": who, "what": what, "for_s": for_s}
    host.memory("take", given)
    done, broken = threading.Event(), []

    def renew() -> None:
        while not done.wait(for_s / RENEWALS):
            try:
                host.memory("take", given)
            except CommandError as error:
                if "is at work" in error.message:  # not a host that is away, or a store
                    broken.append(error.message)
                    return

    def may_go_on() -> None:
        if broken:
            raise CommandError(f"the lock was broken: {broken[0]}")

    thread = threading.Thread(target=renew, name="deploy lock", daemon=True)
    thread.start()
    try:
        yield may_go_on
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(HitmeshError):  # it is free by itself after `for_s`
            host.memory("free", {"token": token, "who": who})
