"""A backup's file: what goes in comes out, and nothing of a file that was cut or altered is used."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import tracemalloc
from pathlib import Path

import msgspec
import pytest

from hitmesh.cli import backup_file
from hitmesh.cli.backup_file import BackupFile, From, Header, Line, Partition, Rows, Setting, Writer
from hitmesh.errors import CommandError
from hitmesh.protocol.messages import LaneState, Origin, OriginRow, Position
from hitmesh.protocol.pages import partition_of

PARTITIONS = 4
ORIGIN = Origin(
    Position("ledger", 1003, 7), 9000, {"collector-1.0a": LaneState(40, ((42, 43),), 8000, 1_700_000_000)}, 5
)
SETTING = Setting("timing.commit_s", "0.1", 3, "anna", 1_700_000_000.5)


def pages_of(partition: int, count: int) -> list[str]:
    return [
        page for n in range(count) if partition_of(page := f"a.example/é{n * 7919 % 10_007}", PARTITIONS) == partition
    ]


def lines_of(count: int = 4000) -> list[Line]:
    rows = tuple(OriginRow(page, 1 + n * 31 % 97, 1 + n % 7) for n, page in enumerate(pages_of(2, count)))[:1000]
    return [Partition("eu-west", 2, ORIGIN), Rows("eu-west", 2, rows), SETTING]


def written(lines: list[Line]) -> bytes:
    out = io.BytesIO()
    with contextlib.closing(Writer(None)) as writer:
        writer.source("eu-west", From())
        for line in lines:
            writer.add(line)
        writer.finish(Header(release="0.2.0", at="2026-11-30T00:05:01Z", partitions=PARTITIONS, datacenters={}), out)
    return out.getvalue()


def resealed(data: bytes) -> bytes:
    """With the checksum of what is in it now."""
    body = data[:-72]
    return body + b"sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"


def opened(folder: Path, data: bytes) -> list[Line]:
    path = folder / "some.backup"
    path.write_bytes(data)
    with BackupFile(path) as backup:
        return list(backup.lines())


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    lines = lines_of()
    data = written(lines)
    assert opened(tmp_path, data) == lines
    rows = lines[1]
    assert isinstance(rows, Rows)
    header = json.loads(data.partition(b"\n")[0])
    assert (header["format"], header["version"], header["at"]) == ("hitmesh backup", 1, "2026-11-30T00:05:01Z")
    counted = {"pages": len(rows.rows), "hits": sum(row.count for row in rows.rows)}
    assert header["datacenters"] == {"eu-west": {"copy_in": "", "age_s": 0.0, **counted}}
    assert (header["pages"], header["hits"], header["settings"]) == (*counted.values(), 1)


def test_a_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    data = written(lines_of())
    assert len(data) > 4096
    for length in {*range(0, len(data), 1024), 1, len(data) - 72, len(data) - 1}:
        with pytest.raises(CommandError, match=r"not a backup|cut or altered"):
            opened(tmp_path, data[:length])


def test_a_byte_that_was_altered_is_noticed(tmp_path: Path) -> None:
    data = written(lines_of(40))
    for at in range(len(data)):
        with pytest.raises(CommandError, match=r"not a backup|cut or altered"):
            opened(tmp_path, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_a_file_that_has_grown_is_refused(tmp_path: Path) -> None:
    data = written(lines_of(40))
    for longer in (data + b"\n", data + data):
        with pytest.raises(CommandError, match="cut or altered"):
            opened(tmp_path, longer)


def test_another_version_is_named(tmp_path: Path) -> None:
    data = resealed(written([]).replace(b'"version":1', b'"version":2', 1))
    with pytest.raises(CommandError, match="version 2; this release reads version 1"):
        opened(tmp_path, data)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([Rows("eu-west", 2, ())], "before what they belong to"),
        ([Partition("eu-west", 2, ORIGIN)] * 2, "twice"),
        ([Partition("us-west", 2, ORIGIN)], "partition 2 of 'us-west'"),
        ([Partition("eu-west", PARTITIONS, ORIGIN)], "partition 4 of"),
        ([Partition("eu-west", 2, ORIGIN), Rows("eu-west", 2, (OriginRow(pages_of(1, 9)[0], 1, 1),))], "isn't one of"),
        (
            [Partition("eu-west", 2, ORIGIN), Rows("eu-west", 2, (OriginRow(pages_of(2, 9)[0], 1, 8),))],
            "as of commit 7",
        ),
        ([Setting("no key", "0.1", 1, "anna", 1.0)], "is not a setting's key"),
        ([SETTING, SETTING], r"timing\.commit_s is set twice"),
    ],
)
def test_what_can_t_be_is_refused(tmp_path: Path, lines: list[Line], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        opened(tmp_path, written(lines))


def altered(data: bytes, **said: object) -> bytes:
    """With a header that says something else, and the checksum of that."""
    line, _, rest = data.partition(b"\n")
    return resealed(json.dumps({**json.loads(line), **said}, separators=(",", ":")).encode() + b"\n" + rest)


def from_eu_west(**said: int) -> dict[str, object]:
    return {"eu-west": {"copy_in": "", "age_s": 0.0, **said}}


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ({"settings": 0}, "can't be: more than its 0 settings"),
        ({"settings": 2}, "doesn't have what its header says: 1 settings, not 2"),
        ({"settings": -1}, "its header can't be: "),
        ({"settings": 10**6}, "its header can't be: "),
        ({"hits": 4}, "doesn't have what its header says: 5 hits, not 4"),
        ({"partitions": 0}, "its header can't be: "),
        ({"partitions": 10**9}, "its header can't be: "),
        ({"at": "x" * 10_000}, "its header can't be: "),
        ({"datacenters": from_eu_west(pages=0, hits=5)}, "can't be: more than its 5 hits of 0 pages of eu-west"),
        ({"datacenters": from_eu_west(pages=1, hits=4)}, "can't be: more than its 4 hits of 1 pages of eu-west"),
        ({"datacenters": from_eu_west(pages=1, hits=6)}, "header says: 5 hits of 1 pages of eu-west, not 6 of 1"),
        ({"datacenters": from_eu_west(pages=1, hits=-5)}, "its header can't be: "),
        ({"datacenters": {f"dc-{number}": {} for number in range(65)}}, "its header can't be: "),
        ({"more": [[[[]]]] * 9}, ""),
    ],
)
def test_what_comes_is_what_the_header_says_of_it(tmp_path: Path, said: dict[str, object], refused: str) -> None:
    rows = Rows("eu-west", 2, (OriginRow(pages_of(2, 99)[0], 5, 1),))
    data = altered(written([Partition("eu-west", 2, ORIGIN), rows, SETTING]), **said)
    if not refused:
        assert len(opened(tmp_path, data)) == 3
        return
    with pytest.raises(CommandError, match=refused):
        opened(tmp_path, data)


NESTED = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "header", [b"", b',"version":', b',"version":1,"more":' + NESTED + b"}", b',"version":1,"at":"\xff"}']
)
def test_a_header_that_cannot_be_read_is_one_line(tmp_path: Path, header: bytes) -> None:
    data = b'{"format":"hitmesh backup"' + header + b"\n" + written([]).partition(b"\n")[2]
    with pytest.raises(CommandError, match="its header can't be"):
        opened(tmp_path, resealed(data))


def with_body(*lines: bytes) -> bytes:
    """A backup whose header is of something else, and whose body is these lines."""
    header = written([SETTING]).partition(b"\n")[0] + b"\n"
    return resealed(header + gzip.compress(b"".join(lines)) + b"x" * 72)


ROWS = b'{"is":"rows","dc":"eu-west","partition":2,"rows":['


@pytest.mark.parametrize(
    "body",
    [
        b"\n",
        b"junk\n",
        msgspec.json.encode(SETTING)[:-1] + b',"more":' + NESTED + b"}\n",
        ROWS + b",".join([b'["a/b",1,1]'] * 1001) + b"]}\n",
        b" " * (9 * 1024 * 1024) + msgspec.json.encode(SETTING) + b"\n",
    ],
    ids=["empty", "junk", "nested", "many rows", "long"],
)
def test_a_line_that_cannot_be_read_is_one_line(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(CommandError, match="what is in it can't be read"):
        opened(tmp_path, with_body(body))


def test_settings_that_are_more_than_any_mesh_has_are_neither_written_nor_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[Line] = [Setting(f"a/{number}", "x" * 1000, 1, "anna", 1.0) for number in range(3)]
    data = written(lines)
    assert opened(tmp_path, data) == lines
    monkeypatch.setattr(backup_file, "MAX_SETTINGS_BYTES", 2999)
    with pytest.raises(CommandError, match="can't be: its settings take more than 2999 bytes"):
        opened(tmp_path, data)
    with pytest.raises(CommandError, match="the settings take more than 2999 bytes"):
        written(lines)


def test_a_body_that_unfolds_to_much_more_takes_no_memory(tmp_path: Path) -> None:
    unfolded = {
        "one setting": msgspec.json.encode(SETTING) + b"\n",
        "settings": b"".join(
            msgspec.json.encode(Setting(f"a/{number}", "x" * 65_000, 1, "anna", 1.0)) + b"\n" for number in range(100)
        ),
        "rows": ROWS + b",".join([b'["",0,0]'] * 700_000) + b"]}\n",
    }
    for what, lines in unfolded.items():
        data = altered(with_body(lines * (20_000_000 // len(lines))), settings=100_000)
        del lines
        tracemalloc.start()
        try:
            with pytest.raises(CommandError, match=r"twice|can't be read"):
                opened(tmp_path, data)
            assert tracemalloc.get_traced_memory()[1] < 40_000_000, what
        finally:
            tracemalloc.stop()
