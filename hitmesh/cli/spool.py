"""`hitmesh spool`: what lies in a datacenter's spools, and putting it right.

Owns the commands. How copies and jobs are found is `spool_places`', what may be done with a job the spool's to say
(`hitmesh.spool`), and how jobs are moved `hitmesh.spool.moving`'s.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from hitmesh.cli.columns import columns
from hitmesh.cli.job_lines import JobLine, job_line, job_text, jobs_table
from hitmesh.cli.options import Seconds, config_option, json_option, state_dir_option
from hitmesh.cli.picture import duration
from hitmesh.cli.progress import Progress
from hitmesh.cli.spool_places import (
    Line,
    Place,
    check_file,
    configs,
    copies_in,
    found_job,
    in_words,
    named,
    one_config,
    retired,
)
from hitmesh.errors import CommandError
from hitmesh.mistakes import nearest
from hitmesh.spool import CopyStats
from hitmesh.spool.moving import move as move_jobs
from hitmesh.visible import visible

F = TypeVar("F", bound=Callable[..., object])

FIRST: Final = 100  # jobs of a copy that are looked at for the oldest: claimed again they keep their place


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
    for config in configs(dc, config_path, state_dir):
        for place in copies_in(config, state_dir):
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
    config = one_config(dc, config_path, state_dir)
    with found_job(job_id, config, state_dir) as (place, held, _):
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
    config = one_config(dc, config_path, state_dir)
    if all_buried:
        kicked = sum(_kick_buried(place) for place in copies_in(config, state_dir))
    else:
        kicked = 0
        for each in job_ids:
            with found_job(each, config, state_dir) as (_, held, copy):
                if not in_words(lambda copy=copy, held=held: copy.kick(held.number)):  # type: ignore[misc]
                    raise CommandError(f"job {each} is gone", hint=f"{kicked} were kicked before it")
                kicked += 1
    print(f"{kicked} {'job is' if kicked == 1 else 'jobs are'} claimable now")
    return 0


@spool.command(short_help="Delete a job that can't be read.")
@click.argument("job_id", metavar="ID")
@click.option("--yes", "is_sure", is_flag=True, help="Don't ask.")
@click.option("--lose-hits", is_flag=True, help="Also a job that can be read: its hits may be in no total then.")
@_places
def delete(
    job_id: str, *, is_sure: bool, lose_hits: bool, dc: str | None, config_path: Path | None, state_dir: Path
) -> int:
    """Delete job ID, which no collector can read: a text in a job's place, or one that a disk's error has cut.

    One that can be read is refused, as a collector may still count it, unless --lose-hits is said. One that is given out
    just now, or never was, is refused. Of a pair each copy may have the job, under another number.

    \b
    Example:
      hitmesh spool delete 1/4711 --dc eu-west
    """
    config = one_config(dc, config_path, state_dir)
    with found_job(job_id, config, state_dir) as (place, held, copy):
        job = job_line(place.dc, place.number, held, time.time())
        hits = "1 hit" if job.hits == 1 else f"{job.hits} hits"
        if not job.problem and not lose_hits:
            raise CommandError(
                f"job {job_id} can be read: {hits} that may be in no total yet",
                hint=f"`hitmesh spool kick {job_id}` has them counted once; --lose-hits deletes them",
            )
        if not is_sure and not _is_confirmed(
            f"delete job {job_id} of {place.url}, {job.bytes} bytes, {job.problem or hits}?"
        ):
            raise CommandError(f"job {job_id} stays", hint="--yes deletes it without asking")
        if not in_words(lambda: copy.delete(held)):
            raise CommandError(f"job {job_id} is gone", hint="somebody else was faster")
    print(visible(f"job {job_id} of {place.url} is deleted" + ("" if job.problem else f", with {hits}")))
    return 0


def _is_confirmed(question: str) -> bool:
    """Whether somebody at the terminal says yes; without a terminal nobody does."""
    return sys.stdin.isatty() and click.confirm(visible(question), err=True)


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
    config = one_config(dc, config_path, state_dir)
    copies = list(copies_in(config, state_dir))
    into = named(target, copies)
    if into is None:
        raise CommandError(
            f"no collector of {config.name} uses {target}, so nobody would count its jobs",
            hint=nearest(target, [each.url for each in copies]),
        )
    from_ = named(source, copies) or retired(source, config, configs(None, config_path, state_dir), state_dir)
    if from_.is_at(into.url, into.base):
        raise CommandError(f"{source} and {target} are the same")
    check_file(from_)
    progress = Progress()

    def told(moved: int, left: CopyStats) -> None:
        progress.show(f"{moved} moved; {_remaining(left)}")

    with from_.opened() as source_spool, into.opened() as target_spool:
        try:
            moved = in_words(lambda: move_jobs(source_spool, target_spool, within_s=within_s, told=told))
        finally:
            progress.end()
    left = moved.left.waiting + moved.left.ready + moved.left.claimed
    jobs = f"{moved.jobs} {'job' if moved.jobs == 1 else 'jobs'}"
    print(visible(f"{jobs} moved from {from_.url} to {into.url}; {_remaining(moved.left)}"))
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


def _kick_buried(place: Place) -> int:
    """Kick what is buried in a copy, as long as the copy shows any that can be; how many."""
    if place.file is not None and not place.file.exists():
        return 0
    kicked = 0
    with place.looked_into() as copy:
        while buried := in_words(lambda: copy.held(FIRST, only_buried=True)):
            done = sum(in_words(lambda each=each: copy.kick(each.number)) for each in buried)  # type: ignore[misc]
            kicked += done
            if not done:
                break
    return kicked


def _remaining(left: CopyStats) -> str:
    counts = [(left.waiting, "waits", "wait")]
    counts += [
        (count, f"is {what}", f"are {what}")
        for count, what in ((left.ready, "ready"), (left.claimed, "claimed"), (left.buried, "buried"))
    ]
    return (
        ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts if count) or "nothing is left"
    )
