"""`hitmesh spool`: what lies in a datacenter's spools, and putting it right.

Owns how copies and jobs are named and shown. What may be done with a job is the spool's to say (`hitmesh.spool`), and how
jobs are moved `hitmesh.spool.moving`'s.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec
from msgspec import Struct

from hitmesh.books.reading import copies_of
from hitmesh.cli.columns import columns
from hitmesh.cli.config import configs_of
from hitmesh.cli.job_lines import JobLine, job_line, job_text, jobs_table
from hitmesh.cli.live_lines import short
from hitmesh.cli.options import Seconds, config_option, json_option, state_dir_option
from hitmesh.cli.picture import duration
from hitmesh.cli.progress import Progress
from hitmesh.config import Config
from hitmesh.errors import CommandError, SpoolRefused, SpoolUnknown
from hitmesh.mistakes import nearest
from hitmesh.spool import BURIED, Copy, CopyStats, Held, Spool
from hitmesh.spool.moving import move as move_jobs
from hitmesh.spool.open import is_same, open_spool, sqlite_path
from hitmesh.spool.sqlite import is_spool
from hitmesh.visible import visible

F = TypeVar("F", bound=Callable[..., object])

FIRST: Final = 100  # jobs of a copy that are looked at for the oldest: claimed again they keep their place
_ID: Final = re.compile("(?:([0-9]{1,3})/)?([0-9]{1,18})", re.ASCII)


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


def _places(command: F) -> F:
    for option in (config_option, click.option("--dc", metavar="NAME", help="Of this datacenter."), state_dir_option):
        command = option(command)
    return command


@click.group(short_help="Look into the spools, and put their jobs right.")
def spool() -> None:
    """Look into a datacenter's spools: the servers or files where hits are on disk until they are committed.

    A copy is named by its number in `hitmesh spool list`, or by its URL; a job by COPY/NUMBER, or by its number alone where
    there is one copy.

    \b
    Example:
      hitmesh spool list
      hitmesh spool kick --all
    """


@spool.command("list", short_help="Show every server or file: how much waits, since when, usable or why not.")
@click.option(
    "--jobs", "with_jobs", is_flag=True, help="The first jobs of each, too; beanstalkd shows one of each state."
)
@click.option(
    "-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, metavar="N", help="How many."
)
@_places
@json_option
def list_(
    with_jobs: bool, count: int, dc: str | None, config_path: Path | None, state_dir: Path, as_json: bool
) -> None:
    """Show each copy of each spool: its jobs by state, how old the oldest is, and whether it can be used.

    `waiting` for the ack of their collector, `ready` for any, `claimed` by one that resends them, `buried`: set aside.

    \b
    Example:
      hitmesh spool list --jobs
    """
    lines, jobs = [], []
    for config in _configs(dc, config_path, state_dir):
        for place in _copies(config, state_dir):
            line, held = place.look(max(FIRST, count))
            lines.append(line)
            jobs += [job_line(place.dc, place.number, each, time.time()) for each in held[:count]]
    if as_json:
        found: list[dict[str, Any]] = [{name: getattr(each, name) for name in Line.__struct_fields__} for each in lines]
        if with_jobs:
            for each in found:
                each["jobs"] = [
                    {name: getattr(job, name) for name in JobLine.__struct_fields__}
                    for job in jobs
                    if (job.dc, job.copy) == (each["dc"], each["copy"])
                ]
        print(json.dumps(found, indent=2))
        return
    print(table(lines))
    if with_jobs and jobs:
        print("\n" + jobs_table(jobs))


@spool.command(short_help="Show one job.")
@click.argument("job_id", metavar="ID")
@_places
@json_option
def show(job_id: str, dc: str | None, config_path: Path | None, state_dir: Path, as_json: bool) -> None:
    """Show job ID decoded: whose it is, how old, and of each part its partition, lane, sequence and pages.

    \b
    Example:
      hitmesh spool show 1/4711 --dc eu-west
    """
    config = _one_config(dc, config_path, state_dir)
    with _found(job_id, config, state_dir) as (place, held, _):
        print(job_text(place.dc, place.number, held, time.time(), as_json=as_json))


@spool.command(short_help="Make set-aside jobs claimable again.")
@click.argument("job_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "all_buried", is_flag=True, help="Every job that is set aside.")
@_places
def kick(job_ids: Sequence[str], all_buried: bool, dc: str | None, config_path: Path | None, state_dir: Path) -> int:
    """Make jobs that were set aside, or given out and not ended, claimable now.

    A collector then claims and resends them, and they are counted once, by their lanes. One that can't be read, or is too
    old to be told from a counted one, is set aside again. One that was never given out is refused: it isn't late.

    \b
    Example:
      hitmesh spool kick 1/4711 1/4712
      hitmesh spool kick --all
    """
    if bool(job_ids) == all_buried:
        raise click.UsageError("name the jobs, or say --all")
    config = _one_config(dc, config_path, state_dir)
    if all_buried:
        kicked = sum(_kick_buried(place) for place in _copies(config, state_dir))
    else:
        kicked = 0
        for each in job_ids:
            with _found(each, config, state_dir) as (_, held, copy):
                if not _told(lambda copy=copy, held=held: copy.kick(held.number)):  # type: ignore[misc]
                    raise CommandError(f"job {each} is gone", hint=f"{kicked} were kicked before it")
                kicked += 1
    print(f"{kicked} {'job is' if kicked == 1 else 'jobs are'} claimable now")
    return 0


@spool.command(short_help="Move the jobs of one server or file to another.")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--within", "within_s", type=Seconds(0), default=20.0, show_default=True, metavar="S",
              help="Seconds to wait for those that wait for their acks, or are claimed.")  # fmt: skip
@_places
def move(source: str, target: str, within_s: float, dc: str | None, config_path: Path | None, state_dir: Path) -> int:
    """Move the jobs of copy FROM to copy TO of the same datacenter, while both are used. Each is counted once.

    A job is on disk at TO before it is deleted at FROM. Interrupted anywhere, nothing is lost: the same command goes on.
    TO is a copy that collectors use. FROM may be the URL of one that isn't in the configuration any more. What is set
    aside (buried) stays: kick it first. Status 1: something is left.

    \b
    Example:
      hitmesh spool move beanstalk://10.1.0.11:11300/hitmesh 1 --dc eu-west
    """
    config = _one_config(dc, config_path, state_dir)
    copies = list(_copies(config, state_dir))
    into = _named(target, copies)
    if into is None:
        raise CommandError(
            f"no collector of {config.name} uses {target}, so nobody would count its jobs",
            hint=nearest(target, [each.url for each in copies]),
        )
    from_ = _named(source, copies) or _retired(source, config, _configs(None, config_path, state_dir), state_dir)
    if from_.is_at(into.url, into.base):
        raise CommandError(f"{source} and {target} are the same")
    _check_file(from_)
    progress = Progress()

    def told(moved: int, left: CopyStats) -> None:
        progress.show(f"{moved} moved; {_remaining(left)}")

    with from_.opened() as source_spool, into.opened() as target_spool:
        try:
            moved = _told(lambda: move_jobs(source_spool, target_spool, within_s=within_s, told=told))
        finally:
            progress.end()
    left = moved.left.waiting + moved.left.ready + moved.left.claimed
    print(visible(f"{moved.jobs} jobs moved from {from_.url} to {into.url}; {_remaining(moved.left)}"))
    return 1 if left else 0


def table(lines: Sequence[Line]) -> str:
    """Columns for people."""
    rows: list[tuple[str, ...]] = [("DC", "COPY", "WAITING", "READY", "CLAIMED", "BURIED", "OLDEST", "WHERE", "STATE")]
    for each in lines:
        counts = (str(count) for count in (each.waiting, each.ready, each.claimed, each.buried))
        oldest = "-" if each.oldest_s is None else duration(each.oldest_s)
        state = "usable" if each.usable else f"not usable: {each.why}"
        rows.append((each.dc, str(each.copy), *counts, oldest, each.url, state))
    return columns(rows)


class _Place:
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


def _configs(dc: str | None, config_path: Path | None, state_dir: Path) -> list[Config]:
    configs = configs_of(config_path, state_dir)
    found = [each for each in configs if dc in (None, each.name)]
    if not found:
        raise CommandError(f"there is no datacenter {dc}; known here: {', '.join(each.name for each in configs)}")
    return found


def _one_config(dc: str | None, config_path: Path | None, state_dir: Path) -> Config:
    found = _configs(dc, config_path, state_dir)
    if len(found) > 1:
        raise CommandError("--dc says whose spool is meant", hint=", ".join(each.name for each in found))
    return found[0]


def _copies(config: Config, state_dir: Path) -> Iterator[_Place]:
    for number, each in enumerate(copies_of(config), 1):
        yield _Place(each, number, state_dir / config.name)


def _named(name: str, copies: Sequence[_Place]) -> _Place | None:
    number = next((each for each in copies if name == str(each.number)), None)
    if number is not None or "://" not in name:
        return number
    return next((each for each in copies if each.is_at(name, each.base)), None)


def _retired(url: str, config: Config, everybody: Sequence[Config], state_dir: Path) -> _Place:
    """A copy that isn't in the configuration any more. Raises CommandError for one of another datacenter."""
    if "://" not in url:
        raise CommandError(f"there is no copy {url}", hint=f"{config.name} has {len(config.stores.spools)}, from 1 on")
    for other in everybody:
        if other.name != config.name and any(
            each.is_at(url, state_dir / config.name) for each in _copies(other, state_dir)
        ):
            raise CommandError(
                f"{url} is {other.name}'s: what is spooled in one datacenter can't be counted in another",
                hint=f"--dc {other.name}",
            )
    stores = msgspec.structs.replace(config.stores, spools=(url,), spool_copies=0)
    return _Place(msgspec.structs.replace(config, stores=stores), 0, state_dir / config.name)


def _check_file(place: _Place) -> None:
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
def _found(job_id: str, config: Config, state_dir: Path) -> Iterator[tuple[_Place, Held, Copy]]:
    """The job of this ID. Raises CommandError."""
    parsed = _ID.fullmatch(job_id)
    if parsed is None:
        raise CommandError(f"{short(job_id)!r} is no job's ID", hint="it is COPY/NUMBER, such as 1/4711")
    copies = list(_copies(config, state_dir))
    if parsed[1] is None and len(copies) > 1:
        raise CommandError(f"{config.name} has {len(copies)} copies", hint=f"say which one: 1/{parsed[2]}")
    place = _named(parsed[1] or "1", copies)
    if place is None:
        raise CommandError(f"there is no copy {parsed[1]}", hint=f"{config.name} has {len(copies)}, from 1 on")
    if place.file is None or place.file.exists():
        with place.looked_into() as copy:
            held = _told(lambda: copy.find(int(parsed[2])))
            if held is not None:
                yield place, held, copy
                return
    raise CommandError(
        f"there is no job {parsed[2]} in {place.url}", hint="it may have been counted; `hitmesh spool list --jobs`"
    )


def _kick_buried(place: _Place) -> int:
    """Kick what is buried in a copy, as long as the copy shows any that can be; how many."""
    if place.file is not None and not place.file.exists():
        return 0
    kicked = 0
    with place.looked_into() as copy:
        while buried := _told(lambda: copy.held(FIRST, only_buried=True)):
            done = sum(_told(lambda each=each: copy.kick(each.number)) for each in buried)  # type: ignore[misc]
            kicked += done
            if not done:
                break
    return kicked


T = TypeVar("T")


def _told(call: Callable[[], T]) -> T:
    """What a spool refuses, as the command's error."""
    try:
        return call()
    except (SpoolRefused, SpoolUnknown) as error:
        raise CommandError(str(error)) from error


def _remaining(left: CopyStats) -> str:
    counts = {"wait": left.waiting, "are ready": left.ready, "are claimed": left.claimed, "are buried": left.buried}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing is left"
