"""Rows of other datacenters on their way into a commit."""

from __future__ import annotations

import pytest

from hitmesh.processor import staging
from hitmesh.processor.arrivals import Arrivals, not_after, rows_of
from hitmesh.processor.staging import LANE_RETENTION_S, Size
from hitmesh.processor.steps import Counters
from hitmesh.protocol.messages import MAX_DCS, Chunk, LaneState, Origin, OriginRow, Position
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


def known(hits: int = 9, lanes: dict[str, LaneState] | None = None) -> dict[str, Origin]:
    return {"us": Origin(Position("l", 2, 5), hits, lanes or {}, 0)}


def news(count: int = 9, hits: int = 9, *, epoch: int = 2, lanes: dict[str, LaneState] | None = None) -> Chunk:
    state = Origin(Position("l", epoch, 6), hits, lanes or {}, 0)
    return Chunk(7, "us", 1, 0, 0, True, state, (OriginRow("s/a", count, 6), OriginRow("s/b", 1, 6)), {})


@pytest.mark.parametrize(
    ("what", "have", "reason"),
    [
        (news(count=8), known(), "8 hits of 's/a'"),
        (news(hits=8), known(), "8 hits, and there were 9"),
        (
            news(lanes={"w": LaneState(4, (), 1, 0)}),
            known(lanes={"w": LaneState(5, (), 1, 0)}),
            "the lane of 'w' at 4, and it was at 5",
        ),
        (news(), {f"dc-{number}": at(1, 1) for number in range(MAX_DCS - 1)}, "63 other datacenters"),
        (
            news(lanes={f"worker-{number}": LaneState(1, (), 0, 0) for number in range(1000)}),
            {
                f"dc-{at_}": Origin(
                    Position("l", 2, 5), 0, {f"w-{number}": LaneState(1, (), 0, 0) for number in range(1000)}, 0
                )
                for at_ in range(2)
            },
            "no room in the head",
        ),
    ],
)
def test_what_is_known_is_never_lowered(
    arrivals: Arrivals, counters: Counters, what: Chunk, have: dict[str, Origin], reason: str
) -> None:
    arrivals.loaded(Row("s/a", "us", 9, 5))
    assert not arrivals.add(what, have)
    assert reason in counters.faults[0]


def test_rows_that_are_lower_since_a_store_was_wiped_stay_as_they_are_known(
    arrivals: Arrivals, counters: Counters
) -> None:
    arrivals.loaded(Row("s/a", "us", 9, 5))
    assert arrivals.add(news(count=8, hits=8, epoch=1000), known())
    assert rows_of(arrivals.take(Size())) == [Row("s/b", "us", 1, 6)]
    assert "fewer hits of 1 pages" in counters.faults[0]


def test_a_lane_that_was_forgotten_and_used_again_may_be_lower(arrivals: Arrivals) -> None:
    idle, again = LaneState(5, (), 5, 100), LaneState(0, ((6, 6),), 1, 100 + LANE_RETENTION_S)
    assert arrivals.add(news(lanes={"w": again}), known(lanes={"w": idle}))


def test_what_is_told_by_somebody_else_may_be_from_before_the_marks_that_are_known(arrivals: Arrivals) -> None:
    """The first part of a long answer has the marks of its end; then its sender goes, and others know less."""
    lanes = {"w": LaneState(9, (), 9, 0)}
    chunk = news(hits=5, lanes={"w": LaneState(5, (), 5, 0)})
    assert arrivals.add(chunk, known(lanes=lanes), is_relayed=True)
    (taken,) = arrivals.take(Size())
    assert taken.state is not None
    assert (taken.state.position.commit, taken.state.hits, taken.state.lanes) == (6, 9, lanes)


def test_nothing_is_younger_than_its_coming() -> None:
    assert not_after(Origin(Position("l", 1, 1), 0, {}, 2**63 - 1), 50).as_of_s == 50
    assert not_after(Origin(Position("l", 1, 1), 0, {}, 40), 50).as_of_s == 40
