"""Consul transactions as bytes: which operations a write is, how writes are packed, what an
answer says. Pure; source: https://developer.hashicorp.com/consul/api-docs/txn and experiments
with 1.8.7.

A transaction is atomic, so that several writes can share one: when it is refused, nothing of it
has happened, and its errors name the operations (all of them) that were the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from hitmesh.store import Done, Outcome, Refused, Write
from hitmesh.store.consul_keys import Keys, count_value

T = TypeVar("T")

MAX_OPERATIONS = 64  # of 1.8.7 (128 from 1.14); one more is answered with 413
MAX_BODY_BYTES = 512 * 1024  # of a request, base64 included; one byte more is answered with 413
# Writes share a transaction up to here, some 350 KiB before base64; a single larger one goes alone.
MAX_SHARED_BYTES = 480 * 1024


class Operation(Struct, frozen=True, rename="pascal", omit_defaults=True):
    """One operation on a key. Values are bytes here and base64 in the JSON."""

    verb: str
    key: str
    value: bytes | None = None
    index: int | None = None
    flags: int = 0


class Entry(Struct, frozen=True, rename="pascal"):
    """A key as an answer has it."""

    key: str
    flags: int
    value: bytes | None
    modify_index: int


class OperationError(Struct, frozen=True, rename="pascal"):
    """Why an operation failed; the first one of the transaction has number 0."""

    op_index: int
    what: str


class _Envelope(Struct, frozen=True):
    KV: Operation


class _Result(Struct, frozen=True):
    KV: Entry


class _Done(Struct, frozen=True):
    Results: list[_Result]


class _Failed(Struct, frozen=True):
    Errors: list[OperationError]


class Packed(Struct, frozen=True):
    """A write as the operations it is; the first one is about the head."""

    number: int  # the write's place in its call
    head_key: str
    operations: int
    body: bytes  # JSON, without the array's brackets


_encode = msgspec.json.Encoder().encode
_done_decoder = msgspec.json.Decoder(_Done)
_failed_decoder = msgspec.json.Decoder(_Failed)


def pack(number: int, write: Write, keys: Keys) -> Packed:
    """The operations of one write."""
    head_key = keys.head(write.partition)
    if write.head is None:
        operations = [Operation("check-index", head_key, index=write.index)]
    else:
        # Writing the same bytes and flags again wouldn't move the index, and a fence that doesn't
        # move is none. The index that is replaced, in the flags, makes every head another one.
        operations = [Operation("cas", head_key, write.head, write.index, write.index)]
    for row in write.rows:
        key = keys.row(write.partition, row.page, row.dc)
        operations.append(Operation("set", key, count_value(row.count), flags=row.commit))
    return Packed(number, head_key, len(operations), _join(operations))


def group(packed: Iterable[Packed]) -> list[list[Packed]]:
    """The writes in as few transactions as their order allows."""
    groups: list[list[Packed]] = []
    operations = size_bytes = 0
    for each in packed:
        operations += each.operations
        size_bytes += len(each.body) + 1
        if not groups or operations > MAX_OPERATIONS or size_bytes > MAX_SHARED_BYTES:
            groups.append([])
            operations, size_bytes = each.operations, len(each.body) + 1
        groups[-1].append(each)
    return groups


def write_body(packed: Sequence[Packed]) -> bytes:
    """The request that carries out these writes together."""
    return b"[" + b",".join(each.body for each in packed) + b"]"


def read_body(prefixes: Iterable[str]) -> bytes:
    """The request that reads all keys that begin with any of `prefixes`, from one moment.

    get-tree, because a `get` of an absent key fails the whole transaction.
    """
    return b"[" + _join([Operation("get-tree", prefix) for prefix in prefixes]) + b"]"


def _join(operations: Sequence[Operation]) -> bytes:
    return b",".join(_encode(_Envelope(operation)) for operation in operations)


def entries(body: str) -> list[Entry]:
    """What a transaction that was answered with 200 returned. Raises ValueError."""
    return [result.KV for result in _decode(_done_decoder, body).Results]


def _decode(decoder: msgspec.json.Decoder[T], body: str) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:  # the second: a body of nothing but brackets
        raise ValueError(str(error)) from error


def done(packed: Sequence[Packed], body: str) -> dict[int, Outcome]:
    """The writes of a transaction that was answered with 200. Raises ValueError when a head isn't in the answer."""
    index_of = {entry.key: entry.modify_index for entry in entries(body)}
    missing = [each.head_key for each in packed if index_of.get(each.head_key, 0) <= 0]
    if missing:
        raise ValueError(f"no index of {missing[0]}")
    return {each.number: Done(index_of[each.head_key]) for each in packed}


def refused(packed: Sequence[Packed], body: str) -> dict[int, Outcome]:
    """The writes that a transaction was answered with 409 for, at least one; the others didn't happen either.

    Raises ValueError for an error of another kind, such as a missing permission: it says nothing
    of the index.
    """
    at_operation: dict[int, Packed] = {}
    first = 0
    for each in packed:
        at_operation[first] = each
        first += each.operations
    found: dict[int, Outcome] = {}
    for error in _decode(_failed_decoder, body).Errors:
        write = at_operation.get(error.op_index)
        if write is None or not _is_about_the_index(error.what):
            raise ValueError(f"operation {error.op_index} failed otherwise")
        found[write.number] = Refused()
    if not found:
        raise ValueError("no error in it")
    return found


def _is_about_the_index(what: str) -> bool:
    # The three that 1.8.7 has: a failed cas, a failed check-index, a check-index of an absent key.
    return (
        (what.startswith("failed to set key ") and what.endswith(", index is stale"))
        or what.startswith("failed index check for key ")
        or (what.startswith("failed to check index, key ") and what.endswith(" doesn't exist"))
    )
