"""Golden bytes: what every message is on the wire, and what must not pass for one.

The bytes were packed by another msgpack library than the one that encodes, from the tables in
docs/protocol.md, one group of hex digits an item. A change here is a change of the protocol:
it needs a new version, or a reason why no running mesh can hold the old bytes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from hitmesh.protocol.messages import (
    MAX_COUNT,
    MAX_LOAD,
    MAX_PARTITIONS,
    MAX_TOTAL,
    Ack,
    Addressed,
    Answer,
    Applied,
    Batch,
    Change,
    Chunk,
    Close,
    Control,
    EarlierHead,
    EarlierRedoRow,
    Entry,
    Gap,
    Have,
    Head,
    Heartbeat,
    Instance,
    Job,
    LaneEnd,
    LaneState,
    Leave,
    Lookup,
    Message,
    Neighbours,
    News,
    Origin,
    OriginRow,
    Part,
    Position,
    Read,
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
    make,
)


class Golden(NamedTuple):
    """A message and its bytes, in hex."""

    name: str
    message: Message
    hex: str


class Refused(NamedTuple):
    """Bytes, in hex, that aren't a message of that kind."""

    name: str
    kind: type[Message]
    hex: str


def text_hex(text: str) -> str:
    """Text of up to 255 bytes as msgpack."""
    data = text.encode()
    return (f"{0xA0 + len(data):02x}" if len(data) < 32 else f"d9{len(data):02x}") + data.hex()


LAST: Final = MAX_PARTITIONS - 1
ADDRESS: Final = "tcp://127.0.0.1:5"
ADDRESS_HEX: Final = "b17463703a2f2f3132372e302e302e313a35"
MOST: Final = "cf7fffffffffffffff"  # MAX_TOTAL
LONELY: Final = Instance("d", "r", "n", "i", "up", 0, 0, {}, {}, {})
LONELY_HEX: Final = "9a a164 a172 a16e a169 a27570 00 00 80 80 80"

GOLDEN: Final = (
    Golden(
        "a batch",
        make(Batch, "w1", "tcp://127.0.0.1:5", (Addressed(3, Part(0, 1, 1, {"a/b": 1})),)),
        "95 01 01 a27731 b17463703a2f2f3132372e302e302e313a35 91 92 03 94 00 01 01 81 a3612f62 01",
    ),
    Golden(
        "a batch of two partitions",
        make(Batch, "w", ADDRESS, (Addressed(1, Part(0, 2, 1, {"a": 1, "b": 300})), Addressed(2, Part(31, 1, 1, {"é": 70_000})))),
        f"95 01 01 a177 {ADDRESS_HEX} 92 92 01 94 00 02 01 82 a161 01 a162 cd012c 92 02 94 1f 01 01 81 a2c3a9 ce00011170",
    ),
    Golden("a batch of nothing", make(Batch, "w", ADDRESS, ()), f"95 01 01 a177 {ADDRESS_HEX} 90"),
    Golden(
        "the greatest numbers of a batch",
        make(Batch, "w", ADDRESS, (Addressed(MAX_TOTAL, Part(LAST, MAX_TOTAL, MAX_TOTAL, {"a": MAX_COUNT})),)),
        f"95 01 01 a177 {ADDRESS_HEX} 91 92 {MOST} 94 cd0fff {MOST} {MOST} 81 a161 cf001fffffffffffff",
    ),
    Golden(
        "an ack",
        make(Ack, "w1", (Applied(5, 3, 9, 4, ((6, 6), (8, 10)), {"a/b": {"eu-west": 40, "us-west": 2}}),)),
        "94 01 02 a27731 91 96 05 03 09 04 92 92 06 06 92 08 0a"
        " 81 a3612f62 82 a765752d77657374 28 a775732d77657374 02",
    ),
    Golden(
        "an ack without totals", make(Ack, "w", (Applied(0, 0, 0, 0, (), {}),)), "94 01 02 a177 91 96 00 00 00 00 90 80"
    ),
    Golden(
        "the greatest numbers of an ack",
        make(
            Ack,
            "w",
            (
                Applied(
                    LAST,
                    MAX_TOTAL,
                    MAX_TOTAL,
                    MAX_TOTAL - 5,
                    ((MAX_TOTAL - 2, MAX_TOTAL),),
                    {"a": {"d": MAX_TOTAL}},
                ),
            ),
        ),
        f"94 01 02 a177 91 96 cd0fff {MOST} {MOST} cf7ffffffffffffffa"
        f" 91 92 cf7ffffffffffffffd {MOST} 81 a161 81 a164 {MOST}",
    ),
    Golden("a redirect", make(Redirect, "p1", {0: 4, 31: 0}), "94 01 03 a27031 82 00 04 1f 00"),
    Golden("a redirect about nothing", make(Redirect, "p1", {}), "94 01 03 a27031 80"),
    Golden(
        "the greatest numbers of a redirect",
        make(Redirect, "p1", {LAST: MAX_TOTAL}),
        f"94 01 03 a27031 81 cd0fff {MOST}",
    ),
    Golden(
        "a close", make(Close, "w1", (LaneEnd(0, 3, 12), LaneEnd(31, 3, 0))), "94 01 04 a27731 92 93 00 03 0c 93 1f 03 00"
    ),
    Golden("a close without lanes", make(Close, "w1", ()), "94 01 04 a27731 90"),
    Golden(
        "a heartbeat",
        make(
            Heartbeat,
            1,
            1_000,
            Instance(
                "eu-west",
                "collector",
                "collector-1",
                "c1a",
                "up",
                4_242,
                1_700_000_000_000,
                {"acks": "tcp://127.0.0.1:9"},
                {"rate": 0.5, "cores": -2.0},
                {7: 3},
            ),
        ),
        "95 01 05 01 cd03e8 9a a765752d77657374 a9636f6c6c6563746f72 ab636f6c6c6563746f722d31 a3633161 a27570 cd1092"
        " cf0000018bcfe56800 81 a461636b73 b17463703a2f2f3132372e302e302e313a39"
        " 82 a472617465 cb3fe0000000000000 a5636f726573 cbc000000000000000 81 07 03",
    ),
    Golden(
        "a heartbeat under wire format 2",
        make(Heartbeat, 0, 0, Instance("d", "r", "n", "i", "up", 0, 0, {}, {}, {}, Release("0.2.0", {"wire": 2}))),
        "95 01 05 00 00 9b a164 a172 a16e a169 a27570 00 00 80 80 80 92 a5302e322e30 81 a477697265 02",
    ),
    Golden("the least heartbeat", make(Heartbeat, 0, 0, LONELY), f"95 01 05 00 00 {LONELY_HEX}"),
    Golden(
        "the greatest numbers of a heartbeat",
        make(
            Heartbeat,
            MAX_TOTAL,
            MAX_TOTAL,
            Instance(
                "d",
                "r",
                "n",
                "i",
                "draining",
                MAX_TOTAL,
                MAX_TOTAL,
                {"e": ADDRESS},
                {"l": MAX_LOAD, "m": -MAX_LOAD},
                {LAST: MAX_TOTAL},
            ),
        ),
        f"95 01 05 {MOST} {MOST} 9a a164 a172 a16e a169 a8647261696e696e67 {MOST} {MOST}"
        f" 81 a165 {ADDRESS_HEX} 82 a16c cb430c6bf526340000 a16d cbc30c6bf526340000 81 cd0fff {MOST}",
    ),
    Golden("last words", make(Leave, "c1a"), "93 01 06 a3633161"),
    Golden(
        "a change",
        make(Change, "n1", 2, True, (Seen(LONELY, 9, 120, True), Seen(LONELY, 9, 4_000, False)), ("c0f",)),
        f"97 01 07 a26e31 02 c3 92 94 {LONELY_HEX} 09 78 c3 94 {LONELY_HEX} 09 cd0fa0 c2 91 a3633066",
    ),
    Golden("a change without news", make(Change, "n1", 0, False, (), ()), "97 01 07 a26e31 00 c2 90 90"),
    Golden("a lookup of an owner", make(Lookup, 1, "owner", "31"), "95 01 08 01 a56f776e6572 a23331"),
    Golden("a lookup of everything", make(Lookup, 0, "snapshot", ""), "95 01 08 00 a8736e617073686f74 a0"),
    Golden(
        "an order to forget",
        make(Control, MAX_TOTAL, "forget", "collector-1"),
        f"95 01 09 {MOST} a6666f72676574 ab636f6c6c6563746f722d31",
    ),
    Golden(
        "an answer",
        make(Answer, 1, "", "n1", 2, True, (Seen(LONELY, 1, 0, True),)),
        f"98 01 0a 01 a0 a26e31 02 c3 91 94 {LONELY_HEX} 01 00 c3",
    ),
    Golden("a refusal", make(Answer, 1, "no", "n1", 0, False, ()), "98 01 0a 01 a26e6f a26e31 00 c2 90"),
    Golden(
        "neighbours",
        make(
            Neighbours,
            "eu-west",
            "n1",
            2,
            5_000,
            32,
            "d1",
            {"eu-west": ("tcp://127.0.0.1:5",), "us-west": ()},
            (Seen(LONELY, 9, 120, True),),
        ),
        "9a 01 0b a765752d77657374 a26e31 02 cd1388 20 a26431"
        " 82 a765752d77657374 91 b17463703a2f2f3132372e302e302e313a35 a775732d77657374 90"
        f" 91 94 {LONELY_HEX} 09 78 c3",
    ),
    Golden("the least neighbours", make(Neighbours, "d", "n", 0, 0, 0, "-", {}, ()), "9a 01 0b a164 a16e 00 00 00 a12d 80 90"),
    Golden(
        "the greatest numbers of neighbours",
        make(Neighbours, "d", "n", MAX_TOTAL, MAX_TOTAL, MAX_TOTAL, "-", {}, (Seen(LONELY, MAX_TOTAL, MAX_TOTAL, False),)),
        f"9a 01 0b a164 a16e {MOST} {MOST} {MOST} a12d 80 91 94 {LONELY_HEX} {MOST} {MOST} c2",
    ),
    Golden(
        "a question for rows",
        make(
            Have,
            "eu-west",
            "p1",
            "tcp://127.0.0.1:5",
            (Wanted(0, "us-west", 7, Position("l1", 3, 9)), Wanted(31, "eu-west", 8, None)),
        ),
        "96 01 0c a765752d77657374 a27031 b17463703a2f2f3132372e302e302e313a35"
        " 92 94 00 a775732d77657374 07 93 a26c31 03 09 94 1f a765752d77657374 08 c0",
    ),
    Golden("a question for nothing", make(Have, "d", "p", ADDRESS, ()), f"96 01 0c a164 a170 {ADDRESS_HEX} 90"),
    Golden(
        "the greatest numbers of a question for rows",
        make(Have, "d", "p", ADDRESS, (Wanted(LAST, "o", MAX_TOTAL, Position("l", MAX_TOTAL, MAX_TOTAL)),)),
        f"96 01 0c a164 a170 {ADDRESS_HEX} 91 94 cd0fff a16f {MOST} 93 a16c {MOST} {MOST}",
    ),
    Golden(
        "rows",
        make(
            Rows,
            "us-west",
            "p2",
            (
                Chunk(
                    0,
                    "us-west",
                    7,
                    250,
                    0,
                    True,
                    Origin(
                        Position("l1", 3, 11), 42, {"w1": LaneState(4, ((6, 6), (8, 10)), 40, 1_700_000_000)}, 1_700_000_001
                    ),
                    (OriginRow("a/b", 40, 10), OriginRow("a//b", 0, 11)),
                    {"us-west": Position("l1", 3, 11), "ap": Position("l2", 1, 0)},
                ),
                Chunk(31, "eu-west", 8, 500, 1_200, False, None, (), {}),
            ),
        ),
        "95 01 0d a775732d77657374 a27032 92"
        " 99 00 a775732d77657374 07 ccfa 00 c3"
        " 94 93 a26c31 03 0b 2a 81 a27731 94 04 92 92 06 06 92 08 0a 28 ce6553f100 ce6553f101"
        " 92 93 a3612f62 28 0a 93 a4612f2f62 00 0b"
        " 82 a775732d77657374 93 a26c31 03 0b a26170 93 a26c32 01 00"
        " 99 1f a765752d77657374 08 cd01f4 cd04b0 c2 c0 90 80",
    ),
    Golden("rows of nothing", make(Rows, "d", "p", ()), "95 01 0d a164 a170 90"),
    Golden(
        "the greatest numbers of rows",
        make(
            Rows,
            "d",
            "p",
            (
                Chunk(
                    LAST,
                    "o",
                    MAX_TOTAL,
                    MAX_TOTAL,
                    MAX_TOTAL,
                    True,
                    Origin(
                        Position("l", MAX_TOTAL, MAX_TOTAL),
                        MAX_TOTAL,
                        {"w": LaneState(MAX_TOTAL, (), MAX_TOTAL, MAX_TOTAL)},
                        MAX_TOTAL,
                    ),
                    (OriginRow("a", MAX_TOTAL, MAX_TOTAL),),
                    {"o": Position("l", MAX_TOTAL, MAX_TOTAL)},
                ),
            ),
        ),
        f"95 01 0d a164 a170 91 99 cd0fff a16f {MOST} {MOST} {MOST} c3"
        f" 94 93 a16c {MOST} {MOST} {MOST} 81 a177 94 {MOST} 90 {MOST} {MOST} {MOST}"
        f" 91 93 a161 {MOST} {MOST} 81 a16f 93 a16c {MOST} {MOST}",
    ),
    Golden("a lookup of settings", make(Lookup, 3, "settings", "routes/a"), "95 01 08 03 a873657474696e6773 a8726f757465732f61"),
    Golden(
        "settings",
        make(
            Settings,
            3,
            True,
            (SettingRecord("routes/b", "{}", 7, "me", 1_700_000_000.5), SettingRecord("x", None, 8, "", 0.0)),
        ),
        "95 01 0e 03 c3 92 95 a8726f757465732f62 a27b7d 07 a26d65 cb41d954fc40200000 95 a178 c0 08 a0 cb0000000000000000",
    ),
    Golden("no settings", make(Settings, 0, False, ()), "95 01 0e 00 c2 90"),
    Golden("news", make(News, "d", "b.0a", 3, 1, b"x\x9c"), "97 01 0f a164 a4622e3061 03 01 c402789c"),
    Golden("no news", make(News, "d", "b", 0, 0, b""), "97 01 0f a164 a162 00 00 c400"),
    Golden(
        "records",
        make(Records, "d", "nexus", "n", "n-0a", 1, 0, (Entry(5, 30, "l", "t", {"a": 1, "b": "x", "c": True, "d": 0.5}),)),
        "99 01 10 a164 a56e65787573 a16e a46e2d3061 01 00 91 95 05 1e a16c a174 84 a161 01 a162 a178 a163 c3 a164 cb3fe0000000000000",
    ),
    Golden("no records", make(Records, "d", "r", "n", "i", 1, 2, ()), "99 01 10 a164 a172 a16e a169 01 02 90"),
    Golden("a question for what is recorded", make(Read, 1, 2, 3, 4, 5), "97 01 11 01 02 03 04 05"),
    Golden("what is recorded", make(Recorded, 1, "r", 2, 3, True, b"x"), "98 01 12 01 a172 02 03 c3 c40178"),
    Golden("a gap", make(Gap, "r", 1, 2, 3, "w"), "97 01 13 a172 01 02 03 a177"),
    Golden(
        "the greatest numbers of a gap",
        make(Gap, "r", MAX_TOTAL, MAX_TOTAL, MAX_TOTAL, ""),
        f"97 01 13 a172 {MOST} {MOST} {MOST} a0",
    ),
    Golden(
        "the greatest numbers of news",
        make(News, "d", "b", MAX_TOTAL, MAX_TOTAL, b""),
        f"97 01 0f a164 a162 {MOST} {MOST} c400",
    ),
    Golden(
        "the greatest numbers of settings",
        make(Settings, MAX_TOTAL, False, (SettingRecord("", "", MAX_TOTAL, "", MAX_LOAD),)),
        f"95 01 0e {MOST} c2 91 95 a0 a0 {MOST} a0 cb430c6bf526340000",
    ),
    Golden(
        "a job",
        make(
            Job, "w1", 1_700_000_000_000, (Part(0, 1, 1, {"a/b": 1}), Part(31, 7, 6, {"a//b": 2, "b": 128}))
        ),
        "95 01 14 a27731 cf0000018bcfe56800 92 94 00 01 01 81 a3612f62 01 94 1f 07 06 82 a4612f2f62 02 a162 cc80",
    ),
    Golden(
        "the greatest numbers of a job",
        make(Job, "w", MAX_TOTAL, (Part(LAST, MAX_TOTAL, 1, {}),)),
        f"95 01 14 a177 {MOST} 91 94 cd0fff {MOST} 01 80",
    ),
    Golden(
        "an earlier head",
        make(
            EarlierHead,
            "l1",
            3,
            "p1",
            9,
            42,
            {"w1": LaneState(4, ((6, 6), (8, 10)), 40, 1_700_000_000), "w2": LaneState(0, (), 2, 0)},
            (EarlierRedoRow("a/b", "eu-west", 40),),
        ),
        "99 01 1e a26c31 03 a27031 09 2a 82 a27731 94 04 92 92 06 06 92 08 0a 28 ce6553f100 a27732 94 00 90 02 00"
        " 91 93 a3612f62 a765752d77657374 28",
    ),
    Golden("a partition's first earlier head", make(EarlierHead, "l1", 1, "p1", 0, 0, {}, ()), "99 01 1e a26c31 01 a27031 00 00 80 90"),
    Golden(
        "the greatest numbers of an earlier head",
        make(
            EarlierHead,
            "l",
            MAX_TOTAL,
            "p",
            MAX_TOTAL,
            MAX_TOTAL,
            {"w": LaneState(MAX_TOTAL, (), MAX_TOTAL, MAX_TOTAL)},
            (EarlierRedoRow("a", "d", MAX_TOTAL),),
        ),
        f"99 01 1e a16c {MOST} a170 {MOST} {MOST} 81 a177 94 {MOST} 90 {MOST} {MOST} 91 93 a161 a164 {MOST}",
    ),
    Golden(
        "a head",
        make(
            Head,
            "l1",
            3,
            "p1",
            9,
            42,
            {"w1": LaneState(4, ((6, 6), (8, 10)), 40, 1_700_000_000), "w2": LaneState(0, (), 2, 0)},
            (RedoRow("a/b", "eu-west", 40, 9), RedoRow("a/b", "us-west", 0, 11)),
            {"us-west": Origin(Position("l2", 1, 11), 5, {"w3": LaneState(7, (), 5, 0)}, 1_700_000_001)},
            False,
            0,
        ),
        "9c 01 1f a26c31 03 a27031 09 2a 82 a27731 94 04 92 92 06 06 92 08 0a 28 ce6553f100 a27732 94 00 90 02 00"
        " 92 94 a3612f62 a765752d77657374 28 09 94 a3612f62 a775732d77657374 00 0b"
        " 81 a775732d77657374 94 93 a26c32 01 0b 05 81 a27733 94 07 90 05 00 ce6553f101 c2 00",
    ),
    Golden(
        "a partition's first head", make(Head, "l1", 1, "p1", 0, 0, {}, (), {}, False, 0), "9c 01 1f a26c31 01 a27031 00 00 80 90 80 c2 00"
    ),
    Golden(
        "a head that is being restored",
        make(Head, "l1", 1, "p1", 0, 0, {}, (), {}, True, 3),
        "9c 01 1f a26c31 01 a27031 00 00 80 90 80 c3 03",
    ),
    Golden(
        "the greatest numbers of a head",
        make(
            Head,
            "l",
            MAX_TOTAL,
            "p",
            MAX_TOTAL,
            MAX_TOTAL,
            {"w": LaneState(MAX_TOTAL, (), MAX_TOTAL, MAX_TOTAL)},
            (RedoRow("a", "d", MAX_TOTAL, MAX_TOTAL),),
            {"o": Origin(Position("l", MAX_TOTAL, MAX_TOTAL), MAX_TOTAL, {}, MAX_TOTAL)},
            True,
            MAX_TOTAL,
        ),
        f"9c 01 1f a16c {MOST} a170 {MOST} {MOST} 81 a177 94 {MOST} 90 {MOST} {MOST} 91 94 a161 a164 {MOST} {MOST}"
        f" 81 a16f 94 93 a16c {MOST} {MOST} {MOST} 80 {MOST} c3 {MOST}",
    ),
)  # fmt: skip

JOB_OF: Final = "95 01 14 a177 00 91"  # a job whose one part follows
BATCH_OF: Final = f"95 01 01 a177 {ADDRESS_HEX} 91 92 00"  # a batch whose one part follows
ACK_OF: Final = "94 01 02 a177 91"  # an ack whose one lane follows
BEAT_OF: Final = "95 01 05 00 00 9a a164 a172 a16e a169 a27570 00 00"  # endpoints, load, owns follow
NEIGHBOURS_OF: Final = "9a 01 0b a164 a16e 00 00 00 a12d"  # datacenters' Nexuses and instances follow
HAVE_OF: Final = f"96 01 0c a164 a170 {ADDRESS_HEX} 91"  # a question of one entry, which follows
ROWS_OF: Final = "95 01 0d a164 a170 91"  # an answer of one chunk, which follows
RECORDS_OF = "99 01 10 a164 a172 a16e a169 01 02"
SETTINGS_OF: Final = "95 01 0e 00 c2 91"  # settings whose one record follows
HEAD_OF: Final = "9c 01 1f a16c 01 a170 00 00 80 90"  # a head: origins, restoring and lost follow

REFUSED: Final = (
    # the envelope
    Refused("nothing", Leave, ""),
    Refused("one byte", Leave, "93"),
    Refused("no array", Leave, "01"),
    Refused("a map", Leave, "83 01 06 a3633161 c0 01 02"),
    Refused("version 0", Leave, "93 00 06 a3633161"),
    Refused("version 2", Leave, "93 02 06 a3633161"),
    Refused("a version that is true", Leave, "93 c3 06 a3633161"),
    Refused("a version written at length", Leave, "93 cc01 06 a3633161"),
    Refused("a kind written at length", Leave, "93 01 cc06 a3633161"),
    Refused("an array written at length", Leave, "dc0003 01 06 a3633161"),
    Refused("another kind", Leave, "93 01 05 a3633161"),
    Refused("a kind that nobody has", Leave, "93 01 7f a3633161"),
    Refused("a kind below 0", Leave, "93 01 ff a3633161"),
    Refused("a field too few", Leave, "92 01 06"),
    Refused("an instance with a field behind its release", Heartbeat, "95 01 05 00 00 9c a164 a172 a16e a169 a27570 00 00 80 80 80 c0 00"),
    Refused("a release without what it reads", Heartbeat, "95 01 05 00 00 9b a164 a172 a16e a169 a27570 00 00 80 80 80 91 a131"),
    Refused("a field too many", Leave, "94 01 06 a3633161 00"),
    Refused("a byte after the end", Leave, "93 01 06 a3633161 00"),
    Refused("two messages in one", Leave, "93 01 06 a3633161 93 01 06 a3633161"),
    # types
    Refused("true for a number", Control, "95 01 09 c3 a161 a0"),
    Refused("a float for a number", Control, "95 01 09 cb3ff0000000000000 a161 a0"),
    Refused("text for a number", Control, "95 01 09 a131 a161 a0"),
    Refused("nil for a number", Control, "95 01 09 c0 a161 a0"),
    Refused("nil for text", Control, "95 01 09 00 a161 c0"),
    Refused("bytes for text", Control, "95 01 09 00 a161 c40161"),
    Refused("a number for text", Control, "95 01 09 00 a161 05"),
    Refused("a number for true", Change, "97 01 07 a26e31 00 01 90 90"),
    Refused("an array for a map", Redirect, "94 01 03 a27031 90"),
    Refused("a map for an array", Close, "94 01 04 a27731 80"),
    Refused("a number for a page", Job, f"{JOB_OF} 94 00 01 01 81 01 01"),
    Refused("text for a partition", Redirect, "94 01 03 a27031 81 a130 00"),
    Refused("a timestamp for a number", Control, "95 01 09 d6ff00000001 a161 a0"),
    Refused("an extension for text", Control, "95 01 09 00 a161 d40561"),
    Refused("the byte that msgpack never uses", Control, "95 01 09 c1 a161 a0"),
    # text
    Refused("text that isn't UTF-8", Leave, "93 01 06 a1ff"),
    Refused("a surrogate in text", Leave, "93 01 06 a3eda080"),
    Refused("a page that isn't UTF-8", Job, f"{JOB_OF} 94 00 01 01 81 a2c328 01"),
    Refused("a page without a name", Job, f"{JOB_OF} 94 00 01 01 81 a0 01"),
    Refused("a page of 1,025 bytes", Job, f"{JOB_OF} 94 00 01 01 81 da0401{'61' * 1025} 01"),
    Refused("a worker without a name", Close, "94 01 04 a0 90"),
    Refused("a name of 129 characters", Leave, f"93 01 06 d981{'61' * 129}"),
    Refused("an endpoint that isn't one", Batch, "95 01 01 a177 a0 90"),
    *(
        Refused(f"an endpoint such as {wrong}", Batch, f"95 01 01 a177 {text_hex(wrong)} 90")
        for wrong in (
            "tcp://localhost:1", "tcp://a.example:1", "tcp://127.0.0.1", "tcp://127.0.0.1:*", "tcp://*:1", "ipc:///run/a",
            "inproc://a", "tcp://::1:1", "tcp://[a.example]:1", "tcp://127.0.0.1:1;", "tcp://127.0.0.1:1\n",
            "tcp://eth0;127.0.0.1:1", "TCP://127.0.0.1:1", "udp://127.0.0.1:1", f"tcp://[{'0' * 60}]:1",
        )
    ),
    *(
        Refused(f"a name such as {wrong!r}", Leave, f"93 01 06 {text_hex(wrong)}")
        for wrong in ("a b", "é", "a\n", "\x1b[31m", "a/b", '"', "\u202e", "\x00", "a\x7f")
    ),
    *(
        Refused(f"a state such as {wrong!r}", Heartbeat, f"95 01 05 00 00 9a a164 a172 a16e a169 {text_hex(wrong)} 00 00 80 80 80")
        for wrong in ("", "failing: \x1b[31m", "up\n", "é", "\u202e", "\x00", "a\x7f", "a" * 129)
    ),
    # numbers
    Refused("a number below 0", Control, "95 01 09 ff a161 a0"),
    Refused("a number of 2**63", Control, "95 01 09 cf8000000000000000 a161 a0"),
    Refused("a number of 2**64 - 1", Control, "95 01 09 cfffffffffffffffff a161 a0"),
    Refused("partition 4,096", Job, f"{JOB_OF} 94 cd1000 01 01 80"),
    Refused("a partition below 0", Job, f"{JOB_OF} 94 ff 01 01 80"),
    Refused("sequence number 0", Job, f"{JOB_OF} 94 00 00 01 80"),
    Refused("a low of 0", Job, f"{JOB_OF} 94 00 01 00 80"),
    Refused("a part below its own low", Job, f"{JOB_OF} 94 00 01 02 80"),
    Refused("a count of 0", Job, f"{JOB_OF} 94 00 01 01 81 a161 00"),
    Refused("a count below 0", Job, f"{JOB_OF} 94 00 01 01 81 a161 ff"),
    Refused("a count of 2**53", Job, f"{JOB_OF} 94 00 01 01 81 a161 cf0020000000000000"),
    Refused("an epoch below 0", Batch, "95 01 01 a177 a0 91 92 ff 94 00 01 01 80"),
    Refused("a load that is no number", Heartbeat, f"{BEAT_OF} 80 81 a16c cb7ff8000000000000 80"),
    Refused("a load without end", Heartbeat, f"{BEAT_OF} 80 81 a16c cb7ff0000000000000 80"),
    Refused("a load beyond its limit", Heartbeat, f"{BEAT_OF} 80 81 a16c cb4341c37937e08000 80"),
    # shapes
    Refused("a job without parts", Job, "95 01 14 a177 00 90"),
    Refused("a part with a field too few", Job, f"{JOB_OF} 93 00 01 01"),
    Refused("a part with a field too many", Job, f"{JOB_OF} 95 00 01 01 80 00"),
    Refused("a part without an epoch in a batch", Batch, "95 01 01 a177 a0 91 94 00 01 01 80"),
    Refused("a range of one number", Ack, f"{ACK_OF} 96 00 00 00 01 91 91 03 80"),
    Refused("a range of three numbers", Ack, f"{ACK_OF} 96 00 00 00 01 91 93 03 04 05 80"),
    Refused("a range that ends before it begins", Ack, f"{ACK_OF} 96 00 00 00 01 91 92 04 03 80"),
    Refused("a range below the mark", Ack, f"{ACK_OF} 96 00 00 00 05 91 92 03 04 80"),
    Refused("a range that touches the mark", Ack, f"{ACK_OF} 96 00 00 00 05 91 92 06 06 80"),
    Refused("ranges that touch", Ack, f"{ACK_OF} 96 00 00 00 01 92 92 03 04 92 05 05 80"),
    Refused("ranges out of order", Ack, f"{ACK_OF} 96 00 00 00 01 92 92 08 09 92 03 04 80"),
    Refused("ranges that touch in an earlier head", EarlierHead, "99 01 1e a16c 01 a170 00 00 81 a177 94 01 92 92 03 04 92 05 05 00 00 90"),
    Refused("an earlier head without redo", EarlierHead, "98 01 1e a16c 01 a170 00 00 80"),
    Refused("ranges that touch in a head", Head, "9c 01 1f a16c 01 a170 00 00 81 a177 94 01 92 92 03 04 92 05 05 00 00 90 80 c2 00"),
    Refused("an earlier head's fields in a head", Head, "99 01 1f a16c 01 a170 00 00 80 90"),
    Refused("a head's fields in an earlier one", EarlierHead, "9c 01 1e a16c 01 a170 00 00 80 90 80 c2 00"),
    Refused("an earlier redo row in a head", Head, "9c 01 1f a16c 01 a170 00 00 80 91 93 a161 a164 01 80 c2 00"),
    Refused("a head's redo row in an earlier one", EarlierHead, "99 01 1e a16c 01 a170 00 00 80 91 94 a161 a164 01 01"),
    Refused("a number for restoring", Head, f"{HEAD_OF} 80 00 00"),
    Refused("nil for restoring", Head, f"{HEAD_OF} 80 c0 00"),
    Refused("lost hits below 0", Head, f"{HEAD_OF} 80 c2 ff"),
    Refused("nil for an origin", Head, f"{HEAD_OF} 81 a16f c0 c2 00"),
    Refused("an origin without a position", Head, f"{HEAD_OF} 81 a16f 94 c0 00 80 00 c2 00"),
    Refused("an origin without a name", Head, f"{HEAD_OF} 81 a0 94 93 a16c 00 00 00 80 00 c2 00"),
    Refused("ranges that touch in an origin", Head, f"{HEAD_OF} 81 a16f 94 93 a16c 00 00 00 81 a177 94 01 91 92 02 02 00 00 00 c2 00"),
    # between datacenters
    Refused("neighbours without a name", Neighbours, "9a 01 0b a0 a16e 00 00 00 a12d 80 90"),
    Refused("neighbours without a digest", Neighbours, "9a 01 0b a164 a16e 00 00 00 a0 80 90"),
    Refused("one endpoint for a datacenter's", Neighbours, f"{NEIGHBOURS_OF} 81 a164 a165 90"),
    Refused("an instance that nobody has seen", Neighbours, f"{NEIGHBOURS_OF} 80 91 {LONELY_HEX}"),
    Refused("a position of two numbers", Have, f"{HAVE_OF} 94 00 a16f 00 92 01 02"),
    Refused("a position without a ledger", Have, f"{HAVE_OF} 94 00 a16f 00 93 c0 01 02"),
    Refused("a position of a ledger without a name", Have, f"{HAVE_OF} 94 00 a16f 00 93 a0 01 02"),
    Refused("0 for no position", Have, f"{HAVE_OF} 94 00 a16f 00 00"),
    Refused("a question without a position", Have, f"{HAVE_OF} 93 00 a16f 00"),
    Refused("a question about partition 4,096", Have, f"{HAVE_OF} 94 cd1000 a16f 00 c0"),
    Refused("a number for whole", Rows, f"{ROWS_OF} 99 00 a16f 00 00 00 01 c0 90 80"),
    Refused("a position for a state", Rows, f"{ROWS_OF} 99 00 a16f 00 00 00 c3 93 a16c 01 02 90 80"),
    Refused("a row without its commit", Rows, f"{ROWS_OF} 99 00 a16f 00 00 00 c3 c0 91 92 a161 01 80"),
    Refused("a row with its datacenter", Rows, f"{ROWS_OF} 99 00 a16f 00 00 00 c3 c0 91 94 a161 a164 01 01 80"),
    Refused("a row of a page without a name", Rows, f"{ROWS_OF} 99 00 a16f 00 00 00 c3 c0 91 93 a0 01 01 80"),
    Refused("a row below 0", Rows, f"{ROWS_OF} 99 00 a16f 00 00 00 c3 c0 91 93 a161 ff 01 80"),
    Refused("nil for what is known", Rows, f"{ROWS_OF} 99 00 a16f 00 00 00 c3 c0 90 81 a16f c0"),
    Refused("an age below 0", Rows, f"{ROWS_OF} 99 00 a16f 00 00 ff c3 c0 90 80"),
    Refused("a setting of bytes", Settings, f"{SETTINGS_OF} 95 a16b c40161 01 a161 00"),
    Refused("a setting that isn't UTF-8", Settings, f"{SETTINGS_OF} 95 a16b a1ff 01 a161 00"),
    Refused("a setting without a version", Settings, f"{SETTINGS_OF} 95 a16b a161 c0 a161 00"),
    Refused("a setting of no time", Settings, f"{SETTINGS_OF} 95 a16b a161 01 a161 cb7ff8000000000000"),
    Refused("a setting's key as text alone", Settings, f"{SETTINGS_OF} a16b"),
    Refused("news as text", News, "97 01 0f a164 a162 00 00 a17b"),
    Refused("news without a format", News, "96 01 0f a164 a162 00 c400"),
    Refused("news of a datacenter without a name", News, "97 01 0f a0 a162 00 00 c400"),
    Refused("a record without a logger", Records, f"{RECORDS_OF} 91 95 05 1e a0 a174 80"),
    Refused("a record of level 101", Records, f"{RECORDS_OF} 91 95 05 65 a16c a174 80"),
    Refused("a record without fields", Records, f"{RECORDS_OF} 91 94 05 1e a16c a174"),
    Refused("a record's field without a name", Records, f"{RECORDS_OF} 91 95 05 1e a16c a174 81 a0 01"),
    Refused("a record's field of a list", Records, f"{RECORDS_OF} 91 95 05 1e a16c a174 81 a161 90"),
    Refused("a record's field of nothing", Records, f"{RECORDS_OF} 91 95 05 1e a16c a174 81 a161 c0"),
    Refused("a record's field of NaN", Records, f"{RECORDS_OF} 91 95 05 1e a16c a174 81 a161 cb7ff8000000000000"),
    Refused("a record that isn't UTF-8", Records, f"{RECORDS_OF} 91 95 05 1e a16c a1ff 80"),
    Refused("records of nobody", Records, "99 01 10 a164 a172 a0 a169 01 02 90"),
    Refused("a question for what is recorded before 1970", Read, "97 01 11 01 ff 03 04 05"),
    Refused("what is recorded as text", Recorded, "98 01 12 01 a172 02 03 c3 a178"),
    # bombs: lengths that nothing follows, and depth
    Refused("records without number", Records, f"{RECORDS_OF} ddffffffff"),
    Refused("fields within the limit that aren't there", Records, f"{RECORDS_OF} 91 95 05 1e a16c a174 de0060"),
    Refused("parts without number", Batch, "95 01 01 a177 a0 ddffffffff"),
    Refused("parts within the limit that aren't there", Batch, "95 01 01 a177 a0 dc4000"),
    Refused("counts without number", Batch, f"{BATCH_OF} 94 00 01 01 dfffffffff"),
    Refused("counts within the limit that aren't there", Batch, f"{BATCH_OF} 94 00 01 01 de01f4"),
    Refused("ranges without number", Ack, f"{ACK_OF} 96 00 00 00 00 ddffffffff"),
    Refused("totals without number", Ack, f"{ACK_OF} 96 00 00 00 00 90 dfffffffff"),
    Refused("entries without number", Have, "96 01 0c a164 a170 a0 ddffffffff"),
    Refused("entries within the limit that aren't there", Have, "96 01 0c a164 a170 a0 dc2000"),
    Refused("chunks without number", Rows, "95 01 0d a164 a170 ddffffffff"),
    Refused("rows without number", Rows, f"{ROWS_OF} 99 00 a16f 00 00 00 c3 c0 ddffffffff"),
    Refused("rows within the limit that aren't there", Rows, f"{ROWS_OF} 99 00 a16f 00 00 00 c3 c0 dc03e8"),
    Refused("lanes within the limit that aren't there", Rows, f"{ROWS_OF} 99 00 a16f 00 00 00 c3 94 93 a16c 01 02 00 df00010000"),
    Refused("datacenters without number", Neighbours, f"{NEIGHBOURS_OF} dfffffffff"),
    Refused("instances within the limit that aren't there", Neighbours, f"{NEIGHBOURS_OF} 80 dc2710"),
    Refused("settings without number", Settings, "95 01 0e 00 c2 ddffffffff"),
    Refused("news without end", News, "97 01 0f a164 a162 00 00 c6ffffffff"),
    Refused("a value without end", Settings, f"{SETTINGS_OF} 95 a16b dbffffffff"),
    Refused("a name without end", Leave, "93 01 06 dbffffffff"),
    Refused("a name of bytes without end", Leave, "93 01 06 c6ffffffff"),
    Refused("an extension without end", Leave, "93 01 06 c9ffffffff01"),
    Refused("arrays in arrays", Leave, "93 01 06" + "91" * 100_000),
    Refused("maps in maps", Redirect, "94 01 03 a27031" + "8100" * 100_000),
    Refused("arrays in arrays beyond the last field", Leave, "94 01 06 a3633161" + "91" * 100_000),
)  # fmt: skip
