"""`hitmesh logs`: what the roles of a mesh logged, as its recorders have it, put together in the order of time."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from hitmesh.cli import picture
from hitmesh.cli.config import configs_of
from hitmesh.cli.options import config_option, json_option, state_dir_option
from hitmesh.cli.recorded import Source, sources
from hitmesh.cli.stderr import warn
from hitmesh.config import ROLES, Config
from hitmesh.errors import CommandError
from hitmesh.mistakes import nearest
from hitmesh.recorder.reading import LEVELS, Gathered, Line, Lost, Wanted, as_json, lost_words, shown
from hitmesh.visible import visible

FOLLOW_S: Final = 1.0  # between two looks for what is new
LOOK_S: Final = 5.0  # between two looks at which recorders there are
FOLLOWED_MS: Final = 60_000  # of the past, that is shown first where nothing else is asked for
MAX_PATTERN_CHARS: Final = 1000
FOR_EVER_MS: Final = 2**62
_SPAN: Final = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@click.command(short_help="Show what the roles logged, of all hosts.")
@click.option("--since", metavar="TIME", help="30s, 15m, 1h, 2d, or a time in UTC. Default: 1h; with --follow 1m.")
@click.option("--until", metavar="TIME", help="The same. Default: now.")
@click.option("--role", metavar="ROLE", help="Only those of a role.")
@click.option("--instance", metavar="NAME", help="Only that one's.")
@click.option("--dc", metavar="NAME", help="Only that datacenter's.")
@click.option("--level", default="info", show_default=True, metavar="LEVEL", help="And above: warning, error.")
@click.option("--grep", metavar="REGEX", help="Only those in whose text or fields it is found.")
@click.option("--statistics", is_flag=True, help="The figures of each minute, too.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True, help="Lines at most, the newest."
)
@json_option
@config_option
@state_dir_option
def logs(
    since: str | None,
    until: str | None,
    role: str | None,
    instance: str | None,
    dc: str | None,
    level: str,
    grep: str | None,
    statistics: bool,
    follow: bool,
    limit: int,
    as_json: bool,
    config_path: Path | None,
    state_dir: Path,
) -> int:
    """Show what the roles of a mesh logged, in the order of its time, whichever recorder has it.

    A recorder that doesn't answer is read from its files, where they are here. What nobody has is named, on standard
    error; so is a recorder that couldn't be read. --json prints a line for each line.

    \b
    Example:
      hitmesh logs --since 1h --role collector --grep "refused|unknown"
      hitmesh logs -f --level warning
    """
    if follow and until:
        raise CommandError("--until means nothing with --follow")
    now_ms = int(time.time() * 1000)
    default_ms = now_ms - (FOLLOWED_MS if follow else 3_600_000)
    wanted = Wanted(
        since_ms=_moment("--since", since, now_ms) if since else default_ms,
        until_ms=_moment("--until", until, now_ms) if until else FOR_EVER_MS,
        role=_role(role),
        instance=instance or "",
        level=_level(level),
        pattern=_pattern(grep),
        statistics=statistics,
    )
    if wanted.since_ms >= wanted.until_ms:
        raise click.UsageError("--since isn't before --until")
    configs = [one for one in configs_of(config_path, state_dir) if dc in (None, one.name)]
    if not configs:
        raise CommandError(f"there is no datacenter {dc} here")
    reader = _Reader(configs, wanted, limit, state_dir)
    try:
        lines = reader.read()
        if not reader.found:
            raise CommandError(
                "no recorder answers, and none's files are here", hint="nodes.NODE.recorder = 1 runs one"
            )
        _print(lines, as_json=as_json)
        reader.complain()
        reader.complain_of_nobody()
        with contextlib.suppress(KeyboardInterrupt):
            while follow:
                time.sleep(FOLLOW_S)
                _print(reader.read(), as_json=as_json)
                reader.complain()
    finally:
        reader.close()
    return 0


class _Reader:
    """The recorders of some datacenters, read again and again."""

    def __init__(self, configs: Sequence[Config], wanted: Wanted, limit: int, state_dir: Path) -> None:
        self._configs, self._wanted, self._limit, self._state_dir = configs, wanted, limit, state_dir
        self._gathered = {config.name: Gathered(config.name, wanted, limit) for config in configs}
        self._sources: dict[tuple[str, str], Source] = {}
        self._looked_s = float("-inf")
        self._told: set[str] = set()
        self._lost: set[Lost] = set()

    @property
    def found(self) -> bool:
        """Whether any recorder could be read."""
        return any(one.read for one in self._sources.values())

    def read(self) -> list[Line]:
        """What is new."""
        if time.monotonic() - self._looked_s >= LOOK_S:
            self._look()
        lines: list[Line] = []
        for (dc, _), source in self._sources.items():
            for message in source.messages(self._wanted.since_ms, self._wanted.until_ms):
                self._gathered[dc].add(message)
        for gathered in self._gathered.values():
            lines += gathered.take()
        return sorted(lines, key=lambda line: line[:5])[-self._limit :]

    def complain(self) -> None:
        """Say what is missing, each once."""
        for (dc, name), source in self._sources.items():
            if source.problem:
                self._tell(f"{name} of {dc}: {source.problem}")
        for dc, gathered in self._gathered.items():
            if gathered.left_out:
                self._tell(f"{dc}: older lines are left out; --limit has more, --since fewer")
            for lost in gathered.lost():
                if lost not in self._lost:
                    self._lost.add(lost)
                    warn(lost_words(lost))

    def complain_of_nobody(self) -> None:
        """Say that the instance that is wanted has no line, if it has none."""
        there = sorted({name for gathered in self._gathered.values() for name in gathered.instances})
        if self._wanted.instance and self._wanted.instance not in there:
            hint = f"; {nearest(self._wanted.instance, there)}" if there else ""
            self._tell(f"no line that was read is of {self._wanted.instance}{hint}")

    def close(self) -> None:
        """Ask nobody any more."""
        for source in self._sources.values():
            source.close()

    def _look(self) -> None:
        self._looked_s = time.monotonic()
        for config in self._configs:
            for source in sources(config, picture.ask(config), self._state_dir / config.name):
                known = self._sources.get((config.name, source.name))
                if known is None:
                    self._sources[config.name, source.name] = source
                else:
                    known.is_at(source)

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            warn(visible(text))


def _print(lines: Iterable[Line], *, as_json: bool) -> None:
    show: Callable[[Line], Iterable[str]] = _as_json if as_json else shown
    for line in lines:
        for each in show(line):
            print(each, flush=False)
    print(end="", flush=True)


def _as_json(line: Line) -> list[str]:
    return [json.dumps(as_json(line))]


def _moment(option: str, text: str, now_ms: int) -> int:
    if span := _SPAN.fullmatch(text):
        return max(0, now_ms - int(span[1]) * _SECONDS[span[2]] * 1000)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"{option} {text!a} is no time", hint="such as 15m, 1h, 2d, or 2026-12-24T12:00Z") from error
    return max(0, int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000))


def _role(text: str | None) -> str:
    if text and text not in ROLES:
        raise CommandError(f"{text!a} is no role; {nearest(text, list(ROLES))}")
    return text or ""


def _level(text: str) -> int:
    if text.lower() not in LEVELS:
        raise CommandError(f"{text!a} is no level; {nearest(text, list(LEVELS))}")
    return (LEVELS.index(text.lower()) + 1) * 10


def _pattern(text: str | None) -> re.Pattern[str] | None:
    if not text:
        return None
    if len(text) > MAX_PATTERN_CHARS:
        raise CommandError(f"--grep has more than {MAX_PATTERN_CHARS} characters")
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise CommandError(f"--grep {text!a:.100} is no regular expression: {error}") from error
