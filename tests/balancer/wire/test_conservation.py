"""What the backend counted is what the clients were told, for every case of the corpus, and it had to refuse nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from tests.balancer.wire.backend import StrictBackend
from tests.balancer.wire.clients import Talk, talk_all
from tests.balancer.wire.corpus import combinations, in_pieces, named_cases
from tests.balancer.wire.oracle import End, read
from tests.balancer.wire.outcomes import Outcome, not_conserved, outcome_of, wrong_with
from tests.balancer.wire.proxies import Balancer

PIECEWISE_BYTES = 1000  # what is longer is sent whole: byte by byte it only takes time
SHOWN = 5


class Watch:
    """A balancer, and the strict backend behind it."""

    def __init__(self, balancer: Balancer, backend: StrictBackend) -> None:
        self.balancer = balancer
        self.backend = backend

    def outcomes(self, connections: Sequence[Sequence[bytes]], names: Sequence[str]) -> list[Outcome]:
        """What became of each connection's bytes, which are sent in these pieces; everything is checked."""
        counts = self.backend.counts
        before, counts.refused = counts.accepted, []
        own = b"127.0.0.1:%d" % self.balancer.port
        readings = [read(b"".join(pieces), own=own) for pieces in connections]
        talks = [
            Talk(pieces, half_close_after=len(reading.seen) if reading.end is End.INCOMPLETE else None)
            for pieces, reading in zip(connections, readings, strict=True)
        ]
        ended = {id(talk): outcome_of(talk) for talk in talk_all(self.balancer.port, talks)}
        outcomes = [ended[id(talk)] for talk in talks]
        results = zip(names, outcomes, readings, strict=True)
        wrong = [f"{name}: {what}" for name, outcome, reading in results if (what := wrong_with(outcome, reading))]
        assert not wrong, f"{len(wrong)} of {len(talks)}:\n" + "\n".join(wrong[:SHOWN])
        refused = [f"{why}: {data[:400]!r}" for why, data in counts.refused]
        assert not refused, f"the backend had to refuse {len(refused)}:\n" + "\n".join(refused[:SHOWN])
        assert not_conserved(outcomes, first=before + 1, last=counts.accepted) == ""
        return outcomes


@pytest.fixture(scope="module", params=[0, 3], ids=["keep-alive", "each third answer closes"])
def watch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    with StrictBackend(close_every=request.param) as backend:
        balancer = Balancer(tmp_path_factory.mktemp("balancer"), backend.port)
        balancer.start()
        yield Watch(balancer, backend)
        balancer.stop()


def test_every_case_is_answered_as_the_corpus_says(watch: Watch) -> None:
    cases = named_cases()
    outcomes = watch.outcomes([[case.sent] for case in cases], [case.name for case in cases])
    said = {case.name: outcome.own for case, outcome in zip(cases, outcomes, strict=True)}
    assert said == {case.name: [case.status] if case.status else [] for case in cases}


def test_every_combination_is_answered_as_the_oracle_says(watch: Watch) -> None:
    connections = list(combinations())
    watch.outcomes([[each] for each in connections], [repr(each) for each in connections])


def test_it_does_not_matter_in_which_pieces_a_case_comes(watch: Watch) -> None:
    rng = random.Random(1)
    cases = [case for case in named_cases() if len(case.sent) <= PIECEWISE_BYTES]
    connections = [in_pieces(case.sent, rng) for case in cases]
    names = [f"{case.name}, in random pieces" for case in cases]
    for case in rng.sample(cases, 150):
        names.append(f"{case.name}, byte by byte")
        connections.append([case.sent[at : at + 1] for at in range(len(case.sent))])
    watch.outcomes(connections, names)


def test_a_refused_client_gets_its_answer_and_no_reset_though_it_sends_on(watch: Watch) -> None:
    before = watch.backend.counts.accepted
    tail = b"GET /more HTTP/1.1\r\nHost: a.example\r\n\r\n" * 1000
    talks = [Talk([b"GET / HTTP/1.1\r\n\r\n" + tail, tail, tail]) for _ in range(20)]
    ended = list(talk_all(watch.balancer.port, talks))
    assert [(outcome_of(talk).own, talk.was_reset) for talk in ended] == [([400], False)] * 20
    assert watch.backend.counts.accepted == before


def test_a_client_that_closes_its_side_still_gets_its_answers(watch: Watch) -> None:
    before = watch.backend.counts.accepted
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: a.example\r\n\r\n" % each for each in range(10))
    ended = list(talk_all(watch.balancer.port, [Talk([requests], half_close_after=0) for _ in range(20)]))
    assert [len(outcome_of(talk).counted) for talk in ended] == [10] * 20
    assert watch.backend.counts.accepted == before + 200
