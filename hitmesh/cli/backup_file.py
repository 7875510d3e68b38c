"""A backup as one file: a header that people can read, what was counted and set, and a checksum over all of it.

    {"format":"hitmesh backup","version":1,...}     one line of JSON: `head -n 1 FILE`
    gzip of lines of JSON: Partition, then its Rows; at last Settings
    sha256 HEX                                      of every byte before

Owns the bytes and what may be in them; knows no store and no mesh. Whoever opens one has had the whole file
checked before the first line is read, so nothing of a file that was cut or altered is ever used.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Final

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from hitmesh.errors import CommandError, ConfigError
from hitmesh.protocol.bounds import check_chunk
from hitmesh.protocol.messages import (
    MAX_CHUNK_ROWS,
    MAX_DCS,
    MAX_PARTITIONS,
    MAX_SETTINGS,
    Chunk,
    Name,
    Number,
    Origin,
    OriginRow,
)
from hitmesh.protocol.names import MAX_NAME_CHARS
from hitmesh.settings import Edition
from hitmesh.settings.limits import check_edition

FORMAT: Final = "hitmesh backup"
VERSION: Final = 1
SUFFIX: Final = ".backup"

_MAGIC: Final = msgspec.json.encode({"format": FORMAT})[:-1]  # how every version begins
_TRAILER: Final = b"sha256 "
_TRAILER_BYTES: Final = len(_TRAILER) + 64 + 1
_MAX_HEADER_BYTES: Final = 1024 * 1024  # 64 datacenters take some 10 KiB
_MAX_LINE_BYTES: Final = 8 * 1024 * 1024  # 1,000 rows of the longest pages, each character escaped, take 7 MB
_MAX_SETTINGS: Final = 10 * MAX_SETTINGS  # ten times as many as datacenters tell each other of
MAX_SETTINGS_BYTES: Final = 64 * 1024 * 1024  # of all values, which wait in memory: 10,000 routes take 10 MB
_BLOCK_BYTES: Final = 1024 * 1024


_Word = Annotated[str, Meta(max_length=MAX_NAME_CHARS)]


class From(Struct, frozen=True, kw_only=True):
    """Where a datacenter's counts are from, and how many."""

    copy_in: _Word = ""  # the datacenter whose copy it is; empty: its own store said it
    age_s: float | None = 0.0  # of the copy, at most; None: nobody says
    pages: Number = 0
    hits: Number = 0


class Header(Struct, frozen=True, kw_only=True):
    """What is in a backup."""

    format: _Word = FORMAT
    version: int = VERSION
    release: _Word  # of hitmesh, that wrote it
    at: _Word  # when it was begun, such as 2026-11-30T00:05:01Z
    partitions: Annotated[int, Meta(ge=1, le=MAX_PARTITIONS)]
    datacenters: Annotated[Mapping[Name, From], Meta(max_length=MAX_DCS)]
    pages: Number = 0  # different ones
    hits: Number = 0
    settings: Annotated[int, Meta(ge=0, le=_MAX_SETTINGS)] = 0


class Partition(Struct, frozen=True, tag="partition", tag_field="is"):
    """One partition of one datacenter at one moment; its rows follow."""

    dc: str
    partition: int
    origin: Origin


class Rows(Struct, frozen=True, tag="rows", tag_field="is"):
    """Some rows of a partition that came before."""

    dc: str
    partition: int
    rows: Annotated[tuple[OriginRow, ...], Meta(max_length=MAX_CHUNK_ROWS)]


class Setting(Struct, frozen=True, tag="setting", tag_field="is"):
    """A live setting."""

    key: str
    value: str
    version: int
    author: str
    changed_at: float

    @property
    def edition(self) -> Edition:
        """As settings stores know it."""
        return Edition(self.key, self.value.encode(), self.version, self.author, self.changed_at)


Line = Partition | Rows | Setting


class _Version(Struct):
    version: object = None


_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, OSError, EOFError, zlib.error, RecursionError)


class Writer:
    """A backup being written: `add` each line, then `finish`."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is where the lines wait, compressed, until the header is known; None: where temporary files are."""
        self._body = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - until finish or close
        self._gzip = gzip.GzipFile(filename="", mode="wb", fileobj=self._body, mtime=0)
        self._pages: set[str] = set()
        self._sources: dict[str, From] = {}
        self._settings = self._settings_bytes = 0

    def source(self, dc: str, source: From) -> None:
        """Say where the counts of a datacenter are from."""
        self._sources[dc] = source

    def add(self, line: Line) -> None:
        """Put a line behind the others."""
        self._gzip.write(msgspec.json.encode(line) + b"\n")
        if isinstance(line, Setting):
            self._settings += 1
            self._settings_bytes += len(line.value)
            if self._settings > _MAX_SETTINGS or self._settings_bytes > MAX_SETTINGS_BYTES:
                raise CommandError(
                    f"the settings take more than {MAX_SETTINGS_BYTES} bytes, or are more than {_MAX_SETTINGS}: nobody could restore them"
                )
        elif isinstance(line, Rows):
            source = self._sources[line.dc]
            self._pages.update(row.page for row in line.rows)
            self._sources[line.dc] = replace(
                source, pages=source.pages + len(line.rows), hits=source.hits + sum(row.count for row in line.rows)
            )

    def finish(self, header: Header, out: IO[bytes]) -> Header:
        """Write all of it to `out`; the header as it is now, with what was counted."""
        self._gzip.close()
        header = replace(
            header,
            datacenters=self._sources,
            pages=len(self._pages),
            hits=sum(source.hits for source in self._sources.values()),
            settings=self._settings,
        )
        digest = hashlib.sha256()
        self._body.seek(0)
        for block in (msgspec.json.encode(header) + b"\n", *iter(lambda: self._body.read(_BLOCK_BYTES), b"")):
            digest.update(block)
            out.write(block)
        out.write(_TRAILER + digest.hexdigest().encode() + b"\n")
        out.flush()
        return header

    def close(self) -> None:
        """Give up what wasn't finished."""
        self._body.close()


class BackupFile:
    """A whole, unaltered backup: all of it was checked when this was made. Raises CommandError for anything else."""

    def __init__(self, path: Path, name: str = "") -> None:
        """`path` `-` is standard input, which is kept in a temporary file while this is open; `name` is said in errors."""
        self.name = name or ("standard input" if str(path) == "-" else str(path))
        try:
            self._file = _stdin() if str(path) == "-" else path.open("rb")
        except OSError as error:
            raise CommandError(f"{self.name}: can't be read: {error.strerror}") from error
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self.header, self.digest = self._check()
        except OSError as error:
            self.close()
            raise CommandError(f"{self.name}: can't be read: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> BackupFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give up the file."""
        self._file.close()

    def lines(self) -> Iterator[Line]:
        """Every line, each of which can be: rows of their partition, counts that there can be, and no more than the header says.

        Raises CommandError at the first that can't, and at the end when some are missing.
        """
        self._file.seek(0)
        self._file.readline(_MAX_HEADER_BYTES)
        body = _Part(self._file, self._size - _TRAILER_BYTES)
        decoder = msgspec.json.Decoder(Line)
        seen = _Seen(self.header)
        try:
            with gzip.GzipFile(fileobj=body) as lines:
                while text := lines.readline(_MAX_LINE_BYTES):
                    line = decoder.decode(text)
                    if reason := seen.why_not(line):
                        raise CommandError(f"{self.name}: what is in it can't be: {reason}")
                    yield line
        except _UNREADABLE as error:
            raise CommandError(f"{self.name}: what is in it can't be read: {error}") from error
        if reason := seen.missing():
            raise CommandError(f"{self.name}: it doesn't have what its header says: {reason}")

    def _check(self) -> tuple[Header, str]:
        line = self._file.readline(_MAX_HEADER_BYTES)
        if not line.startswith(_MAGIC):
            raise CommandError(f"{self.name}: not a backup that hitmesh has written")
        digest, left = hashlib.sha256(line), self._size - len(line) - _TRAILER_BYTES
        while left > 0 and (block := self._file.read(min(left, _BLOCK_BYTES))):
            digest.update(block)
            left -= len(block)
        if left or self._file.read() != _TRAILER + digest.hexdigest().encode() + b"\n":
            raise CommandError(
                f"{self.name}: it was cut or altered: its checksum isn't that of what is in it", hint="take another one"
            )
        try:
            version = msgspec.json.decode(line, type=_Version).version
        except _UNREADABLE as error:
            raise CommandError(f"{self.name}: its header can't be read: {error}") from error
        if version != VERSION:
            raise CommandError(
                f"{self.name}: a backup of version {version!a:.20}; this release reads version {VERSION}",
                hint="use the release that wrote it, or a later one",
            )
        try:
            return msgspec.json.decode(line, type=Header), digest.hexdigest()
        except _UNREADABLE as error:
            raise CommandError(f"{self.name}: its header can't be: {error}") from error


class _Part(io.RawIOBase):
    """A file up to a position, for gzip: what follows isn't its business."""

    def __init__(self, file: IO[bytes], end: int) -> None:
        self._file, self._end = file, end

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._file.tell()
        return self._file.read(left if size < 0 else min(size, left))


class _Seen:
    """What the lines until now have said, which is no more than the header says."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._origins: dict[tuple[str, int], Origin] = {}
        self._pages: Counter[str] = Counter()  # by datacenter
        self._hits: Counter[str] = Counter()
        self._settings: set[str] = set()
        self._settings_bytes = 0

    def why_not(self, line: Line) -> str:
        """Why this can't be the next line; empty when it can."""
        return self._setting(line) if isinstance(line, Setting) else self._counted(line)

    def missing(self) -> str:
        """What the header says that hasn't come; empty when all has."""
        header = self._header
        for dc, source in header.datacenters.items():
            if (self._pages[dc], self._hits[dc]) != (source.pages, source.hits):
                return f"{self._hits[dc]} hits of {self._pages[dc]} pages of {dc}, not {source.hits} of {source.pages}"
        if self._hits.total() != header.hits:
            return f"{self._hits.total()} hits, not {header.hits}"
        if len(self._settings) != header.settings:
            return f"{len(self._settings)} settings, not {header.settings}"
        return ""

    def _setting(self, line: Setting) -> str:
        try:
            check_edition(line.edition)
        except ConfigError as error:
            return str(error)
        if line.key in self._settings:
            return f"{line.key} is set twice"
        self._settings.add(line.key)
        self._settings_bytes += len(line.value)
        if len(self._settings) > self._header.settings:
            return f"more than its {self._header.settings} settings"
        return (
            f"its settings take more than {MAX_SETTINGS_BYTES} bytes"
            if self._settings_bytes > MAX_SETTINGS_BYTES
            else ""
        )

    def _counted(self, line: Partition | Rows) -> str:
        where = line.dc, line.partition
        if line.dc not in self._header.datacenters or line.partition >= self._header.partitions:
            return f"partition {line.partition} of {line.dc!a:.140}"
        if isinstance(line, Partition):
            if where in self._origins:
                return f"partition {line.partition} of {line.dc} twice"
            self._origins[where] = line.origin
        elif where not in self._origins:
            return f"rows of partition {line.partition} of {line.dc} before what they belong to"
        rows = line.rows if isinstance(line, Rows) else ()
        chunk = Chunk(line.partition, line.dc, 0, 0, 0, True, self._origins[where], rows, {})
        if reason := check_chunk(chunk, self._header.partitions):
            return reason
        self._pages[line.dc] += len(rows)
        self._hits[line.dc] += sum(row.count for row in rows)
        source = self._header.datacenters[line.dc]
        if self._pages[line.dc] > source.pages or self._hits[line.dc] > source.hits:
            return f"more than its {source.hits} hits of {source.pages} pages of {line.dc}"
        return ""


def _stdin() -> IO[bytes]:
    kept = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's
    with open(0, "rb", closefd=False) as given:
        shutil.copyfileobj(given, kept)
    kept.seek(0)
    return kept
