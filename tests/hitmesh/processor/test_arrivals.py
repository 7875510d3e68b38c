"""Rows of other datacenters on their way into a commit."""

from __future__ import annotations

import pytest

from hitmesh.processor import staging
from hitmesh.processor.arrivals import Arrivals, rows_of
from hitmesh.processor.staging import Size
from hitmesh.processor.steps import Counters
from hitmesh.protocol.messages import Chunk, Origin, OriginRow, Position
from hitmesh.store import Row


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def arrivals(counters: Counters) -> Arrivals:
    return Arrivals(7, counters)


def chunk(origin: str, pages: int = 1, *, epoch: int = 2, commit: int = 5, ledger: str = "l") -> Chunk:
    rows = tuple(OriginRow(f"s/{number}", number + 1, commit) for number in range(pages))
    return Chunk(7, origin, 1, 0, 0, True, at(epoch, commit, ledger), rows, {})


def at(epoch: int, commit: int, ledger: str = "l") -> Origin:
    return Origin(Position(ledger, epoch, commit), 0, {}, 0)


@pytest.mark.parametrize(
    ("what", "is_taken"),
    [
        (chunk("us", epoch=2, commit=5), True),
        (chunk("us", epoch=3, commit=5), True),
        (chunk("us", epoch=1, commit=6), False),
        (chunk("us", epoch=3, commit=4), False),
        (chunk("us", epoch=3, commit=9, ledger="other"), False),
        (chunk("us", epoch=1000, commit=1), True),  # its store was lost and brought back
        (chunk("us", epoch=1000, commit=9, ledger="other"), False),
    ],
)
def test_what_is_known_never_goes_back(arrivals: Arrivals, counters: Counters, what: Chunk, is_taken: bool) -> None:
    assert arrivals.add(what, {"us": at(2, 5)}) is is_taken
    assert bool(arrivals) is is_taken
    assert bool(counters.faults) is not is_taken


def test_a_chunk_larger_than_a_commit_is_refused(
    arrivals: Arrivals, counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "MAX_COMMIT_ROWS", 3)
    assert arrivals.add(chunk("us", 3), {})
    assert not arrivals.add(chunk("ap", 4), {})
    assert counters.faults


def test_a_commit_takes_what_it_has_room_for_and_leaves_room_for_the_rest(
    arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "MAX_COMMIT_ROWS", 5)
    for origin in ("us", "ap"):
        arrivals.add(chunk(origin, 3), {})
    (first,) = arrivals.take(Size(2, 0))
    assert first.origin == "us"
    assert arrivals.reserved == Size(3, 9)
    assert arrivals.take(Size(3, 0)) == []
    (second,) = arrivals.take(Size(2, 0))
    assert second.origin == "ap"
    assert arrivals.reserved == Size()


def test_rows_count_once_they_are_committed(arrivals: Arrivals, counters: Counters) -> None:
    arrivals.loaded(Row("s/0", "us", 9, 1))
    arrivals.add(chunk("ap", 2), {})
    chunks = arrivals.take(Size())
    subtotals = {"eu": 4}
    arrivals.add_counts("s/0", subtotals)
    assert subtotals == {"eu": 4, "us": 9}
    arrivals.committed(chunks)
    arrivals.add_counts("s/0", subtotals)
    assert subtotals == {"eu": 4, "us": 9, "ap": 1}
    assert counters.rows_received == 2
    assert rows_of(chunks) == [Row("s/0", "ap", 1, 5), Row("s/1", "ap", 2, 5)]
