"""What is recorded as people read it: chosen, each line once, in the order of its time; and what is missing. Pure.

It is given what the recorders of a datacenter have, in any order, some of it twice.

Invariants:
- A line is shown once, whoever kept it.
- A gap is numbers of a process that nobody has: it is named with the times around it, if lines of it are wanted.
- Memory is bounded: past `limit` lines the oldest are left out, and that is said.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from hitmesh.lines import Value, named, pair
from hitmesh.protocol.messages import Entry, Gap, Records
from hitmesh.state.outgoing import STATISTICS
from hitmesh.visible import visible

MAX_PROCESSES: Final = 100_000  # whose numbers are followed; of more of them gaps aren't known
MAX_INSTANCES: Final = 1000  # whose names are known, to say which one may be meant
LEVELS: Final = ("debug", "info", "warning", "error", "critical")


class Wanted(NamedTuple):
    """Which lines somebody wants."""

    since_ms: int
    until_ms: int
    role: str = ""
    instance: str = ""
    level: int = logging.DEBUG
    pattern: re.Pattern[str] | None = None
    statistics: bool = False  # those of each minute besides

    def has(self, line: Line) -> bool:
        """Whether a line is one of them."""
        entry = line.entry
        if not self.since_ms <= entry.at_ms < self.until_ms:
            return False
        if not self.is_of(line.role, line.instance):
            return False
        if entry.level == STATISTICS:
            if not self.statistics:
                return False
        elif entry.level < self.level:
            return False
        return self.pattern is None or self.pattern.search(said(entry)) is not None

    def is_of(self, role: str, instance: str) -> bool:
        """Whether an instance is one whose lines are wanted."""
        return self.role in ("", role) and self.instance in ("", instance)


class Line(NamedTuple):
    """One entry, and whose it is; in the order in which lines are shown."""

    at_ms: int
    dc: str
    instance: str
    process: str
    number: int
    role: str
    entry: Entry


class Lost(NamedTuple):
    """Entries that are nowhere: between which times, and of whom."""

    since_ms: int
    until_ms: int
    dc: str
    who: str
    entries: int
    why: str


class _Span:
    """Numbers of one process that are there, without a hole between them."""

    def __init__(self, first: int, last: int, first_ms: int, last_ms: int) -> None:
        self.first, self.last, self.first_ms, self.last_ms = first, last, first_ms, last_ms


class Gathered:
    """What was read so far of one datacenter, of which `limit` lines are kept."""

    def __init__(self, dc: str, wanted: Wanted, limit: int) -> None:
        self._dc, self._wanted, self._limit = dc, wanted, limit
        self._lines: list[Line] = []  # a heap, the oldest first
        self._spans: dict[tuple[str, str], list[_Span]] = {}
        self._gaps: set[Lost] = set()
        self.instances: set[str] = set()
        """Some of those of whom there are lines, whatever is wanted: MAX_INSTANCES at most."""
        self.left_out = 0
        """Lines that were too many."""

    def add(self, message: Records | Gap) -> None:
        """One message of a volume."""
        if isinstance(message, Gap):
            if message.until_ms >= self._wanted.since_ms and message.since_ms < self._wanted.until_ms:
                self._gaps.add(
                    Lost(
                        message.since_ms, message.until_ms, self._dc, message.recorder, message.entries,
                        f"it couldn't {'keep' if message.entries else 'read'} them: {message.why}",
                    )
                )  # fmt: skip
            return
        if message.entries and len(self.instances) < MAX_INSTANCES:
            self.instances.add(message.name)
        if not message.entries or not self._wanted.is_of(message.role, message.name) or not self._note(message):
            return
        for number, entry in enumerate(message.entries, start=message.first):
            line = Line(entry.at_ms, message.dc, message.name, message.id, number, message.role, entry)
            if self._wanted.has(line):
                if len(self._lines) < self._limit:
                    heapq.heappush(self._lines, line)
                else:
                    self.left_out += 1
                    heapq.heappushpop(self._lines, line)

    def take(self) -> list[Line]:
        """The lines since the last time, in their order."""
        lines, self._lines = sorted(self._lines, key=lambda line: line[:5]), []
        return lines

    def lost(self) -> list[Lost]:
        """What nobody has, the oldest first."""
        found = set(self._gaps)
        for (name, _), spans in self._spans.items():
            for before, after in itertools.pairwise(spans):
                count = after.first - before.last - 1
                found.add(
                    Lost(before.last_ms, after.first_ms, self._dc, name, count, "no recorder that was read has them")
                )
        return sorted(found)

    def _note(self, message: Records) -> bool:
        """Whether a message is new; its numbers are known from now on."""
        key = (message.name, message.id)
        spans = self._spans.get(key)
        if spans is None:
            if len(self._spans) >= MAX_PROCESSES:
                return True
            spans = self._spans[key] = []
        first, last = message.first, message.first + len(message.entries) - 1
        for one in spans:
            if one.first <= first and last <= one.last:
                return False
        new = _Span(first, last, message.entries[0].at_ms, message.entries[-1].at_ms)
        kept = []
        for one in spans:
            if one.last + 1 < new.first or one.first > new.last + 1:
                kept.append(one)
                continue
            if one.first < new.first:
                new.first, new.first_ms = one.first, one.first_ms
            if one.last > new.last:
                new.last, new.last_ms = one.last, one.last_ms
        kept.append(new)
        kept.sort(key=lambda one: one.first)
        self._spans[key] = kept
        return True


def said(entry: Entry) -> str:
    """An entry's words: its text, and its fields behind it."""
    fields = " ".join(pair(key, _whole(value)) for key, value in named(entry.fields).items())
    return f"{entry.text} {fields}".strip() if fields else entry.text


def shown(line: Line) -> Iterator[str]:
    """A line as people see it, with nothing in it that a terminal would obey; those of a traceback follow, indented."""
    first, *more = said(line.entry).split("\n")
    word = "STATISTICS" if line.entry.level == STATISTICS else logging.getLevelName(line.entry.level)
    where = f"{moment(line.at_ms)} {line.dc} {line.instance} {word} {line.entry.logger}:"
    yield visible(f"{where} {first}")
    for each in more:
        yield f"    {visible(each)}"


def as_json(line: Line) -> dict[str, Any]:
    """The same for programs."""
    entry = line.entry
    return {
        "at": moment(entry.at_ms),
        "dc": line.dc,
        "role": line.role,
        "instance": line.instance,
        "process": line.process,
        "number": line.number,
        "level": entry.level,
        "logger": entry.logger,
        "text": entry.text,
        "fields": entry.fields,
    }


def lost_words(lost: Lost) -> str:
    """A gap in words."""
    many = "1 line is" if lost.entries == 1 else f"{lost.entries or 'some'} lines are"
    return visible(
        f"{many} missing of {lost.who} of {lost.dc} between {moment(lost.since_ms)} and {moment(lost.until_ms)}: {lost.why}"
    )


def moment(at_ms: int) -> str:
    """A time in UTC; one that is none is shown as its number."""
    try:
        return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"


def _whole(value: Value) -> Value:
    """A number without a fraction as one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
