"""What settings are in Consul's key space, as bytes and back. Pure.

Under the prefix, readable with `consul kv get`:

    settings/.last-change             the last change: its version, key, author and time
    settings/routes/*.example.com     a setting: value, version, author, time; null as value: deleted

Every change writes the last change under compare-and-set, so that versions rise over all keys and
over deletes. It is also why the tree is never empty once it was used: a blocking query on an
empty tree wakes with any write to the store (hashicorp/consul#9449), totals included.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from hitmesh.errors import ConfigError
from hitmesh.settings import Edition, limits
from hitmesh.store.consul_txn import MAX_OPERATIONS, MAX_SHARED_BYTES, Entry, Operation, OperationError

OPERATION_BYTES: Final = 300  # of an operation beside key and value: its JSON and the prefix of its key
CHANGE_BYTES: Final = 4096  # of the last change, in its operation

Version = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class Record(Struct, frozen=True):
    """The last edition of a key, in Consul; unknown fields are a newer release's, and left alone."""

    value: str | None  # None: it was deleted
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

    def editions(self, entries: Iterable[Entry], prefix: str = "") -> dict[str, Edition]:
        """The editions among these entries whose keys begin with `prefix`, in their order.

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
            found[key] = edition(key, entry)
        return dict(sorted(found.items()))


def edition(key: str, entry: Entry) -> Edition:
    """The edition in an entry. Raises ValueError."""
    try:
        record = _record_decoder.decode(entry.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the key {entry.key} is not as we write settings: {error}") from error
    value = None if record.value is None else record.value.encode()
    return Edition(key, value, record.version, record.author, record.changed_at)


def last_change(entry: Entry | None) -> LastChange | None:
    """The last change; None when there was none yet. Raises ValueError."""
    if entry is None:
        return None
    try:
        return _last_change_decoder.decode(entry.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the key {entry.key} is not as we write it: {error}") from error


def by_key(entries: Iterable[Entry]) -> Mapping[str, Entry]:
    """Entries by their whole keys; one that two reads of a transaction both have is there once."""
    return {entry.key: entry for entry in entries}


def change_body(tree: Tree, change: LastChange, found: Mapping[str, Entry], editions: Iterable[Edition]) -> bytes:
    """The transaction that writes these editions, under the indexes of what was `found`."""

    def cas(key: str, value: Record | LastChange) -> dict[str, Operation]:
        index = found[key].modify_index if key in found else 0  # 0: must not be there
        return {"KV": Operation("cas", key, _encode(value), index)}

    return _encode([cas(tree.last_change, change), *(cas(tree.key(each.key), _record(each)) for each in editions)])


def share(editions: Iterable[Edition]) -> list[Edition]:
    """As many of them, from the first one on, as one transaction has room for."""
    taken: list[Edition] = []
    size_bytes = CHANGE_BYTES
    for each in editions:
        size_bytes += len(base64.b64encode(_encode(_record(each)))) + len(each.key) + OPERATION_BYTES
        if taken and (len(taken) + 1 >= MAX_OPERATIONS or size_bytes > MAX_SHARED_BYTES):
            break
        taken.append(each)
    return taken


def _record(edition: Edition) -> Record:
    value = None if edition.value is None else edition.value.decode()
    return Record(value, edition.version, edition.author, edition.changed_at)


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
