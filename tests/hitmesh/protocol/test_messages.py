"""Messages, jobs and heads as bytes: golden tables, bounds, and whatever anybody may send."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hitmesh.errors import DecodeError
from hitmesh.protocol import messages
from hitmesh.protocol.messages import (
    MAX_CHUNK_ROWS,
    MAX_DCS,
    MAX_ENDPOINTS,
    MAX_ENTRIES,
    MAX_ENTRY_CHARS,
    MAX_FIELD_CHARS,
    MAX_FIELD_TEXT_CHARS,
    MAX_FIELDS,
    MAX_FORMATS,
    MAX_FRAME_BYTES,
    MAX_HEAD_LANES,
    MAX_INSTANCES,
    MAX_LANE_RANGES,
    MAX_LOADS,
    MAX_NEWS_BYTES,
    MAX_PACKED_BLOCKS,
    MAX_PART_PAGES,
    MAX_PARTITIONS,
    MAX_PARTS,
    MAX_RECORD_ENTRIES,
    MAX_REDO_ROWS,
    MAX_SETTINGS,
    MAX_TOTAL,
    MESSAGES,
    VERSION,
    Ack,
    Addressed,
    Applied,
    Batch,
    Change,
    Chunk,
    Close,
    Control,
    EarlierHead,
    EarlierRedoRow,
    Entry,
    Have,
    Head,
    Heartbeat,
    Instance,
    Job,
    LaneEnd,
    LaneState,
    Leave,
    Message,
    Neighbours,
    News,
    Origin,
    OriginRow,
    Part,
    Position,
    Recorded,
    Records,
    Redirect,
    RedoRow,
    Release,
    Rows,
    Seen,
    SettingRecord,
    Settings,
    Wanted,
    decode,
    decode_head,
    encode,
    make,
)
from hitmesh.protocol.pages import MAX_PAGE_BYTES
from hitmesh.store.consul import MAX_HEAD_BYTES
from tests.examples import examples
from tests.hitmesh.protocol.golden import ADDRESS, GOLDEN, LONELY, REFUSED, Golden, Refused
from tests.hitmesh.protocol.strategies import any_message, any_of

by_name = pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case.name)
some_bytes = st.sampled_from([bytes.fromhex(case.hex) for case in GOLDEN])
sound_bytes = st.one_of(some_bytes, any_message().map(encode))


def decoded_or_none(data: bytes) -> Message | None:
    """What `data` decodes to as any kind of message; any error but DecodeError is the test's."""
    try:
        return decode(data, *MESSAGES)
    except DecodeError:
        return None


# --- golden bytes -------------------------------------------------------------------------


@by_name
def test_a_message_encodes_to_its_golden_bytes(case: Golden) -> None:
    assert encode(case.message).hex() == case.hex.replace(" ", "")


@by_name
def test_golden_bytes_decode_to_their_message(case: Golden) -> None:
    assert decode(bytes.fromhex(case.hex), type(case.message)) == case.message


def test_every_kind_has_golden_bytes() -> None:
    assert {type(case.message) for case in GOLDEN} == set(MESSAGES)


def test_every_kind_has_a_number_of_its_own() -> None:
    assert len({kind.KIND for kind in MESSAGES}) == len(MESSAGES)


def test_every_kind_of_message_is_listed() -> None:
    assert set(Message.__subclasses__()) == set(MESSAGES)


# --- what must be refused -----------------------------------------------------------------


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_it_is_refused(case: Refused) -> None:
    with pytest.raises(DecodeError):
        decode(bytes.fromhex(case.hex), case.kind)


@by_name
def test_no_beginning_of_a_message_is_one(case: Golden) -> None:
    data = bytes.fromhex(case.hex)
    assert [size for size in range(len(data)) if decoded_or_none(data[:size])] == []


@by_name
def test_a_message_with_a_byte_behind_it_is_refused(case: Golden) -> None:
    assert decoded_or_none(bytes.fromhex(case.hex) + b"\x00") is None


@by_name
def test_a_message_is_refused_where_another_kind_is_expected(case: Golden) -> None:
    others = [kind for kind in MESSAGES if kind is not type(case.message)]
    with pytest.raises(DecodeError, match="not a"):
        decode(bytes.fromhex(case.hex), *others)


def test_an_error_names_the_kinds_that_were_expected() -> None:
    with pytest.raises(DecodeError, match=rf"not a Ack or Redirect message of version {VERSION}"):
        decode(b"\x90", Ack, Redirect)


def test_an_error_says_where_in_the_message_it_is() -> None:
    data = encode(make(Job, "w", 0, (Part(0, 1, 1, {"a": 0}),)))
    with pytest.raises(DecodeError, match=r"decode Job: .*\$\[4\]\[0\]\[3\]"):
        decode(data, Job)


@pytest.mark.parametrize("case", [case for case in REFUSED if len(case.hex) < 200], ids=lambda case: case.name)
def test_refusing_a_few_bytes_takes_no_memory(case: Refused) -> None:
    data = bytes.fromhex(case.hex)
    decoded_or_none(data)  # the first time, Python itself keeps things for later
    tracemalloc.start()
    try:
        decoded_or_none(data)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 20_000


def test_of_duplicate_keys_the_last_one_counts() -> None:
    # No encoder of ours writes them, and msgpack's decoders don't tell: it must only be one of them.
    data = bytes.fromhex("94 01 03 a27031 82 00 04 00 05")
    assert decode(data, Redirect).epochs == {0: 5}


# --- bounds -------------------------------------------------------------------------------


def one_part(counts: dict[str, int]) -> Message:
    return make(Job, "w", 0, (Part(0, 1, 1, counts),))


def instance(endpoints: int = 0, loads: int = 0, owns: int = 0) -> Instance:
    names = [str(number) for number in range(max(endpoints, loads))]
    return Instance(
        "d", "r", "n", "i", "up", 0, 0,
        dict.fromkeys(names[:endpoints], ADDRESS), dict.fromkeys(names[:loads], 0.5), dict.fromkeys(range(owns), 1),
    )  # fmt: skip


def holes(number: int) -> tuple[tuple[int, int], ...]:
    return tuple((3 + 2 * index, 3 + 2 * index) for index in range(number))


HERE = Position("l", 1, 1)


def some_lanes(number: int) -> dict[str, LaneState]:
    return {str(index): LaneState(0, (), 0, 0) for index in range(number)}


def some_dcs(number: int) -> dict[str, Position]:
    return {str(index): HERE for index in range(number)}


def neighbours(dcs: int = 0, endpoints: int = 0, instances: int = 0) -> Message:
    nexuses = {str(index): (ADDRESS,) * endpoints for index in range(dcs)}
    return make(Neighbours, "d", "n", 0, 0, 32, "-", nexuses, (Seen(LONELY, 0, 0, True),) * instances)


def one_chunk(lanes: dict[str, LaneState], rows: int = 0, known: int = 0) -> Message:
    state = Origin(HERE, 0, lanes, 0)
    chunk = Chunk(0, "o", 0, 0, 0, True, state, (OriginRow("a", 1, 1),) * rows, some_dcs(known))
    return make(Rows, "d", "p", (chunk,))


def origins(number: int) -> Message:
    return make(Head, "l", 1, "p", 0, 0, {}, (), dict.fromkeys(some_dcs(number), Origin(HERE, 0, {}, 0)), False, 0)


def one_setting(key: str = "k", value: str = "", author: str = "") -> Message:
    return make(Settings, 0, False, (SettingRecord(key, value, 1, author, 0.0),))


def records(*entries: Entry) -> Message:
    return make(Records, "d", "r", "n", "i", 1, 0, entries)


BOUNDS: list[tuple[str, int, Callable[[int], Message]]] = [
    ("characters of a page", MAX_PAGE_BYTES, lambda n: one_part({"a" * n: 1})),
    ("characters of a name", 128, lambda n: make(Leave, "a" * n)),
    ("characters of a name", 128, lambda n: make(Leave, "a" * n)),
    ("characters of a text", 1_024, lambda n: make(Control, 0, "v", "a" * n)),
    ("pages of a part", MAX_PART_PAGES, lambda n: one_part({str(i): 1 for i in range(n)})),
    ("parts of a job", MAX_PARTS, lambda n: make(Job, "w", 0, (Part(0, 1, 1, {}),) * n)),
    ("parts of a batch", MAX_PARTS, lambda n: make(Batch, "w", ADDRESS, (Addressed(0, Part(0, 1, 1, {})),) * n)),
    ("lanes of an ack", MAX_PARTS, lambda n: make(Ack, "w", (Applied(0, 0, 0, 0, (), {}),) * n)),
    ("ranges of an ack", MAX_LANE_RANGES, lambda n: make(Ack, "w", (Applied(0, 0, 0, 1, holes(n), {}),))),
    ("partitions of a redirect", MAX_PARTITIONS, lambda n: make(Redirect, "p", dict.fromkeys(range(n), 1))),
    ("lanes of a close", MAX_PARTITIONS, lambda n: make(Close, "w", (LaneEnd(0, 0, 0),) * n)),
    ("endpoints of an instance", MAX_ENDPOINTS, lambda n: make(Heartbeat, 0, 0, instance(endpoints=n))),
    ("loads of an instance", MAX_LOADS, lambda n: make(Heartbeat, 0, 0, instance(loads=n))),
    (
        "formats of a release",
        MAX_FORMATS,
        lambda n: make(Heartbeat, 0, 0, replace(LONELY, release=Release("1", {str(i): 1 for i in range(n)}))),
    ),
    ("partitions of an instance", MAX_PARTITIONS, lambda n: make(Heartbeat, 0, 0, instance(owns=n))),
    ("instances of a change", MAX_INSTANCES, lambda n: make(Change, "n", 0, True, (Seen(LONELY, 0, 0, True),) * n, ())),
    ("forgotten ones of a change", MAX_INSTANCES, lambda n: make(Change, "n", 0, True, (), ("i",) * n)),
    (
        "lanes of a head",
        MAX_HEAD_LANES,
        lambda n: make(Head, "l", 1, "p", 0, 0, some_lanes(n), (), {}, False, 0),
    ),
    (
        "ranges of a lane in a head",
        MAX_LANE_RANGES,
        lambda n: make(Head, "l", 1, "p", 0, 0, {"w": LaneState(1, holes(n), 0, 0)}, (), {}, False, 0),
    ),
    (
        "redo rows of a head",
        MAX_REDO_ROWS,
        lambda n: make(Head, "l", 1, "p", 0, 0, {}, (RedoRow("a", "d", 0, 0),) * n, {}, False, 0),
    ),
    ("origins of a head", MAX_DCS, origins),
    ("lanes of an earlier head", MAX_HEAD_LANES, lambda n: make(EarlierHead, "l", 1, "p", 0, 0, some_lanes(n), ())),
    (
        "redo rows of an earlier head",
        MAX_REDO_ROWS,
        lambda n: make(EarlierHead, "l", 1, "p", 0, 0, {}, (EarlierRedoRow("a", "d", 0),) * n),
    ),
    ("datacenters of neighbours", MAX_DCS, lambda n: neighbours(dcs=n)),
    ("endpoints of a datacenter", MAX_ENDPOINTS, lambda n: neighbours(dcs=1, endpoints=n)),
    ("instances of neighbours", MAX_INSTANCES, lambda n: neighbours(instances=n)),
    ("entries of a question", MAX_ENTRIES, lambda n: make(Have, "d", "p", ADDRESS, (Wanted(0, "o", 0, None),) * n)),
    (
        "chunks of an answer",
        MAX_ENTRIES,
        lambda n: make(Rows, "d", "p", (Chunk(0, "o", 0, 0, 0, True, None, (), {}),) * n),
    ),
    ("rows of a chunk", MAX_CHUNK_ROWS, lambda n: one_chunk({}, rows=n)),
    ("lanes of a chunk", MAX_HEAD_LANES, lambda n: one_chunk(some_lanes(n))),
    ("ranges of a lane in a chunk", MAX_LANE_RANGES, lambda n: one_chunk({"w": LaneState(1, holes(n), 0, 0)})),
    ("datacenters that a chunk knows", MAX_DCS, lambda n: one_chunk({}, known=n)),
    (
        "settings of an answer",
        MAX_SETTINGS,
        lambda n: make(Settings, 0, False, (SettingRecord("k", None, 1, "", 0.0),) * n),
    ),
    ("bytes of news", MAX_NEWS_BYTES, lambda n: make(News, "d", "b", 0, 1, bytes(n))),
    ("entries of records", MAX_RECORD_ENTRIES, lambda n: records(*(Entry(0, 0, "l", "", {}),) * n)),
    ("fields of an entry", MAX_FIELDS, lambda n: records(Entry(0, 0, "l", "", {f"f{i}": i for i in range(n)}))),
    ("characters of an entry", MAX_ENTRY_CHARS, lambda n: records(Entry(0, 0, "l", "a" * n, {}))),
    ("characters of a logger", MAX_FIELD_CHARS, lambda n: records(Entry(0, 0, "l" * n, "", {}))),
    ("characters of a field's name", MAX_FIELD_CHARS, lambda n: records(Entry(0, 0, "l", "", {"f" * n: True}))),
    ("characters of a field", MAX_FIELD_TEXT_CHARS, lambda n: records(Entry(0, 0, "l", "", {"f": "a" * n}))),
    ("bytes of blocks", MAX_PACKED_BLOCKS, lambda n: make(Recorded, 0, "r", 0, 0, False, bytes(n))),
    ("characters of a setting's key", 512, lambda n: one_setting(key="a" * n)),
    ("characters of a setting's value", 65_536, lambda n: one_setting(value="a" * n)),
    ("characters of a setting's author", 512, lambda n: one_setting(author="a" * n)),
]
bounded = pytest.mark.parametrize(("limit", "build"), [bound[1:] for bound in BOUNDS], ids=[b[0] for b in BOUNDS])


@bounded
def test_as_many_as_the_limit_pass(limit: int, build: Callable[[int], Message]) -> None:
    message = build(limit)
    assert decode(encode(message), type(message)) == message


@bounded
def test_one_more_than_the_limit_is_refused(limit: int, build: Callable[[int], Message]) -> None:
    message = build(limit + 1)
    with pytest.raises(DecodeError):
        decode(encode(message), type(message))


def test_a_full_batch_request_fits_into_a_frame() -> None:
    # 1 MiB of the shortest pages that can be told apart, as msgpack; each in a part of its own at worst
    parts = tuple(Addressed(2**40, Part(n % MAX_PARTITIONS, 2**40, 1, {f"site/{n:05}": 2**40})) for n in range(10_000))
    assert len(encode(make(Batch, "w" * 128, "e" * 256, parts))) < MAX_FRAME_BYTES


def test_a_full_question_fits_into_a_frame() -> None:
    have = Position("l" * 128, MAX_TOTAL, MAX_TOTAL)
    wanted = (Wanted(MAX_PARTITIONS - 1, "o" * 128, MAX_TOTAL, have),) * MAX_ENTRIES
    assert len(encode(make(Have, "d" * 128, "p" * 128, "e" * 256, wanted))) < MAX_FRAME_BYTES


def test_a_full_chunk_fits_into_a_frame_with_the_lanes_of_a_full_head() -> None:
    # lanes up to what a store takes of a head, and every row a page of the greatest length
    lanes = {f"{n:032x}": LaneState(2**40, (), 2**40, 2**31) for n in range(8_000)}
    assert len(encode(make(Head, "l", 1, "p", 0, 0, lanes, (), {}, False, 0))) > MAX_HEAD_BYTES
    rows = tuple(OriginRow("a" * MAX_PAGE_BYTES, MAX_TOTAL, MAX_TOTAL) for _ in range(MAX_CHUNK_ROWS))
    known = {"d" * 126 + f"{n:02}": Position("l" * 128, MAX_TOTAL, MAX_TOTAL) for n in range(MAX_DCS)}
    chunk = Chunk(0, "o" * 128, MAX_TOTAL, MAX_TOTAL, MAX_TOTAL, True, Origin(HERE, 0, lanes, 0), rows, known)
    assert len(encode(make(Rows, "d" * 128, "p" * 128, (chunk,)))) < MAX_FRAME_BYTES


def test_a_part_below_its_own_low_cannot_even_be_made() -> None:
    with pytest.raises(ValueError, match="below its own low"):
        Part(0, 1, 2, {})


# --- heads of the release before ----------------------------------------------------------


@given(any_of(EarlierHead))
def test_an_earlier_head_is_read_as_one_that_knows_no_other_datacenter(earlier: EarlierHead) -> None:
    head = decode_head(encode(earlier))
    redo = tuple(RedoRow(row.page, row.dc, row.count, earlier.commit) for row in earlier.redo)
    assert head == make(
        Head, earlier.ledger, earlier.epoch, earlier.owner, earlier.commit, earlier.hits, earlier.lanes, redo,
        {}, False, 0,
    )  # fmt: skip


@given(any_of(Head))
def test_a_head_is_read_as_it_is(head: Head) -> None:
    assert decode_head(encode(head)) == head


@pytest.mark.parametrize(
    "case", [case for case in GOLDEN if not isinstance(case.message, Head | EarlierHead)], ids=lambda case: case.name
)
def test_no_other_message_is_read_as_a_head(case: Golden) -> None:
    with pytest.raises(DecodeError, match="not a Head or EarlierHead"):
        decode_head(bytes.fromhex(case.hex))


# --- whatever anybody may send ------------------------------------------------------------


@given(any_message())
def test_any_message_comes_back_equal(message: Message) -> None:
    assert decode(encode(message), type(message)) == message


@given(st.binary(max_size=200))
@example(b"\x93\x01\x06\xdb\xff\xff\xff\xff")
def test_no_bytes_raise_anything_but_a_decode_error(data: bytes) -> None:
    found = decoded_or_none(data)
    assert found is None or isinstance(found, Message)


@given(st.sampled_from(MESSAGES), st.binary(max_size=200))
def test_no_bytes_behind_a_good_beginning_raise_anything_else(kind: type[Message], tail: bytes) -> None:
    data = bytes([0x90 + len(kind.__struct_fields__), VERSION, kind.KIND]) + tail
    found = decoded_or_none(data)
    assert found is None or type(found) is kind


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid message with some bytes changed, cut out, doubled or replaced by another one's."""
    data = bytearray(draw(sound_bytes))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        end = draw(st.integers(at, len(data)))
        match draw(st.sampled_from(["flip", "set", "cut", "double", "splice"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at:end]
            case "double":
                data[at:at] = data[at:end]
            case "splice":
                other = draw(some_bytes)
                start = draw(st.integers(0, len(other)))
                data[at:end] = other[start:]
    return bytes(data)


@given(damaged())
@settings(max_examples=examples(500))
def test_a_damaged_message_is_refused_or_is_a_sound_one(data: bytes) -> None:
    found = decoded_or_none(data)
    if found is not None:
        again = decode(encode(found), type(found))
        assert again == found


@given(damaged())
@settings(max_examples=examples(200))
def test_a_message_takes_no_more_room_than_its_bytes_allow(data: bytes) -> None:
    # an item of a byte becomes an object of some 60 bytes, and an entry of a map twice that
    tracemalloc.start()
    try:
        decoded_or_none(data)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 20_000 + 400 * len(data)


def test_the_greatest_frame_of_the_smallest_items_stays_bounded() -> None:
    # MAX_FRAME_BYTES of what costs most: maps with a key of one character in an ack's totals
    entry = b"\xa1a\x81\xa1d\x01"
    many = MAX_FRAME_BYTES // len(entry) - 10
    data = bytes.fromhex("94 01 02 a177 91 96 00 00 00 00 90 df") + many.to_bytes(4, "big") + entry * many
    assert len(data) <= messages.MAX_FRAME_BYTES
    assert len(decode(data, Ack).applied[0].totals) == 1
