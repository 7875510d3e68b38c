"""The copies of a datacenter's spools and their jobs, by the names that an operator types.

Owns how copies and jobs are found, and the words where one isn't there. What may be done with a job is the spool's to say
(`hitmesh.spool`).
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from hitmesh.books.reading import copies_of
from hitmesh.cli.config import configs_of
from hitmesh.cli.job_lines import job_line
from hitmesh.cli.live_lines import short
from hitmesh.config import Config
from hitmesh.errors import CommandError, SpoolRefused, SpoolUnknown
from hitmesh.spool import BURIED, Copy, Held, Spool
from hitmesh.spool.open import is_same, open_spool, sqlite_path
from hitmesh.spool.sqlite import is_spool

_ID: Final = re.compile("(?:([0-9]{1,3})/)?([0-9]{1,18})", re.ASCII)

T = TypeVar("T")


class Line(Struct, frozen=True):
    """One copy of a spool."""

    dc: str
    copy: int  # by which it is named, from 1
    url: str
    usable: bool
    why: str  # it isn't usable
    waiting: int  # for their acks: nobody else may have them yet
    ready: int
    claimed: int
    buried: int
    oldest_s: float | None  # of those that aren't buried; None: none, or not known


class Place:
    """One copy of a datacenter's spool, opened when it is asked."""

    def __init__(self, config: Config, number: int, base: Path) -> None:
        """`config` has that copy alone."""
        self.dc, self.number = config.name, number
        [self.url] = config.stores.spools
        self.base = base
        self._config = config
        self.file = sqlite_path(self.url, base) if self.url.startswith("sqlite:") else None

    @contextlib.contextmanager
    def opened(self) -> Iterator[Spool]:
        with contextlib.closing(open_spool(self._config, self.base)) as found:
            yield found

    def is_at(self, url: str, base: Path) -> bool:
        """Whether that URL names this copy, however it is spelt."""
        return is_same(self.url, self.base, url, base)

    @contextlib.contextmanager
    def looked_into(self) -> Iterator[Copy]:
        """Raises CommandError for a third party's that can't be."""
        with self.opened() as found:
            if not isinstance(found, Copy):
                raise CommandError(f"{self.url}: this kind of spool can't be looked into, only counted")
            yield found

    def look(self, count: int) -> tuple[Line, Sequence[Held]]:
        """How it is, and its first jobs. Nothing is made: a file that isn't there has none."""
        if self.file is not None and not self.file.exists():
            return Line(self.dc, self.number, self.url, True, "", 0, 0, 0, 0, None), ()
        with self.opened() as found:
            (stats,) = found.stats()
            held: Sequence[Held] = ()
            with contextlib.suppress(SpoolRefused):
                if isinstance(found, Copy):  # what is set aside first: nobody else will look at it
                    held = list(
                        {
                            each.number: each for each in (*found.held(count, only_buried=True), *found.held(count))
                        }.values()
                    )
        jobs = [job_line(self.dc, self.number, each, time.time()) for each in held if each.state != BURIED]
        oldest_s = max((each.age_s for each in jobs if each.age_s is not None), default=None)
        return Line(
            self.dc, self.number, stats.url, stats.usable, stats.reason,
            stats.waiting, stats.ready, stats.claimed, stats.buried, oldest_s,
        ), held  # fmt: skip


def configs(dc: str | None, config_path: Path | None, state_dir: Path) -> list[Config]:
    """Those of all datacenters, or of one. Raises CommandError."""
    known = configs_of(config_path, state_dir)
    found = [each for each in known if dc in (None, each.name)]
    if not found:
        raise CommandError(f"there is no datacenter {dc}; known here: {', '.join(each.name for each in known)}")
    return found


def one_config(dc: str | None, config_path: Path | None, state_dir: Path) -> Config:
    """The one that is meant. Raises CommandError."""
    found = configs(dc, config_path, state_dir)
    if len(found) > 1:
        raise CommandError("--dc says whose spool is meant", hint=", ".join(each.name for each in found))
    return found[0]


def copies_in(config: Config, state_dir: Path) -> Iterator[Place]:
    """A datacenter's copies, in the order of its file."""
    for number, each in enumerate(copies_of(config), 1):
        yield Place(each, number, state_dir / config.name)


def named(name: str, copies: Sequence[Place]) -> Place | None:
    """The copy of that number or URL."""
    number = next((each for each in copies if name == str(each.number)), None)
    if number is not None or "://" not in name:
        return number
    return next((each for each in copies if each.is_at(name, each.base)), None)


def retired(url: str, config: Config, everybody: Sequence[Config], state_dir: Path) -> Place:
    """A copy that isn't in the configuration any more. Raises CommandError for one of another datacenter."""
    if "://" not in url:
        raise CommandError(f"there is no copy {url}", hint=f"{config.name} has {len(config.stores.spools)}, from 1 on")
    for other in everybody:
        if other.name != config.name and any(
            each.is_at(url, state_dir / config.name) for each in copies_in(other, state_dir)
        ):
            raise CommandError(
                f"{url} is {other.name}'s: what is spooled in one datacenter can't be counted in another",
                hint=f"--dc {other.name}",
            )
    stores = msgspec.structs.replace(config.stores, spools=(url,), spool_copies=0)
    return Place(msgspec.structs.replace(config, stores=stores), 0, state_dir / config.name)


def check_file(place: Place) -> None:
    """Raise CommandError for a file that is no spool: opened as one it would become one."""
    if place.file is None:
        return
    if not place.file.exists():
        raise CommandError(f"{place.file} isn't there")
    try:
        if not is_spool(place.file):
            raise CommandError(f"{place.file} is no spool")
    except OSError as error:
        raise CommandError(f"{place.file} can't be read: {error}") from error


@contextlib.contextmanager
def found_job(job_id: str, config: Config, state_dir: Path) -> Iterator[tuple[Place, Held, Copy]]:
    """The job of this ID. Raises CommandError."""
    parsed = _ID.fullmatch(job_id)
    if parsed is None:
        raise CommandError(f"{short(job_id)!r} is no job's ID", hint="it is COPY/NUMBER, such as 1/4711")
    copies = list(copies_in(config, state_dir))
    if parsed[1] is None and len(copies) > 1:
        raise CommandError(f"{config.name} has {len(copies)} copies", hint=f"say which one: 1/{parsed[2]}")
    place = named(parsed[1] or "1", copies)
    if place is None:
        raise CommandError(f"there is no copy {parsed[1]}", hint=f"{config.name} has {len(copies)}, from 1 on")
    if place.file is None or place.file.exists():
        with place.looked_into() as copy:
            held = in_words(lambda: copy.find(int(parsed[2])))
            if held is not None:
                yield place, held, copy
                return
    raise CommandError(
        f"there is no job {parsed[2]} in {place.url}", hint="it may have been counted; `hitmesh spool list --jobs`"
    )


def in_words(call: Callable[[], T]) -> T:
    """What a spool refuses, as the command's error."""
    try:
        return call()
    except (SpoolRefused, SpoolUnknown) as error:
        raise CommandError(str(error)) from error
