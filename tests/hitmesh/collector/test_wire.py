"""The balancer's corpus of bytes against the worker: the same are requests, the same are refused, each is answered once.

docs/http.md has one difference: CONNECT and TRACE are the app's to answer, and CONNECT is its connection's last.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.balancer.wire.clients import Talk, talk_all
from tests.balancer.wire.corpus import combinations, in_pieces, named_cases
from tests.balancer.wire.mutate import Mutator
from tests.balancer.wire.oracle import End, Reading, Seen, read
from tests.balancer.wire.outcomes import Outcome, not_conserved, outcome_of, wrong_with
from tests.hitmesh.collector.gunicorns import BARE, Gunicorn, talk

PIECEWISE_BYTES = 1000  # what is longer is sent whole: byte by byte it only takes time
MUTATED = 3000
SHOWN = 5
LAST = b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
FOR_THE_APP = "CONNECT or TRACE"


class Worker(Gunicorn):
    """A worker before an app that says what it was asked, and numbers the requests."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, BARE, "saying")

    def counted(self) -> int:
        """The requests that came to the app, this one included."""
        head = talk(self.port, [LAST]).partition(b"\r\n\r\n")[0]
        return int(head.partition(b"X-Serial: ")[2].partition(b"\r\n")[0])

    @staticmethod
    def _outcome(talk: Talk) -> Outcome:
        talk.received = talk.received.replace(b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\n")  # gunicorn's way
        return outcome_of(talk)

    def outcomes(self, connections: Sequence[Sequence[bytes]], names: Sequence[str]) -> list[Outcome]:
        """What became of each connection's bytes, which are sent in these pieces; everything is checked."""
        before = self.counted()
        readings = [as_asked(read(b"".join(pieces), own=b"h")) for pieces in connections]
        talks = [
            Talk(pieces, half_close_after=len(reading.seen) if reading.end in (End.INCOMPLETE, End.OPEN) else None)
            for pieces, reading in zip(connections, readings, strict=True)
        ]
        ended = {id(each): self._outcome(each) for each in talk_all(self.port, talks)}
        outcomes = [ended[id(each)] for each in talks]
        results = zip(names, outcomes, readings, strict=True)
        wrong = [f"{name}: {what}" for name, outcome, reading in results if (what := wrong_with(outcome, reading))]
        assert not wrong, f"{len(wrong)} of {len(talks)}:\n" + "\n".join(wrong[:SHOWN])
        assert not_conserved(outcomes, first=before + 1, last=self.counted() - 1) == ""
        return outcomes


def as_asked(reading: Reading) -> Reading:
    """With as much of each request as an app is asked."""
    seen = tuple(Seen(each.method, each.target, b"", (), each.body, ()) for each in reading.seen)
    return dataclasses.replace(reading, seen=seen)


def is_for_the_app(data: bytes) -> bool:
    """Whether something in it is refused by a balancer, and not by a collector."""
    return read(data, own=b"h").why == FOR_THE_APP


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    server = Worker(tmp_path_factory.mktemp("worker"))
    server.start()
    yield server
    server.stop()


def test_every_case_is_answered_as_the_corpus_says(worker: Worker) -> None:
    cases = [case for case in named_cases() if not is_for_the_app(case.sent)]
    outcomes = worker.outcomes([[case.sent] for case in cases], [case.name for case in cases])
    said = {case.name: outcome.own for case, outcome in zip(cases, outcomes, strict=True)}
    assert said == {case.name: [case.status] if case.status else [] for case in cases}


def test_every_combination_is_answered_as_the_oracle_says(worker: Worker) -> None:
    connections = list(combinations())
    worker.outcomes([[each] for each in connections], [repr(each) for each in connections])


def test_it_does_not_matter_in_which_pieces_a_case_comes(worker: Worker) -> None:
    rng = random.Random(1)
    cases = [case for case in named_cases() if len(case.sent) <= PIECEWISE_BYTES and not is_for_the_app(case.sent)]
    connections = [in_pieces(case.sent, rng) for case in cases]
    names = [f"{case.name}, in random pieces" for case in cases]
    for case in rng.sample(cases, 150):
        names.append(f"{case.name}, byte by byte")
        connections.append([case.sent[at : at + 1] for at in range(len(case.sent))])
    worker.outcomes(connections, names)


def test_connections_that_went_wrong_at_random_are_answered_as_the_oracle_says(worker: Worker) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    mutator, rng = Mutator(random.Random(seed)), random.Random(seed)
    connections = [data for data in (mutator.one() for _ in range(MUTATED)) if data and not is_for_the_app(data)]
    pieces = [in_pieces(data, rng) if rng.random() < 0.5 else [data] for data in connections]
    worker.outcomes(pieces, [f"seed {seed}: {data!r}" for data in connections])


def test_a_refused_client_gets_its_answer_and_no_reset_though_it_sends_on(worker: Worker) -> None:
    before = worker.counted()
    tail = b"GET /more HTTP/1.1\r\nHost: a.example\r\n\r\n" * 1000
    talks = [Talk([b"GET / HTTP/1.1\r\n\r\n" + tail, tail, tail]) for _ in range(20)]
    ended = list(talk_all(worker.port, talks))
    assert [(outcome_of(each).own, each.was_reset) for each in ended] == [([400], False)] * 20
    assert worker.counted() == before + 1


def test_a_client_that_closes_its_side_still_gets_its_answers(worker: Worker) -> None:
    before = worker.counted()
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: a.example\r\n\r\n" % each for each in range(10))
    ended = list(talk_all(worker.port, [Talk([requests], half_close_after=0) for _ in range(20)]))
    assert [len(outcome_of(each).counted) for each in ended] == [10] * 20
    assert worker.counted() == before + 201
