"""The settings store in Consul's KV. Owns what an answer means for a read or a change; knows
nothing of connections, nor of what a setting means.

Reads and changes are transactions over the transport of the totals store: consistent, and from
one moment. Invariants:

- 200 with the body that it should have is the only answer with settings in it; 409 about an index
  the only one that refuses, and is tried again with what is there now. All else is unknown.
- A store in which there have been settings, and now there is nothing, not even the last change,
  was wiped, or its token may read nothing: unknown, and not "no settings".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, TypeVar

from hitmesh.errors import StoreUnknown
from hitmesh.settings import Edition, Setting, consul_records, limits, live_settings, merging
from hitmesh.settings.consul_query import WAIT_S, BlockingQuery
from hitmesh.settings.consul_records import LastChange, Tree
from hitmesh.settings.watch import E, Watch
from hitmesh.store import consul_host, consul_txn
from hitmesh.store.consul import Timeouts
from hitmesh.store.consul_access import excerpt
from hitmesh.store.consul_host import Host, NoAnswer
from hitmesh.store.consul_http import ConsulHosts
from hitmesh.store.consul_txn import Entry

T = TypeVar("T")

CHANGE_TRIES: Final = 20  # in a row, at each of which somebody else's change succeeded; people don't make that many

_WIPED: Final = "the last change was there, and is gone"
_WIPED_HINT: Final = "was the store wiped? Restore it, or make a change from a new process to go on with what is there"


@dataclass(frozen=True, slots=True)
class _Blocking(Generic[E]):
    """The source of a watch."""

    look: Callable[[], Mapping[str, E] | None]
    interrupt: Callable[[], None]
    close: Callable[[], None]


class ConsulSettings:
    """A SettingsStore below `prefix` in the KV store of the datacenter that `hosts` are in."""

    def __init__(
        self, hosts: Sequence[Host], prefix: str, *, timeouts: Timeouts | None = None, wait_s: float = WAIT_S
    ) -> None:
        self.endpoint = consul_host.url(hosts, prefix)
        self._consul = ConsulHosts(hosts)
        self._tree = Tree(prefix)
        self._timeouts = timeouts or Timeouts()
        self._wait_s = wait_s
        self._was_used = False  # whether the last change was ever there

    def get(self, key: str) -> Setting | None:
        limits.check_key(key)
        op = f"read {key}"
        found = self._read(op, self._tree.key(key), self._timeouts.read_s)
        return self._understood(op, lambda: self._setting(key, found))

    def list(self, prefix: str = "") -> Mapping[str, Setting]:
        limits.check_prefix(prefix)
        op = "list settings"
        found = self._read(op, self._tree.root + prefix, self._timeouts.scan_s)
        return live_settings(self._understood(op, lambda: self._tree.editions(found.values(), prefix)))

    def editions(self) -> Mapping[str, Edition]:
        op = "list settings"
        found = self._read(op, self._tree.root, self._timeouts.scan_s)
        return self._understood(op, lambda: self._tree.editions(found.values()))

    def set(self, key: str, value: bytes, *, author: str, expect_version: int | None = None) -> Setting:
        limits.check_key(key)
        limits.check_value(key, value)
        limits.check_author(author)
        change = self._change(key, value, author, expect_version)
        assert change is not None
        return Setting(key, value, change.version, author, change.changed_at)

    def delete(self, key: str, *, author: str, expect_version: int | None = None) -> bool:
        limits.check_key(key)
        limits.check_author(author)
        return self._change(key, None, author, expect_version) is not None

    def merge(self, editions: Iterable[Edition]) -> int:
        given = list(editions)
        for each in given:
            limits.check_edition(each)
        op, count, tries = "merge settings", 0, 0
        while tries < CHANGE_TRIES:
            found = self._read(op, self._tree.root, self._timeouts.scan_s)
            newer = merging.newer(given, self._understood(op, lambda found=found: self._tree.editions(found.values())))  # type: ignore[misc]
            if not newer:
                return count
            share = consul_records.share(newer)
            last = merging.highest(share)
            change = LastChange(last.version, last.key, last.author, last.changed_at, last.value is None)
            before = self._last_change(op, found)
            if before is not None and before.version >= change.version:
                change = before
            if self._write(op, consul_records.change_body(self._tree, change, found, share)):
                self._was_used = True
                count, tries = count + len(share), 0
            else:
                tries += 1
        raise self._unknown(f"others made a change at each of {CHANGE_TRIES} tries", op)

    def watch(self, prefix: str = "") -> Watch[Setting]:
        limits.check_prefix(prefix)
        return self._watch(lambda entries: live_settings(self._tree.editions(entries, prefix)))

    def watch_editions(self) -> Watch[Edition]:
        return self._watch(self._tree.editions)

    def check(self) -> None:
        self._read("read settings", self._tree.last_change, self._timeouts.read_s)

    def close(self) -> None:
        self._consul.close()

    def _change(self, key: str, value: bytes | None, author: str, expect_version: int | None) -> LastChange | None:
        """Set a value, or delete it (None); what was done, or None when there was nothing to delete."""
        op = f"set {key}" if value is not None else f"delete {key}"
        for _ in range(CHANGE_TRIES):
            found = self._read(op, self._tree.key(key), self._timeouts.read_s)
            if expect_version is not None:
                # Without that, one that can't be read may be overwritten: it is how it is repaired.
                now = self._understood(op, lambda found=found: self._setting(key, found))  # type: ignore[misc]
                limits.check_version(key, now, expect_version, self.endpoint)
            try:
                before = self._edition(key, found)
                if value is None and (before is None or before.value is None):
                    return None
            except ValueError:
                before = None  # it is about to be overwritten
            last = self._last_change(op, found)
            # The last change may have been lost by hand.
            version = 1 + max(last.version if last else 0, before.version if before else 0)
            change = LastChange(version, key, author, time.time(), value is None)
            edition = Edition(key, value, version, author, change.changed_at)
            if self._write(op, consul_records.change_body(self._tree, change, found, [edition])):
                self._was_used = True
                return change
        raise self._unknown(f"others made a change at each of {CHANGE_TRIES} tries", op)

    def _setting(self, key: str, found: Mapping[str, Entry]) -> Setting | None:
        edition = self._edition(key, found)
        return live_settings({key: edition}).get(key) if edition is not None else None

    def _edition(self, key: str, found: Mapping[str, Entry]) -> Edition | None:
        entry = found.get(self._tree.key(key))
        return consul_records.edition(key, entry) if entry is not None else None

    def _last_change(self, op: str, found: Mapping[str, Entry]) -> LastChange | None:
        try:
            return consul_records.last_change(found.get(self._tree.last_change))
        except ValueError as error:
            raise self._unknown(str(error), op, "remove it with `consul kv delete`") from error

    def _read(self, op: str, prefix: str, timeout_s: float) -> Mapping[str, Entry]:
        """What is at the keys that begin with `prefix`, and the last change, by key."""

        def understand(status: int, body: str) -> list[Entry]:
            if status != 200:
                raise NoAnswer(self._consul.refusal(status, body))
            try:
                return consul_txn.entries(body)
            except ValueError as error:
                raise NoAnswer(f"200, but {error}: {excerpt(body)}") from error

        request = consul_txn.read_body([self._tree.last_change, prefix])
        try:
            entries = self._consul.read(
                request, timeout_s, understand, lambda found: () if found else [self._tree.root]
            )
        except NoAnswer as failure:
            raise self._unknown(str(failure), op) from failure
        return self._present(entries, op)

    def _present(self, entries: Iterable[Entry], op: str) -> Mapping[str, Entry]:
        """Entries that are all there is, by key. Raises StoreUnknown where there must be more."""
        found = consul_records.by_key(entries)
        if self._tree.last_change in found:
            self._was_used = True
        elif self._was_used:
            raise self._unknown(_WIPED, op, _WIPED_HINT)
        return found

    def _watch(self, read: Callable[[Iterable[Entry]], Mapping[str, E]]) -> Watch[E]:
        query = BlockingQuery(self._consul.hosts, self._tree.root, self._wait_s)
        look = partial(self._look, query, read)
        return Watch(_Blocking(look, query.interrupt, query.close), self.endpoint)

    def _look(self, query: BlockingQuery, read: Callable[[Iterable[Entry]], Mapping[str, E]]) -> Mapping[str, E] | None:
        op = "watch settings"
        try:
            entries = query.ask()
        except NoAnswer as failure:
            raise self._unknown(str(failure), op) from failure
        if entries is None:
            return None
        try:
            found = self._present(entries, op)
            return self._understood(op, lambda: read(found.values()))
        except StoreUnknown:
            query.begin_anew()  # or it would be "nothing has changed" next time
            raise

    def _write(self, op: str, request: bytes) -> bool:
        """True: done. False: certainly not, an index had moved. Otherwise raises StoreUnknown."""

        def understand(status: int, body: str) -> bool:
            try:
                if status == 200 and any(e.key == self._tree.last_change for e in consul_txn.entries(body)):
                    return True
                if status == 409 and consul_records.was_refused(body):
                    return False
            except ValueError as error:
                raise NoAnswer(f"{error}: {self._consul.refusal(status, body)}") from error
            raise NoAnswer(self._consul.refusal(status, body))

        try:
            return self._consul.write(request, self._timeouts.write_s, understand)
        except NoAnswer as failure:
            hint = "read it before trying again: it may have been carried out"
            raise self._unknown(str(failure), op, hint) from failure

    def _understood(self, op: str, read: Callable[[], T]) -> T:
        try:
            return read()
        except ValueError as error:
            raise self._unknown(str(error), op, "set or delete it again") from error

    def _unknown(self, reason: str, op: str, hint: str = "") -> StoreUnknown:
        return StoreUnknown(reason, op=op, endpoint=self.endpoint, hint=hint)
