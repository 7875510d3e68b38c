"""Where hitmesh and HAProxy part over the same bytes: found, named, and listed in docs/http.md. Pure.

A difference is where two lists of answers part first: the rule that the client's bytes broke there
(the oracle's words), what hitmesh does, what HAProxy does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from tests.balancer.wire.answers import Answer
from tests.balancer.wire.backend import Record
from tests.balancer.wire.oracle import End, Reading
from tests.balancer.wire.outcomes import Outcome

FORWARDS: Final = "forwards it"
LETS_THROUGH: Final = "forwards what the backend refuses"
CLOSES: Final = "closes"
VALID: Final = "a valid request"


class Difference(NamedTuple):
    """Of one kind; as it stands in the document's table."""

    rule: str
    ours: str
    theirs: str


def difference(reading: Reading, ours: Outcome, theirs: Outcome, records: Mapping[int, Record]) -> Difference | None:
    """The first difference, None if there is none. `records` are the backend's, by serial number."""
    pair = (ours.answers, theirs.answers)
    longest = max(map(len, pair))
    for at in range(longest + 1):
        rule = (reading.notes[at] or VALID) if at < len(reading.seen) else reading.why or VALID
        mine, other = (answers[at] if at < len(answers) else None for answers in pair)
        if mine and other and mine.serial and other.serial:
            if mine.seen == other.seen:
                continue
            return Difference(rule, FORWARDS, f"forwards another {_part(records[mine.serial], records[other.serial])}")
        if _said(mine) == _said(other):
            continue
        if reading.end is End.INCOMPLETE and at >= len(reading.seen):
            return None  # no answer to half a request is better than another
        return Difference(rule, _said(mine), _said(other))
    return None


def _said(answer: Answer | None) -> str:
    if answer is None:
        return CLOSES
    if answer.serial:
        return FORWARDS
    if answer.value(b"x-refused"):
        return LETS_THROUGH
    return str(answer.status)


def _part(mine: Record, other: Record) -> str:
    a, b = mine.seen, other.seen
    for name in ("method", "target", "host", "body", "trailers"):
        if getattr(a, name) != getattr(b, name):
            return name
    names = {name for name, _ in set(a.pairs).symmetric_difference(b.pairs)}
    return "field " + ", ".join(sorted(name.decode() for name in names))


class Row(NamedTuple):
    """A rule, all that is done where it is broken, and what decides."""

    rule: str
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    decided: str

    @property
    def markdown(self) -> str:
        """The row as it stands in docs/http.md."""
        return f"| {self.rule} | {', '.join(self.ours)} | {', '.join(self.theirs)} | {self.decided} |"
