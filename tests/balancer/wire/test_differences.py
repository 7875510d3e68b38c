"""The same bytes through HAProxy and through ours, to the same strict backend: every difference is in the document."""

from __future__ import annotations

from pathlib import Path

from tests.balancer.wire.backend import StrictBackend
from tests.balancer.wire.clients import Talk, talk_all
from tests.balancer.wire.corpus import combinations, named_cases
from tests.balancer.wire.differences import difference
from tests.balancer.wire.listed import COMPARED, HEADING, ROWS, SOMETIMES
from tests.balancer.wire.oracle import read
from tests.balancer.wire.outcomes import Outcome, outcome_of
from tests.balancer.wire.proxies import Balancer, HAProxy

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "http.md"
# HAProxy waits where ours refuses at once; this long without a word and the client closes its side.
IDLE_S = 0.5
# As HTTP/2, which it answers as HTTP/2.
NOT_COMPARED = ("the preface of HTTP/2",)
# Of the combinations each so-many-eth: all of them find no other difference, and take three times as long.
EACH = 3


def _through(port: int, connections: list[bytes]) -> list[Outcome]:
    talks = [Talk([data], idle_s=IDLE_S) for data in connections]
    ended = {id(talk): outcome_of(talk) for talk in talk_all(port, talks)}
    return [ended[id(talk)] for talk in talks]


def test_every_difference_from_haproxy_is_listed_with_what_decides_it(tmp_path: Path) -> None:
    cases = {case.name: case.sent for case in named_cases() if case.name not in NOT_COMPARED}
    cases |= {repr(data): data for data in list(combinations())[::EACH]}
    connections = list(cases.values())
    with StrictBackend() as backend:
        haproxy, balancer = HAProxy(tmp_path / "haproxy", backend.port), Balancer(tmp_path / "ours", backend.port)
        outcomes: list[list[Outcome]] = []
        for proxy in (haproxy, balancer):
            proxy.start()
            outcomes.append(_through(proxy.port, connections))
            proxy.stop()
        listed = {row.rule: row for row in ROWS}
        found: set[str] = set()
        surprises: list[str] = []
        for (name, data), theirs, ours in zip(cases.items(), *outcomes, strict=True):
            broken = ours.broken or theirs.broken
            assert not broken, f"{name}: {broken}"
            seen = difference(read(data, own=b"127.0.0.1:%d" % balancer.port), ours, theirs, backend.records or {})
            if seen is None:
                continue
            row = listed.get(seen.rule)
            if row is None or seen.ours not in row.ours or seen.theirs not in row.theirs:
                surprises.append(f"{seen}: {name}")
            found.add(seen.rule)
    assert not surprises, f"{len(surprises)} differences that docs/http.md doesn't list:\n" + "\n".join(surprises[:10])
    if haproxy.version == COMPARED:
        stale = set(listed) - found - SOMETIMES
        assert not stale, f"docs/http.md lists what isn't so any more: {stale}"


def test_the_document_s_table_is_what_the_tests_compare_with() -> None:
    lines = DOCUMENT.read_text().splitlines()
    start = lines.index(HEADING[0])
    end = lines.index("", start)
    assert lines[start:end] == [*HEADING, *(row.markdown for row in ROWS)]
