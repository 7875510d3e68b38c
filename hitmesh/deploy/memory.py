"""What is remembered of deploys, in the settings store of the datacenter: who is at work, and who did what.

    deploys/DC/lock    one at a time: who, why, since when, until when
    deploys/DC/trail   the last of what was deployed, scaled, restored, by whom, with which result

Run on a host (`python -m hitmesh.deploy.memory DC COMMAND`, JSON in and out), since the store is within its reach.
A lock that its holder doesn't renew is free after `until`; times are this host's clock's. Both keys travel to the
other datacenters like every setting, so that each can say what happened in any.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from hitmesh.config.live import DEPLOYS
from hitmesh.errors import CommandError, HitmeshError, SettingConflict
from hitmesh.settings import Setting, SettingsStore
from hitmesh.settings.lock import Lock, held, key_of
from hitmesh.settings.trail import Entry

Decoded = TypeVar("Decoded")

MAX_TRAIL: Final = 100  # entries; with their words below a setting's 64 KiB
MAX_WORDS: Final = 200  # characters of a result or a reason
TRIES: Final = 20  # somebody else writes the trail at the same moment

ROLLED_BACK: Final = "rolled back"  # since the release did badly
DONE: Final = "done"
TAKEN_OVER: Final = "somebody else has taken over"  # since the lock was taken


def with_entry(trail: Sequence[Entry], entry: Entry) -> list[Entry]:
    """The trail with one more, without what is too long ago."""
    short = msgspec.structs.replace(entry, what=entry.what[:MAX_WORDS], result=entry.result[:MAX_WORDS])
    return [*trail, short][-MAX_TRAIL:]


def was_rolled_back(trail: Sequence[Entry], release: str) -> Entry | None:
    """When the last deploy of this release was undone by itself: that one."""
    tried = [entry for entry in trail if entry.what == "deploy" and entry.release == release]
    return tried[-1] if tried and tried[-1].result.startswith(ROLLED_BACK) else None


def before(trail: Sequence[Entry], release: str) -> str:
    """The release that a rollback from `release` goes back to: the last other one that was deployed whole; or none."""
    return next(
        (each.release for each in reversed(trail) if each.result == DONE and each.release not in ("", release)), ""
    )


class Memory:
    """The lock and the trail of a datacenter."""

    def __init__(self, store: SettingsStore, dc: str) -> None:
        self._store, self._lock, self._trail = store, key_of(dc), f"{DEPLOYS}{dc}/trail"

    def lock(self) -> Lock | None:
        """Who holds it, though its time may be over. Raises StoreUnknown."""
        found = self._store.get(self._lock)
        return _decoded(found, Lock) if found else None

    def take(self, token: str, who: str, what: str, for_s: float, now: float, *, again: bool = False) -> Lock:
        """Take the lock, or keep it for longer; with `again` only if it is `token`'s still.

        Raises CommandError when somebody else holds it, or has broken it since; StoreUnknown.
        """
        found = self._store.get(self._lock)
        known = _decoded(found, Lock) if found else None
        if again and (known is None or known.token != token):
            raise CommandError(f"{TAKEN_OVER}: {held(known, token, now) or 'the lock was broken'}")
        if reason := held(known, token, now):
            raise CommandError(reason, hint="wait, or `fab unlock` breaks it")
        since = known.since if known and known.token == token else now
        lock = Lock(token=token, who=who, what=what, since=since, until=now + for_s)
        try:
            self._store.set(
                self._lock, msgspec.json.encode(lock), author=who, expect_version=found.version if found else 0
            )
        except SettingConflict as error:
            raise CommandError("somebody else began at the same moment", hint="try again") from error
        return lock

    def free(self, token: str, who: str) -> Lock | None:
        """Give the lock back; an empty token breaks anybody's. Whose it was. Raises StoreUnknown."""
        found = self._store.get(self._lock)
        lock = _decoded(found, Lock) if found else None
        if found is None or lock is None or token not in ("", lock.token):
            return None
        self._store.delete(self._lock, author=who, expect_version=found.version)
        return lock

    def trail(self) -> list[Entry]:
        """What was done, the oldest first. Raises StoreUnknown."""
        found = self._store.get(self._trail)
        return _decoded(found, list[Entry]) if found else []

    def add(self, entry: Entry) -> None:
        """Remember what was done. Raises StoreUnknown."""
        for _ in range(TRIES):
            found = self._store.get(self._trail)
            known = _decoded(found, list[Entry]) if found else []
            text = msgspec.json.encode(with_entry(known, entry))
            try:
                self._store.set(self._trail, text, author=entry.who, expect_version=found.version if found else 0)
            except SettingConflict:
                continue
            return
        raise CommandError("the trail is changed all the time by others")


def _decoded(found: Setting, type_: type[Decoded]) -> Decoded:
    try:
        return msgspec.json.decode(found.value, type=type_)
    except msgspec.MsgspecError as error:
        raise CommandError(f"{found.key} can't be read: {error}", hint="`fab unlock` writes a lock anew") from error


def answer(memory: Memory, command: str, given: Mapping[str, Any], now: float) -> Any:
    """What a command of this module's answers. Raises HitmeshError."""
    if command == "show":
        return {"lock": memory.lock(), "trail": memory.trail(), "now": now}
    if command == "take":
        return memory.take(
            given["token"], given["who"], given["what"], given["for_s"], now, again=given.get("again", False)
        )
    if command == "free":
        return memory.free(given["token"], given["who"])
    if command == "add":
        return memory.add(msgspec.convert({"at": now, **given}, Entry))
    raise CommandError(f"no command {command}", hint="show, take, free, add")


def main() -> int:
    """`python -m hitmesh.deploy.memory CONFIG STATE_DIR COMMAND`, with JSON on standard input."""
    from pathlib import Path

    from hitmesh import config as settings
    from hitmesh.settings.open import open_settings

    config_path, state_dir, command = sys.argv[1:4]
    try:
        config = settings.load(Path(config_path))
        store = open_settings(config.stores.settings, Path(state_dir) / config.name)
        try:
            given = msgspec.json.decode(sys.stdin.buffer.read() or b"{}")
            done = answer(Memory(store, config.name), command, given, time.time())
        finally:
            store.close()
    except HitmeshError as error:
        print(msgspec.json.encode({"error": error.message, "hint": error.hint}).decode(), file=sys.stderr)
        return 1
    print(msgspec.json.encode(done).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
