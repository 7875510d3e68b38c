"""Blocks as bytes: what is packed is unpacked, and what is none is refused in words."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.errors import DecodeError
from hitmesh.protocol.messages import Gap
from hitmesh.recorder.blocks import HEAD, MAX_RAW_BYTES, head_of, message_of, pack, unpack
from tests.hitmesh.recorder.samples import gap, line, records


def block(*messages: object) -> bytes:
    return pack([message_of(one) for one in messages])  # type: ignore[arg-type]


def test_what_is_packed_is_unpacked() -> None:
    messages = [records(line("a", 5), line("b", 9)), gap(3, 7), records(line("c", 4), first=3)]
    data = block(*messages[:2]) + block(messages[2])
    assert list(unpack(data, "recorder-1")) == messages
    head = head_of(data)
    assert head is not None
    assert (head.first_ms, head.last_ms) == (3, 9)


def test_a_block_is_as_the_protocol_says() -> None:
    message = records(line("a", 5))
    data, _, _ = message_of(message)
    raw = len(data).to_bytes(4, "big") + data
    packed = zlib.compress(raw, 6)
    head = b"hmb1" + struct.pack(">IIQQ", len(packed), len(raw), 5, 5)
    assert block(message) == head + packed


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_block_whose_end_is_missing_is_none_and_those_before_it_stand(cut: int) -> None:
    whole = block(records(line("a")))
    data = whole + block(records(line("b"), first=2))
    found = unpack(data[:-cut], "recorder-1")
    assert next(found) == records(line("a"))
    with pytest.raises(DecodeError):
        next(found)


@given(st.binary(max_size=200))
def test_whatever_it_is_given_it_raises_one_error(data: bytes) -> None:
    for start in (b"", block(records(line("a")))[: HEAD.size]):
        with contextlib.suppress(DecodeError):
            list(unpack(start + data, "recorder-1"))


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_byte_that_was_changed_is_noticed(at: int, by: int) -> None:
    data = bytearray(block(records(line("some text that is long enough"))))
    at = at % (len(data) - HEAD.size) + HEAD.size
    data[at] ^= by
    [found] = unpack(bytes(data), "recorder-1")
    assert isinstance(found, Gap)
    assert (found.recorder, found.since_ms, found.entries) == ("recorder-1", 1000, 0)


def test_a_bomb_is_unpacked_no_further_than_its_head_says() -> None:
    packed = zlib.compress(bytes(50 * MAX_RAW_BYTES))
    for raw in (10, MAX_RAW_BYTES):
        bomb = HEAD.pack(b"hmb1", len(packed), raw, 0, 0) + packed
        tracemalloc.start()
        found = list(unpack(bomb + block(records(line("a"))), "recorder-1"))
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_RAW_BYTES
        tracemalloc.stop()
        assert "as long as it says" in getattr(found[0], "why", "")
        assert found[1:] == [records(line("a"))], "what is behind it"
    assert head_of(HEAD.pack(b"hmb1", len(packed), MAX_RAW_BYTES + 1, 0, 0)) is None
