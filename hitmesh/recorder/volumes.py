"""The volumes of one recorder: files of blocks, one for an hour and another one after each start, within a bound.

    FOLDER/2026-11-30T11.000042.records      the hour in UTC, and a number that rises with each

It owns the folder. Nothing here is called by two at once, but for `read`, which changes nothing. All of it blocks.

Invariants:
- A volume is whole blocks, but for the end of one that a crash cut off: what a failed write left is cut off at once, or
  that volume isn't written any more.
- The oldest ones go before there are more bytes than `max_bytes`; never the one that is being written. For their age they
  go one at a time, AGED_S apart: a clock that jumps ahead leaves most of them until somebody has mended it.
- What can't be read, of a block or of a volume, is named in its place (a Gap of 0 entries), and hides nothing else.
"""

from __future__ import annotations

import calendar
import contextlib
import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from hitmesh.logs import Complaints
from hitmesh.protocol.messages import MAX_PACKED_BLOCKS
from hitmesh.recorder.blocks import HEAD, Head, head_of, message_of, pack, unread

SHARE: Final = 8  # volumes at least that max_bytes is: so much of it is gone when the oldest one goes
DAY_S: Final = 86_400
LAST_NUMBER: Final = 10**15 - 1  # somebody else's: so many no recorder writes; one more and _NAME knew it no more
AGED_S: Final = 900.0  # between two volumes that go for their age, whatever the clock says: it may be a wrong one
SKEW_S: Final = 3600  # between the clock of a recorder and its senders': a volume of before isn't looked into
_NAME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}\.([0-9]{6,15})\.records")


log = logging.getLogger(__name__)


class Volume(NamedTuple):
    """One that is there."""

    number: int
    path: Path
    size_bytes: int
    changed_s: float


class Place(NamedTuple):
    """Where to read on."""

    volume: int  # 0: at the first one
    offset: int


class Found(NamedTuple):
    """Some blocks, and where those after them are."""

    packed: bytes
    place: Place
    more: bool  # whether there is something now


def volumes_in(folder: Path) -> list[Volume]:
    """Those of a folder, the oldest first. Raises OSError, but not for a folder that isn't there."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if name := _NAME.fullmatch(entry.name):
                with contextlib.suppress(FileNotFoundError):
                    stat = entry.stat(follow_symlinks=False)
                    found.append(Volume(int(name[1]), Path(entry.path), stat.st_size, stat.st_mtime))
    return sorted(found)


class Volumes:
    """Those that one recorder writes."""

    def __init__(
        self, folder: Path, *, max_bytes: int, max_days: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._max_bytes, self._max_s = max_bytes, max_days * DAY_S
        self._volume_bytes = max_bytes // SHARE
        self._clock = clock
        self._aged_s = float("-inf")  # when a volume went for its age last
        self._complaints = Complaints(log)
        self._file: int | None = None
        self._path = folder
        self._hour = ""
        self._size_bytes = 0  # of the one that is being written
        self._number = 0
        self.total_bytes = 0
        """Of all of them."""

    def write(self, items: Sequence[tuple[bytes, int, int]], now_s: float) -> None:
        """Append one block. Raises OSError; then nothing of it is there."""
        block = pack(items)
        hour = time.strftime("%Y-%m-%dT%H", time.gmtime(now_s))
        if not self._is_there() or hour != self._hour or self._size_bytes + len(block) > self._volume_bytes:
            self._begin(hour)
        self._make_room(len(block), now_s)
        assert self._file is not None
        written = 0
        try:
            while written < len(block):
                written += os.write(self._file, block[written:])
        except OSError:
            self._take_back()
            raise
        self._size_bytes += len(block)
        self.total_bytes += len(block)

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _is_there(self) -> bool:
        """Whether the volume that is being written still has its name: anybody may delete one."""
        if self._file is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._file), self._path.lstat())
        except OSError:
            return False

    def _begin(self, hour: str) -> None:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        there = volumes_in(self._folder)
        if there and there[-1].number >= LAST_NUMBER:
            raise OSError(errno.EOVERFLOW, f"{there[-1].path.name} has the last number there is; remove it")
        self._number = max([self._number, *(one.number for one in there)]) + 1
        self._path = self._folder / f"{hour}.{self._number:06d}.records"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._hour, self._size_bytes = hour, 0

    def _take_back(self) -> None:
        """Cut off what a write left behind, or go on in another volume."""
        assert self._file is not None
        try:
            os.ftruncate(self._file, self._size_bytes)
            os.lseek(self._file, self._size_bytes, os.SEEK_SET)
        except OSError:
            self.close()

    def _make_room(self, more_bytes: int, now_s: float) -> None:
        there = volumes_in(self._folder)
        total = sum(one.size_bytes for one in there)
        failed: OSError | None = None
        for one in there:
            is_too_much = total + more_bytes > self._max_bytes
            is_old = now_s - one.changed_s > self._max_s and self._clock() - self._aged_s >= AGED_S
            if one.path == self._path or not (is_old or is_too_much):
                continue
            try:
                one.path.unlink(missing_ok=True)
            except OSError as error:
                failed = error
                self._complaints.warn("delete", "a volume can't be deleted: %s", error)
                continue
            total -= one.size_bytes
            if not is_too_much:
                self._aged_s = self._clock()
        self.total_bytes = total
        if failed is not None and total + more_bytes > self._max_bytes:
            raise failed


def read(folder: Path, since_ms: int, until_ms: int, place: Place, limit_bytes: int = MAX_PACKED_BLOCKS) -> Found:
    """The blocks from `place` on that have something of a while, up to a limit.

    In the place of what a volume has that can't be read is a block that says so. Raises OSError for the folder alone.
    """
    there = [one for one in volumes_in(folder) if one.number >= place.volume]
    packed: list[bytes] = []
    size = 0
    for one in there:
        wrong = ""
        at = place.offset if one.number == place.volume else 0
        place = Place(one.number, at)
        if (one.changed_s + SKEW_S) * 1000 < since_ms:
            place = Place(one.number, max(at, one.size_bytes))
            continue
        try:
            with _opened(one.path) as file:
                for offset, head in _heads(file, at):
                    place = Place(one.number, offset)
                    if head.last_ms >= since_ms and head.first_ms < until_ms:
                        if size + head.size_bytes > limit_bytes:
                            return Found(b"".join(packed), place, more=True)
                        packed.append(_block(file, offset, head))
                        size += head.size_bytes
                    place = Place(one.number, offset + head.size_bytes)
                wrong = _end(file, place.offset, is_last=one is there[-1])
        except FileNotFoundError:
            continue  # it was the oldest
        except OSError as error:
            wrong = error.strerror or str(error)
        if wrong:
            gap = unread(folder.name, _begun_ms(one), int(one.changed_s * 1000), f"{one.path.name}: {wrong}")
            block = pack([message_of(gap)])
            if size + len(block) > limit_bytes:
                return Found(b"".join(packed), place, more=True)
            packed.append(block)
            size += len(block)
            place = Place(one.number + 1, 0)  # it is said once
    return Found(b"".join(packed), place, more=False)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A file to read; whatever else has its name is no reason to wait."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


def _block(file: int, offset: int, head: Head) -> bytes:
    block = os.pread(file, head.size_bytes, offset)
    if len(block) < head.size_bytes:
        raise OSError("it was cut off")
    return block


def _end(file: int, at: int, *, is_last: bool) -> str:
    """What is wrong behind the last whole block; empty where nothing is. To the last volume a block may just be written."""
    rest = os.fstat(file).st_size - at
    if rest >= HEAD.size and head_of(os.pread(file, HEAD.size, at)) is None:
        return f"what begins at byte {at} isn't a block"
    return "" if rest <= 0 or is_last else f"the block at byte {at} isn't whole"


def _begun_ms(volume: Volume) -> int:
    """The hour in a volume's name; 0 where there is no such hour."""
    try:
        return max(0, calendar.timegm(time.strptime(volume.path.name[:13], "%Y-%m-%dT%H"))) * 1000
    except ValueError:
        return 0


def _heads(file: int, at: int) -> Iterator[tuple[int, Head]]:
    """Every whole block of a file from an offset on."""
    size = os.fstat(file).st_size
    while (head := head_of(os.pread(file, HEAD.size, at))) is not None and at + head.size_bytes <= size:
        yield at, head
        at += head.size_bytes
