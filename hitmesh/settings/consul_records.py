"""What settings are in Consul's key space, as bytes and back. Pure.

Under the prefix, readable with `consul kv get`:

    settings/.last-change             the last change: its version, key, author and time
    settings/routes/*.example.com     a setting: value, version, author, time

Every change writes the last change under compare-and-set, so that versions rise over all keys and
over deletes. It is also why the tree is never empty once it was used: a blocking query on an
empty tree wakes with any write to the store (hashicorp/consul#9449), totals included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from hitmesh.errors import ConfigError
from hitmesh.settings import Setting, limits
from hitmesh.store.consul_txn import Entry, Operation, OperationError

Version = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class Record(Struct, frozen=True):
    """A setting's value in Consul; unknown fields are a newer release's, and left alone."""

    value: str
    version: Version
    author: str
    changed_at: float


class LastChange(Struct, frozen=True):
    """What was done last, and the counter of versions."""

    version: Version
    key: str
    author: str
    changed_at: float
    deleted: bool


class _Failed(Struct, frozen=True):
    Errors: list[OperationError]


class Tree:
    """The keys of one store, whose `prefix` is a path without slashes at its ends."""

    def __init__(self, prefix: str) -> None:
        self.root: Final = f"{prefix}/settings/"
        self.last_change: Final = f"{self.root}.last-change"  # no setting's key begins with a dot

    def key(self, key: str) -> str:
        """Where a setting is."""
        return self.root + key

    def settings(self, entries: Iterable[Entry], prefix: str) -> dict[str, Setting]:
        """The settings among these entries whose keys begin with `prefix`, in their order.

        Raises ValueError for one that can't be read: without it the others aren't all.
        """
        found = {}
        for entry in entries:
            key = entry.key.removeprefix(self.root)
            # A key that ends with a slash is a folder, as Consul's own pages make them.
            if entry.key == self.last_change or key.endswith("/") or not key.startswith(prefix):
                continue
            try:
                limits.check_key(key)
            except ConfigError as error:
                raise ValueError(str(error)) from error
            found[key] = setting(key, entry)
        return dict(sorted(found.items()))


def setting(key: str, entry: Entry) -> Setting:
    """The setting in an entry. Raises ValueError."""
    try:
        record = _record_decoder.decode(entry.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the key {entry.key} is not as we write settings: {error}") from error
    return Setting(key, record.value.encode(), record.version, record.author, record.changed_at)


def last_version(entry: Entry | None) -> int:
    """The version of the last change; 0 when there was none yet. Raises ValueError."""
    if entry is None:
        return 0
    try:
        return _last_change_decoder.decode(entry.value or b"").version
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the key {entry.key} is not as we write it: {error}") from error


def by_key(entries: Iterable[Entry]) -> Mapping[str, Entry]:
    """Entries by their whole keys; one that two reads of a transaction both have is there once."""
    return {entry.key: entry for entry in entries}


def change_body(tree: Tree, change: LastChange, found: Mapping[str, Entry], record: Record | None) -> bytes:
    """The transaction of a change, under the indexes of what was `found`; no record: a delete."""

    def index(key: str) -> int:
        return found[key].modify_index if key in found else 0  # 0: must not be there

    key = tree.key(change.key)
    if record is None:
        operation = Operation("delete-cas", key, index=index(key))
    else:
        operation = Operation("cas", key, _encode(record), index(key))
    last = Operation("cas", tree.last_change, _encode(change), index(tree.last_change))
    return _encode([{"KV": last}, {"KV": operation}])


def was_refused(body: str) -> bool:
    """Whether a 409 says for certain that an index had moved. Raises ValueError for no such answer at all."""
    try:
        errors: Sequence[OperationError] = _failed_decoder.decode(body).Errors
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from error
    # The same words for a set and for a delete, in 1.8.7.
    return bool(errors) and all(
        error.what.startswith(("failed to set key ", "failed to delete key "))
        and error.what.endswith(", index is stale")
        for error in errors
    )


def entries_of_get(body: bytes) -> list[Entry]:
    """What a GET with `recurse` answered. Raises ValueError."""
    try:
        return _entries_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


_encode = msgspec.json.Encoder().encode
_record_decoder = msgspec.json.Decoder(Record)
_last_change_decoder = msgspec.json.Decoder(LastChange)
_failed_decoder = msgspec.json.Decoder(_Failed)
_entries_decoder = msgspec.json.Decoder(list[Entry])
