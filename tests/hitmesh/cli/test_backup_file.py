"""A backup's file: what goes in comes out, and nothing of a file that was cut or altered is used."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest

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
    writer = Writer(None)
    writer.source("eu-west", From())
    for line in lines:
        writer.add(line)
    out = io.BytesIO()
    header = Header(release="0.2.0", at="2026-11-30T00:05:01Z", partitions=PARTITIONS, datacenters={})
    writer.finish(header, out)
    writer.close()
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
    ],
)
def test_what_can_t_be_is_refused(tmp_path: Path, lines: list[Line], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        opened(tmp_path, written(lines))
