"""What became of what a client sent: compared with what the corpus and the oracle say. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tests.balancer.wire.answers import Answer, MalformedAnswer, read_answers
from tests.balancer.wire.clients import Talk
from tests.balancer.wire.oracle import End, Reading

# What the balancer says itself about a request that it refuses, or of which the rest never came.
REFUSALS: Final = frozenset((400, 405, 408, 413, 414, 417, 431, 501, 505))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answers on one connection; `broken` says what was wrong with them as bytes."""

    answers: tuple[Answer, ...]
    broken: str = ""

    @property
    def counted(self) -> list[Answer]:
        """The backend's answers to what it accepted."""
        return [answer for answer in self.answers if answer.serial]

    @property
    def own(self) -> list[int]:
        """The statuses that aren't the backend's 200s."""
        return [answer.status for answer in self.answers if not answer.serial]


def outcome_of(talk: Talk) -> Outcome:
    """What a talk that has ended got."""
    if talk.hung:
        return Outcome((), f"hung; so far: {talk.received[:300]!r}")
    try:
        answers = read_answers(talk.received)
    except MalformedAnswer as error:
        return Outcome((), f"malformed: {error}")
    cut = [answer for answer in answers if answer.serial and not answer.whole]
    return Outcome(tuple(answers), "an answer of the backend was cut" if cut else "")


def wrong_with(outcome: Outcome, reading: Reading) -> str:
    """How an outcome differs from what the bytes say; nothing if it doesn't."""
    if outcome.broken:
        return outcome.broken
    wanted = [seen.digest for seen in reading.seen]
    got = [answer.seen for answer in outcome.counted]
    if got != wanted:
        return f"the backend counted {len(got)} requests instead of {len(wanted)}, or others: {reading}"
    if any(answer.serial for answer in outcome.answers[len(wanted) :]):
        return "an answer of the backend after one of the balancer"
    own = outcome.own
    if reading.end is End.REFUSED and (len(own) != 1 or own[0] not in REFUSALS):
        return f"{own} instead of one refusal: {reading.why}"
    if reading.end is End.INCOMPLETE and (len(own) > 1 or not REFUSALS.issuperset(own)):
        return f"{own} for half a request"
    if reading.end in (End.OPEN, End.CLOSED) and own:
        return f"{own} beside the answers: {reading}"
    return ""


def not_conserved(outcomes: Iterable[Outcome], *, first: int, last: int) -> str:
    """Whether the backend's requests from `first` to `last` are exactly the answered ones; nothing if they are."""
    serials = sorted(answer.serial for outcome in outcomes for answer in outcome.counted)
    wanted = range(first, last + 1)
    if serials == list(wanted):
        return ""
    missing = sorted(set(wanted).difference(serials))
    twice = len(serials) - len(set(serials))
    return f"{len(wanted)} counted, {len(serials)} answered; not answered: {missing[:20]}; twice: {twice}"
