"""`hitmesh replay`: an access log's requests as hits."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, get_args

import click

from hitmesh.cli import folder
from hitmesh.cli.accesslog import DEFAULT_SITE, Format, LineError, hit_path
from hitmesh.cli.endpoints import front
from hitmesh.cli.logfile import MAX_LINE_CHARS, LogFile
from hitmesh.cli.options import Seconds, json_option, state_dir_option
from hitmesh.cli.sending import WAIT_S, Outcome, Sender
from hitmesh.cli.stderr import show
from hitmesh.errors import CommandError
from hitmesh.protocol.pages import check_page

EXAMPLE_CHARS: Final = 120  # of a line that was ignored, shown with its reason


@click.command(short_help="Send an access log's requests as hits.")
@click.argument("file", metavar="FILE")
@click.option("--to", "urls", multiple=True, metavar="URL", help="Where to send, several in turn. Default: the mesh.")
@click.option("--site", default=DEFAULT_SITE, show_default=True, help="The site of lines that don't name one.")
@click.option("--format", "log_format", type=click.Choice(get_args(Format)), default="combined", show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 1000), default=8, show_default=True, metavar="N")
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(0, 86_400),
    default=WAIT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait while nobody takes a connection.",
)
@click.option("--limit", type=click.IntRange(0), metavar="N", help="Stop after N hits.")
@state_dir_option
@json_option
def replay(
    file: str,
    urls: tuple[str, ...],
    site: str,
    log_format: Format,
    concurrency: int,
    wait_s: float,
    limit: int | None,
    state_dir: Path,
    as_json: bool,
) -> int:
    """Send every request of an access log FILE ("-" is standard input) as a hit.

    The page is SITE/path without the query string; any method and status counts. combined may
    start with the virtual host (vhost_combined), which is the site then. json is an object per
    line with "page", or with "path", "uri" or "request" and perhaps "host"; Caddy's is one. A line
    whose request or site can't be told is ignored, and shown with the reason. A compressed FILE
    (gzip) is read as it is.

    Without --to the hits go to the first datacenter of the mesh in the state folder: its
    balancers, or else its collectors, in turn. A hit is never sent twice: one that was refused or
    not answered has failed, and the exit status is 1, as it is when nothing in FILE was
    understood. Where a balancer says that the collectors didn't answer it (502, 504), neither did
    they here. Where nobody takes a connection, as while a balancer restarts, nothing is sent, and the hits wait.

    \b
    Example:
      hitmesh replay /var/log/nginx/access.log --site www.example.com --concurrency 32
    """
    sender = Sender(urls or _mesh_urls(state_dir), concurrency, wait_s=wait_s)
    log = _Log(file, check_page(site.strip("/")), log_format, limit)
    began = time.monotonic()
    interrupted = False
    try:
        with _with_progress(log, sender.outcome) as paths:
            sender.send(paths)
    except KeyboardInterrupt:
        interrupted = True
    _report(sender.outcome, log.ignored, time.monotonic() - began, as_json=as_json)
    if complaint := log.complaint():
        raise CommandError(f"{file}: {complaint}")
    return 1 if sender.outcome.failed or interrupted else 0


@dataclass
class Ignored:
    """The lines that were no hits, by reason, each with an example."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[int, str]] = field(default_factory=dict)  # reason -> number of the line, its start

    def add(self, number: int, line: str, reason: str) -> None:
        """One more."""
        self.counts[reason] += 1
        if reason not in self.examples:
            # What a stranger wrote into a log is shown as ASCII: no control characters, nothing that turns text around.
            self.examples[reason] = (number, ascii(line[:EXAMPLE_CHARS])[1:-1])


class _Log:
    """The hits of a file, one after the other; knows which of its lines hold none, and why."""

    def __init__(self, file: str, site: str, log_format: Format, limit: int | None) -> None:
        self.ignored = Ignored()
        self.found = 0
        self.file = LogFile(file)
        self._site, self._format, self._limit = site, log_format, limit

    def __iter__(self) -> Iterator[str]:
        if self._limit == 0:
            return
        for number, line in enumerate(self.file, 1):
            if line is None:
                self.ignored.add(number, "", f"more than {MAX_LINE_CHARS} characters")
                continue
            if not line.strip():
                continue
            try:
                path = hit_path(line, site=self._site, log_format=self._format)
            except LineError as error:
                self.ignored.add(number, line, str(error))
                continue
            yield path
            self.found += 1
            if self.found == self._limit:
                return

    def complaint(self) -> str:
        """What is wrong with the log as a whole; empty when nothing is."""
        if self.file.broken:
            return f"the log breaks off: {self.file.broken}; what is before that was sent"
        if self.found or not self.ignored.counts:
            return ""
        other = next(each for each in get_args(Format) if each != self._format)
        return f"nothing in it is understood as a log of the format {self._format}; is it --format {other}?"


@contextmanager
def _with_progress(log: _Log, outcome: Outcome) -> Iterator[Iterable[str]]:
    """The log's hits, with a bar on stderr when that is a terminal."""
    if not sys.stderr.isatty():
        yield log
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=log.file.size_bytes)

        def shown() -> Iterator[str]:
            for path in log:
                text = f"{outcome.accepted:,} accepted, {outcome.failed:,} failed"
                bar.update(task, completed=log.file.read_bytes, description=text)
                yield path

        yield shown()


def _mesh_urls(state_dir: Path) -> list[str]:
    return front(folder.datacenters(state_dir)[0])


def _report(outcome: Outcome, ignored: Ignored, seconds: float, *, as_json: bool) -> None:
    numbers = {
        "sent": outcome.sent,
        "accepted": outcome.accepted,
        "failed": outcome.failed,
        "refused": outcome.refused,
        "unanswered": outcome.unanswered,
        "ignored": ignored.counts.total(),
        "seconds": round(seconds, 3),
    }
    if as_json:
        why = {
            reason: {"count": count, "line": ignored.examples[reason][0], "example": ignored.examples[reason][1]}
            for reason, count in ignored.counts.most_common()
        }
        print(json.dumps({**numbers, "reasons": dict(outcome.reasons), "ignored_because": why}))
        return
    failed = f" ({outcome.refused} refused, {outcome.unanswered} unanswered)" if outcome.failed else ""
    print(
        f"sent {outcome.sent}, accepted {outcome.accepted}, failed {outcome.failed}{failed}"
        f"; {ignored.counts.total()} lines ignored; {seconds:.1f} s"
    )
    for reason, count in ignored.counts.most_common():
        number, example = ignored.examples[reason]
        print(f"  {count} ignored: {reason}; line {number}: {example}", file=sys.stderr)
    for reason, count in outcome.reasons.most_common():
        show(f"  {count} x {reason}")
