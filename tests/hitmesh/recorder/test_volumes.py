"""Volumes on a disk: by hour, bounded, readable after any end, also from a place on."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hitmesh.protocol.messages import Gap, Records
from hitmesh.recorder.blocks import HEAD, Recorded, message_of, unpack
from hitmesh.recorder.volumes import AGED_S, SHARE, Place, Volumes, read, volumes_in
from tests.hitmesh.recorder.samples import line, records

MIB = 1024 * 1024
NOON_S = 1_796_040_000.0  # 2026-11-30T12:00:00Z
EVER = 2**62


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes(tmp_path / "recorder-1", max_bytes=MIB, max_days=30)


def write(volumes: Volumes, text: str = "x", *, number: int = 1, now_s: float = NOON_S) -> None:
    volumes.write([message_of(records(line(text, int(now_s * 1000)), first=number))], now_s)


def messages_in(folder: Path, since_ms: int, until_ms: int) -> Iterator[Recorded]:
    """What is recorded of a while, read on and on."""
    place, more = Place(0, 0), True
    while more:
        packed, place, more = read(folder, since_ms, until_ms, place)
        yield from unpack(packed, folder.name)


def numbers(folder: Path, since_ms: int = 0, until_ms: int = EVER) -> list[int]:
    found = messages_in(folder / "recorder-1", since_ms, until_ms)
    return [one.first for one in found if isinstance(one, Records)]


def unreadable(folder: Path) -> list[str]:
    found = messages_in(folder / "recorder-1", 0, EVER)
    return [one.why for one in found if isinstance(one, Gap) and not one.entries]


def names(folder: Path) -> list[str]:
    return [one.path.name for one in volumes_in(folder / "recorder-1")]


def test_each_hour_and_each_start_begins_a_volume(tmp_path: Path, volumes: Volumes) -> None:
    write(volumes, number=1)
    write(volumes, number=2, now_s=NOON_S + 3599)
    write(volumes, number=3, now_s=NOON_S + 3600)
    again = Volumes(tmp_path / "recorder-1", max_bytes=MIB, max_days=30)
    write(again, number=4, now_s=NOON_S + 3601)
    assert names(tmp_path) == [
        "2026-11-30T12.000001.records",
        "2026-11-30T13.000002.records",
        "2026-11-30T13.000003.records",
    ]
    assert numbers(tmp_path) == [1, 2, 3, 4]


def test_a_clock_that_is_set_back_changes_no_order(tmp_path: Path, volumes: Volumes) -> None:
    write(volumes, number=1)
    write(volumes, number=2, now_s=NOON_S - 86_400)
    assert numbers(tmp_path) == [1, 2]


def test_the_oldest_go_before_there_are_more_bytes_than_the_bound(tmp_path: Path, volumes: Volumes) -> None:
    for number in range(1, 400):
        text = os.urandom(4000).hex()
        write(volumes, text, number=number)
        there = volumes_in(tmp_path / "recorder-1")
        assert sum(one.size_bytes for one in there) <= MIB
        assert all(one.size_bytes <= MIB // SHARE for one in there)
    found = numbers(tmp_path)
    assert found == list(range(found[0], 400))
    assert volumes.total_bytes == sum(one.size_bytes for one in volumes_in(tmp_path / "recorder-1")) > MIB // 2


def test_a_volume_that_is_too_old_goes(tmp_path: Path, volumes: Volumes) -> None:
    write(volumes, number=1)
    os.utime(volumes_in(tmp_path / "recorder-1")[0].path, (NOON_S, NOON_S))
    write(volumes, number=2, now_s=NOON_S + 31 * 86_400)
    assert numbers(tmp_path) == [2]


@pytest.mark.parametrize("cut", [1, 10, HEAD.size - 1, HEAD.size, HEAD.size + 5])
def test_what_a_crash_left_behind_hides_nothing_before_and_after_it(tmp_path: Path, volumes: Volumes, cut: int) -> None:
    write(volumes, number=1)
    write(volumes, number=2)
    path = volumes_in(tmp_path / "recorder-1")[0].path
    os.truncate(path, path.stat().st_size - cut)
    again = Volumes(tmp_path / "recorder-1", max_bytes=MIB, max_days=30)
    write(again, number=3)
    assert numbers(tmp_path) == [1, 3]


def test_a_block_that_is_no_block_ends_its_volume_only(tmp_path: Path, volumes: Volumes) -> None:
    write(volumes, number=1)
    path = volumes_in(tmp_path / "recorder-1")[0].path
    path.write_bytes(path.read_bytes() + b"garbage" * 100)
    size = path.stat().st_size - 700
    assert unreadable(tmp_path) == [f"{path.name}: what begins at byte {size} isn't a block"]
    again = Volumes(tmp_path / "recorder-1", max_bytes=MIB, max_days=30)
    write(again, number=2)
    assert numbers(tmp_path) == [1, 2]
    assert unreadable(tmp_path) == [f"{path.name}: what begins at byte {size} isn't a block"]


def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(volumes, number=1)
    real = os.write

    def half(file: int, data: bytes) -> int:
        if len(data) < 40:
            raise OSError(errno.ENOSPC, "no space left")
        return real(file, data[: len(data) // 2])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half)
        with pytest.raises(OSError, match="no space"):
            write(volumes, number=2)
    write(volumes, number=3)
    assert numbers(tmp_path) == [1, 3]
    assert len(names(tmp_path)) == 1


def test_a_volume_that_can_not_be_cut_is_written_no_more(
    tmp_path: Path, volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> int:
        raise OSError(errno.EIO, "broken")

    write(volumes, number=1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", broken)
        patched.setattr(os, "ftruncate", broken)
        with pytest.raises(OSError, match="broken"):
            write(volumes, number=2)
    write(volumes, number=3)
    assert numbers(tmp_path) == [1, 3]
    assert len(names(tmp_path)) == 2


def test_who_reads_on_gets_each_block_once_in_pages(tmp_path: Path, volumes: Volumes) -> None:
    for number in range(1, 41):
        write(volumes, os.urandom(3000).hex(), number=number, now_s=NOON_S + number * 900)
    place, found, pages = Place(0, 0), [], 0
    more = True
    while more:
        packed, place, more = read(tmp_path / "recorder-1", 0, EVER, place, 20_000)
        assert len(packed) <= 20_000
        found += [one.first for one in unpack(packed, "recorder-1") if isinstance(one, Records)]
        pages += 1
    assert found == list(range(1, 41))
    assert pages > 5
    assert read(tmp_path / "recorder-1", 0, EVER, place).packed == b""
    write(volumes, number=41, now_s=NOON_S + 41 * 900)
    assert [
        one.first
        for one in unpack(read(tmp_path / "recorder-1", 0, EVER, place).packed, "recorder-1")
        if not isinstance(one, Gap)
    ] == [41]


def test_blocks_of_another_time_are_passed_over(tmp_path: Path, volumes: Volumes) -> None:
    for number in range(1, 11):
        write(volumes, number=number, now_s=NOON_S + number)
    assert numbers(tmp_path, int((NOON_S + 3) * 1000), int((NOON_S + 6) * 1000)) == [3, 4, 5]


def test_a_place_in_a_volume_that_is_gone_is_that_of_the_next_one(tmp_path: Path, volumes: Volumes) -> None:
    write(volumes, number=1)
    write(volumes, number=2, now_s=NOON_S + 3600)
    volumes_in(tmp_path / "recorder-1")[0].path.unlink()
    packed = read(tmp_path / "recorder-1", 0, EVER, Place(1, 5000)).packed
    assert [one.first for one in unpack(packed, "recorder-1") if isinstance(one, Records)] == [2]


def test_other_files_there_are_left_alone(tmp_path: Path, volumes: Volumes) -> None:
    (tmp_path / "recorder-1").mkdir()
    for name in ("notes.txt", "2026-11-30T12.records", "2026-11-30T12.\u0661\u0661\u0661\u0661\u0661\u0661.records"):
        (tmp_path / "recorder-1" / name).write_bytes(b"x" * 2 * MIB)
    write(volumes)
    assert names(tmp_path) == ["2026-11-30T12.000001.records"]
    assert len(list((tmp_path / "recorder-1").iterdir())) == 4


def test_a_block_that_can_not_be_unpacked_hides_nothing_else(tmp_path: Path, volumes: Volumes) -> None:
    for number in (1, 2, 3):
        write(volumes, number=number)
    write(volumes, number=4, now_s=NOON_S + 3600)
    path = volumes_in(tmp_path / "recorder-1")[0].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert numbers(tmp_path) == [1, 3, 4]
    [why] = unreadable(tmp_path)
    assert why.startswith("a block can't be read: ")


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
def test_a_volume_that_can_not_be_read_hides_nothing_else_and_is_named(
    tmp_path: Path, volumes: Volumes, kind: str
) -> None:
    write(volumes, number=1)
    write(volumes, number=2, now_s=NOON_S + 3600)
    path = tmp_path / "recorder-1" / "2026-11-30T12.000000.records"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    assert numbers(tmp_path) == [1, 2]
    [why] = unreadable(tmp_path)
    assert why.startswith(f"{path.name}: ")
    found = read(tmp_path / "recorder-1", 0, EVER, Place(0, 0))
    assert read(tmp_path / "recorder-1", 0, EVER, found.place).packed == b"", "it is said once"


def test_a_volume_that_can_not_be_deleted_fails_no_write_and_the_others_go(tmp_path: Path, volumes: Volumes) -> None:
    path = tmp_path / "recorder-1" / "2026-11-30T12.000000.records"
    path.mkdir(parents=True)
    os.utime(path, (NOON_S - 90 * 86_400,) * 2)
    for number in range(1, 400):
        write(volumes, os.urandom(4000).hex(), number=number)
    assert path.is_dir()
    assert volumes.total_bytes <= MIB
    assert numbers(tmp_path)[-1] == 399


def test_where_nothing_can_be_deleted_the_bound_holds(
    tmp_path: Path, volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refused)
    failed = 0
    for number in range(1, 400):
        try:
            write(volumes, os.urandom(4000).hex(), number=number)
        except PermissionError:
            failed += 1
    assert failed > 100
    assert sum(one.size_bytes for one in volumes_in(tmp_path / "recorder-1")) <= MIB


@pytest.mark.parametrize("what", ["deleted", "replaced", "folder"])
def test_a_volume_that_somebody_deletes_while_it_is_written_is_followed_by_another_one(
    tmp_path: Path, volumes: Volumes, what: str
) -> None:
    write(volumes, number=1)
    path = volumes_in(tmp_path / "recorder-1")[0].path
    if what == "replaced":
        path.with_name("copy").write_bytes(path.read_bytes())
        path.with_name("copy").rename(path)
    else:
        path.unlink()
    if what == "folder":
        path.parent.rmdir()
    write(volumes, number=2)
    assert numbers(tmp_path) == ([1, 2] if what == "replaced" else [2])


def test_a_clock_that_jumps_ahead_deletes_one_volume_at_a_time(tmp_path: Path) -> None:
    clock = [0.0]
    volumes = Volumes(tmp_path / "recorder-1", max_bytes=MIB, max_days=30, clock=lambda: clock[0])
    for number in range(1, 11):
        write(volumes, number=number, now_s=NOON_S + number * 3600)
        os.utime(volumes_in(tmp_path / "recorder-1")[-1].path, (NOON_S + number * 3600,) * 2)
    for _ in range(5):
        write(volumes, number=11, now_s=NOON_S + 60 * 86_400)
    assert numbers(tmp_path)[:9] == list(range(2, 11))
    write(volumes, number=12, now_s=NOON_S + 11 * 3600)
    clock[0] += AGED_S
    write(volumes, number=13, now_s=NOON_S + 60 * 86_400)
    assert numbers(tmp_path)[:8] == list(range(3, 11))


def test_numbers_that_are_used_up_are_said_and_hide_no_line(tmp_path: Path, volumes: Volumes) -> None:
    path = tmp_path / "recorder-1" / "2026-11-30T12.999999999999999.records"
    path.parent.mkdir()
    path.touch()
    for _ in range(2):
        with pytest.raises(OSError, match=f"{path.name} has the last number there is; remove it"):
            write(volumes, number=1)
    path.unlink()
    write(volumes, number=1)
    assert numbers(tmp_path) == [1]
