"""The lock of a datacenter while something is done to it: taken, kept alive, given back.

Owns the greenlet-free thread that renews it; what a lock means is `hitmesh.deploy.memory`'s. A lock that somebody else
has broken or taken is lost for ever: it isn't taken anew, though it may be free.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from hitmesh.deploy.memory import TAKEN_OVER
from hitmesh.errors import CommandError, HitmeshError

RENEWALS: Final = 4  # within the time after which it is free: three may fail
FRESH_S: Final = 5.0  # that nobody is asked again: a question is a command on a host, half a second there

Ask = Callable[[str, object], Any]  # a datacenter's memory of deploys: a command, and what it is given


class Lost(CommandError):
    """Somebody else has taken over: whatever is changed or taken back now is in the way of that."""


class Held:
    """A lock that was taken. Called between two changes, it raises where it isn't ours any more."""

    def __init__(self, ask: Ask, given: Mapping[str, object], for_s: float, taken: float) -> None:
        self._ask, self._given, self._for_s = ask, {**given, "again": True}, for_s
        self._taken = self._asked = taken
        self._why = ""  # it couldn't be renewed
        self._lost = ""
        self._one_at_a_time = threading.Lock()

    def __call__(self) -> None:
        """Raise Lost when somebody else has taken over, CommandError when it couldn't be renewed until it was free."""
        if time.monotonic() > self._asked + FRESH_S:
            self.renew()
        self._check()
        if time.monotonic() > self._taken + self._for_s:
            raise CommandError(f"the lock isn't ours any more: {self._why}")

    def ask(self) -> None:
        """Ask now, and raise Lost when somebody else has taken over; that nobody answers is no reason."""
        self.renew()
        self._check()

    def renew(self) -> None:
        """Keep it for longer, if it is ours."""
        with self._one_at_a_time:
            if self._lost:
                return
            began = self._asked = time.monotonic()
            try:
                self._ask("take", self._given)
            except HitmeshError as error:
                self._why = error.message
                if TAKEN_OVER in error.message or "is at work" in error.message:  # the latter of older host programs
                    why = error.message.rpartition(f"{TAKEN_OVER}: ")[2]
                    self._lost = f"{TAKEN_OVER}: {why}"
            else:
                self._taken = began

    def _check(self) -> None:
        if self._lost:
            raise Lost(self._lost)


@contextlib.contextmanager
def held(ask: Ask, who: str, what: str, for_s: float) -> Iterator[Held]:
    """Hold the lock. Raises CommandError when somebody else does."""
    token = uuid.uuid4().hex
    given = {"token": token, "who": who, "what": what, "for_s": for_s}
    began = time.monotonic()
    ask("take", given)
    mine = Held(ask, given, for_s, began)
    done = threading.Event()

    def keep() -> None:
        while not done.wait(for_s / RENEWALS):
            mine.renew()

    thread = threading.Thread(target=keep, name="deploy lock", daemon=True)
    thread.start()
    try:
        yield mine
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(HitmeshError):  # it is free by itself after `for_s`
            ask("free", {"token": token, "who": who})
