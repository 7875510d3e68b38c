"""`hitmesh replay`: an access log's requests as hits."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import click

from hitmesh.cli import folder
from hitmesh.cli.accesslog import DEFAULT_SITE, Format, hit_path
from hitmesh.cli.endpoints import front
from hitmesh.cli.options import json_option, state_dir_option
from hitmesh.cli.sending import Outcome, Sender
from hitmesh.errors import CommandError
from hitmesh.protocol.pages import check_page


@click.command(short_help="Send an access log's requests as hits.")
@click.argument("file", metavar="FILE")
@click.option("--to", "urls", multiple=True, metavar="URL", help="Where to send, several in turn. Default: the mesh.")
@click.option("--site", default=DEFAULT_SITE, show_default=True, help="The site of lines that don't name one.")
@click.option("--format", "log_format", type=click.Choice(get_args(Format)), default="combined", show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 1000), default=8, show_default=True, metavar="N")
@click.option("--limit", type=click.IntRange(0), metavar="N", help="Stop after N hits.")
@state_dir_option
@json_option
def replay(
    file: str,
    urls: tuple[str, ...],
    site: str,
    log_format: Format,
    concurrency: int,
    limit: int | None,
    state_dir: Path,
    as_json: bool,
) -> int:
    r"""Send every request of an access log FILE ("-" is standard input) as a hit.

    The page is SITE/path without the query string; any method and status counts, and a line
    without a request is ignored. combined may start with the virtual host (vhost_combined), which
    is the site then. json is an object per line with "page", or with "path" or "request" and
    perhaps "host".

    Without --to the hits go to the first datacenter of the mesh in the state folder: its
    balancers, or else its collectors, in turn. A hit is never sent twice: one that was refused or
    not answered has failed, and the exit status is 1. Where a balancer says that the collectors
    didn't answer it (502, 504), neither did they here.

    \b
    Example:
      hitmesh replay /var/log/nginx/access.log --site www.example.com --concurrency 32
    """
    sender = Sender(urls or _mesh_urls(state_dir), concurrency)
    log = _Log(file, check_page(site.strip("/")), log_format, limit)
    began = time.monotonic()
    interrupted = False
    try:
        with _with_progress(log, sender.outcome) as paths:
            sender.send(paths)
    except KeyboardInterrupt:
        interrupted = True
    _report(sender.outcome, log.ignored, time.monotonic() - began, as_json=as_json)
    return 1 if sender.outcome.failed or interrupted else 0


class _Log:
    """The hits of a file, one after the other; counts the lines that hold none."""

    def __init__(self, file: str, site: str, log_format: Format, limit: int | None) -> None:
        self.ignored = 0
        self.read_bytes = 0
        self.size_bytes: int | None = None
        self._file, self._site, self._format, self._limit = file, site, log_format, limit
        try:
            if file == "-":
                from gevent.fileobject import FileObject

                # Waits for a slow pipe without holding up the answers.
                self._lines: Iterable[bytes] = FileObject(sys.stdin.fileno(), "rb", closefd=False)
            else:
                path = Path(file)
                self._lines = path.open("rb")
                self.size_bytes = path.stat().st_size or None
        except OSError as error:
            raise CommandError(f"{file}: can't be read: {error.strerror}") from error

    def __iter__(self) -> Iterator[str]:
        found = 0
        if self._limit == 0:
            return
        for line in self._lines:
            self.read_bytes += len(line)
            path = hit_path(line, site=self._site, log_format=self._format)
            if path is None:
                self.ignored += bool(line.strip())
                continue
            yield path
            found += 1
            if found == self._limit:
                return


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
        task = bar.add_task("", total=log.size_bytes)

        def shown() -> Iterator[str]:
            for path in log:
                text = f"{outcome.accepted:,} accepted, {outcome.failed:,} failed"
                bar.update(task, completed=log.read_bytes, description=text)
                yield path

        yield shown()


def _mesh_urls(state_dir: Path) -> list[str]:
    return front(folder.datacenters(state_dir)[0])


def _report(outcome: Outcome, ignored: int, seconds: float, *, as_json: bool) -> None:
    numbers = {
        "sent": outcome.sent,
        "accepted": outcome.accepted,
        "failed": outcome.failed,
        "refused": outcome.refused,
        "unanswered": outcome.unanswered,
        "ignored": ignored,
        "seconds": round(seconds, 3),
    }
    if as_json:
        print(json.dumps({**numbers, "reasons": dict(outcome.reasons)}))
        return
    failed = f" ({outcome.refused} refused, {outcome.unanswered} unanswered)" if outcome.failed else ""
    print(
        f"sent {outcome.sent}, accepted {outcome.accepted}, failed {outcome.failed}{failed}"
        f"; {ignored} lines ignored; {seconds:.1f} s"
    )
    for reason, count in outcome.reasons.most_common():
        print(f"  {count} x {reason}", file=sys.stderr)
