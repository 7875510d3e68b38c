"""Holding the lock of a datacenter while something is done there, and remembering what became of it.

What the lock and the trail are is `hitmesh.deploy.memory`'s, how the lock is kept alive `lock`'s.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from hitmesh.cli.config import me
from hitmesh.deploy import hooks, lock, memory
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.lock import Held
from hitmesh.deploy.memory import DONE, ROLLED_BACK
from hitmesh.deploy.runner import Stopped
from hitmesh.errors import CommandError, HitmeshError
from hitmesh.settings.lock import Lock
from hitmesh.settings.trail import Entry


class Remembered(msgspec.Struct, frozen=True):
    """What a datacenter knows of deploys."""

    lock: Lock | None
    trail: list[Entry]
    now: float


def recall(desk: Desk) -> Remembered:
    """The lock and the trail. Raises CommandError."""
    return msgspec.convert(desk.memory("show"), Remembered)


def as_line(entry: Entry) -> str:
    """An entry of the trail, for people."""
    when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(entry.at))
    return f"{when}  {entry.who}: {entry.what} {entry.release} {entry.result}, {entry.seconds:.0f} s"


@contextmanager
def at_work(desk: Desk, what: str, release: str, *, force: bool) -> Iterator[Held]:
    """Hold the lock, and remember what became of it."""
    remembered = recall(desk)
    undone = memory.was_rolled_back(remembered.trail, release)
    if undone and what == "deploy" and not force:
        raise CommandError(
            f"{release} was rolled back: {undone.result.partition(': ')[2]}", hint="mend it, or force=1 tries it again"
        )
    began = time.monotonic()
    who = me()
    result = ""  # until anything is begun
    try:
        with lock.held(desk.memory, who, f"{what} {release}", desk.config.deploy.lock_s) as may_go_on:
            try:
                yield may_go_on
                result = DONE
            except BaseException as error:
                result = _result(error)
                raise
            finally:
                entry = Entry(
                    at=0.0, who=who, what=what, result=result, release=release, seconds=time.monotonic() - began
                )
                remember(desk, entry)
    finally:
        if result:
            name = "after" if result == DONE else "failed"
            program = getattr(desk.config.deploy.hooks, name)
            hooks.run(
                program,
                desk.path.parent,
                {"event": name, "dc": desk.fleet.dc, "release": release, "result": result},
                tell=desk.tell,
                must=False,
            )


def _result(error: BaseException) -> str:
    """What became of something that was ended by this."""
    match error:
        case Stopped(undone=True):
            return f"{ROLLED_BACK if error.is_bad else 'taken back'}: {error.message}"
        case Stopped():
            return f"stopped half-way: {error}"
        case HitmeshError():
            return f"failed: {error}"
        case KeyboardInterrupt():
            return "interrupted"
    return f"failed: {type(error).__name__}: {error}"


def remember(desk: Desk, entry: Entry) -> None:
    """Write into the trail what was done; that it couldn't be written is told, and stops nothing."""
    given = {key: value for key, value in msgspec.to_builtins(entry).items() if key != "at"}
    try:
        desk.memory("add", given)
    except HitmeshError as error:
        desk.tell(f"the trail couldn't be written: {error}")
