"""What is asked and written to bring a partition back."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from hitmesh.processor.restoring import PROVISIONAL_S, Restoration
from hitmesh.protocol.messages import Chunk, Head, LaneState, Origin, OriginRow, Position, make
from hitmesh.store import Row

BLANK = make(Head, "new", 1, "me", 0, 0, {}, (), {}, True, 0)
LANES = {"w": LaneState(9, (), 9, 1)}


def chunk(
    origin: str,
    commit: int,
    rows: Mapping[str, int],
    *,
    whole: bool = True,
    hits: int | None = None,
    ledger: str = "old",
    known: Mapping[str, int] | None = None,
) -> Chunk:
    """Rows of `commit`, with marks as of it."""
    state = Origin(Position(ledger, 5, commit), sum(rows.values()) if hits is None else hits, LANES, 1)
    found = tuple(OriginRow(page, count, commit) for page, count in rows.items())
    there = {dc: Position("old", 5, at) for dc, at in (known or {}).items()}
    return Chunk(0, origin, 1, 0, 0, whole, state, found, there)


def nothing(origin: str) -> Chunk:
    return Chunk(0, origin, 1, 0, 0, True, None, (), {})


def begun(head: Head = BLANK, rows: tuple[Row, ...] = ()) -> Restoration:
    restoration = Restoration("eu", head)
    restoration.loaded(rows)
    return restoration


def asked(restoration: Restoration, *peers: str) -> list[tuple[str, str]]:
    return [(peer, origin) for peer, origin, _ in restoration.wanted(peers, peers, 0.0)]


def test_every_origin_is_asked_of_one_peer_at_a_time() -> None:
    restoration = begun()
    assert asked(restoration, "ap", "us") == [("ap", "eu"), ("ap", "ap"), ("us", "us")]
    restoration.arrived("ap", nothing("eu"), 0.0)
    assert asked(restoration, "ap", "us") == [("ap", "ap"), ("us", "eu"), ("us", "us")]


def test_whom_nobody_reaches_is_passed_over_and_waited_for() -> None:
    restoration = begun()
    assert list(restoration.wanted({"ap", "us"}, {"us"}, 0.0)) == [("us", "eu", None), ("us", "us", None)]
    for origin in ("eu", "us"):
        restoration.arrived("us", nothing(origin), 0.0)
    assert not restoration.is_complete({"ap", "us"}, 0.0)
    assert restoration.is_complete({"us"}, 0.0)


def test_the_next_question_is_for_what_is_above_what_came() -> None:
    restoration = begun()
    restoration.arrived("us", chunk("eu", 4, {"s/a": 1}, whole=False), 0.0)
    assert next(restoration.wanted({"us"}, {"us"}, 0.0))[2] == Position("old", 5, 4)
    restoration.arrived("us", chunk("eu", 6, {"s/a": 2}), 0.0)
    assert ("us", "eu") not in asked(restoration, "us")


def test_it_is_not_complete_before_the_store_was_looked_at() -> None:
    restoration = Restoration("eu", BLANK)
    assert not restoration.is_complete(set(), 0.0)


def test_nobody_is_asked_before_the_store_was_looked_at() -> None:
    restoration = Restoration("eu", BLANK)
    assert asked(restoration, "us") == []  # an answer would have nothing to be laid over, and its rows be left out
    restoration.loaded(())
    assert asked(restoration, "us") == [("us", "eu"), ("us", "us")]


def test_nobody_is_asked_once_it_is_being_written() -> None:
    restoration = begun()
    blank = Chunk(0, "us", 1, 0, 0, False, None, (), {})
    for one in (chunk("eu", 6, {"s/a": 2}), blank):
        restoration.arrived("us", one, 0.0)
    assert restoration.seal() is not None
    assert list(restoration.wanted({"us"}, {"us"}, PROVISIONAL_S)) == []


def test_rows_of_a_datacenter_that_has_lost_its_own_are_asked_of_who_has_more() -> None:
    restoration = begun()
    restoration.arrived("ap", nothing("ap"), 0.0)
    restoration.arrived("us", chunk("us", 3, {}, known={"ap": 8, "eu": 2}), 0.0)
    assert asked(restoration, "ap", "us") == [("ap", "eu"), ("us", "ap")]
    restoration.arrived("us", chunk("ap", 8, {"s/a": 7}), 0.0)
    assert asked(restoration, "ap", "us") == [("ap", "eu")]


def test_the_marks_are_written_before_the_rows_and_the_head_goes_on_from_there() -> None:
    restoration = begun()
    restoration.arrived("us", chunk("eu", 6, {"s/a": 2, "s/b": 3}), 0.0)
    restoration.arrived("us", chunk("us", 9, {"s/a": 4}), 0.0)
    sealed = restoration.seal()
    assert sealed is not None
    assert (sealed.restoring, sealed.lanes, sealed.hits, sealed.commit) == (True, LANES, 5, 6)
    assert restoration.rows(2) == [Row("s/a", "eu", 2, 6), Row("s/b", "eu", 3, 6)]
    restoration.wrote(2)
    assert restoration.rows(2) == [Row("s/a", "us", 4, 9)]
    restoration.wrote(2)
    head = restoration.head(sealed)
    assert (head.restoring, head.ledger, head.epoch, head.commit, head.lost) == (False, "old", 1000, 6, 0)
    assert head.origins["us"].position.commit == 9
    assert "eu" not in head.origins


def test_nothing_to_write_needs_no_head_before_it() -> None:
    restoration = begun()
    restoration.arrived("us", nothing("eu"), 0.0)
    assert restoration.seal() is None
    head = restoration.head(BLANK)
    assert (head.restoring, head.ledger, head.epoch, head.commit) == (False, "new", 1, 0)


def test_hits_that_came_without_their_rows_are_lost_and_said() -> None:
    restoration = begun()
    restoration.arrived("us", chunk("eu", 6, {"s/a": 2}, hits=10), 0.0)
    assert restoration.head(BLANK).lost == 8


def test_what_an_earlier_attempt_left_is_kept_where_nobody_has_anything_newer() -> None:
    earlier = replace(BLANK, ledger="old", epoch=1005, commit=6, hits=9, lanes=LANES)
    restoration = begun(earlier, (Row("s/a", "eu", 5, 6), Row("s/b", "eu", 4, 3)))
    restoration.arrived("us", chunk("eu", 4, {"s/a": 1, "s/b": 4}), 0.0)
    head = restoration.head(earlier)
    assert (head.commit, head.hits, head.lanes, head.lost) == (6, 9, LANES, 0)
    assert restoration.rows(9) == [Row("s/b", "eu", 4, 4)]


def test_a_peer_with_another_history_is_left_out_and_said() -> None:
    restoration = begun()
    restoration.arrived("ap", chunk("eu", 4, {"s/a": 1}), 0.0)
    restoration.arrived("us", chunk("eu", 9, {"s/a": 8}, ledger="other"), 0.0)
    assert restoration.head(BLANK).hits == 1
    assert len(restoration.faults) == 1
    assert "another history" in restoration.faults[0]


@pytest.mark.parametrize("order", [("ap", "us"), ("us", "ap")])
def test_the_one_who_knows_more_is_believed_whoever_is_asked_first(order: tuple[str, str]) -> None:
    restoration = begun()
    answers = {"ap": chunk("eu", 4, {"s/a": 1}), "us": chunk("eu", 9, {"s/a": 8})}
    for peer in order:
        restoration.arrived(peer, answers[peer], 0.0)
    assert restoration.head(BLANK).hits == 8
    assert restoration.rows(9)[-1].count == 8


def test_nothing_so_far_of_one_who_is_brought_back_himself_is_asked_again() -> None:
    restoration = begun()
    restoration.arrived("us", nothing("us"), 0.0)
    restoration.arrived("us", Chunk(0, "eu", 1, 0, 0, False, None, (), {}), 5.0)
    assert restoration.is_complete({"us"}, 5.0 + PROVISIONAL_S - 0.1)
    assert not restoration.is_complete({"us"}, 5.0 + PROVISIONAL_S)
    restoration.arrived("ap", Chunk(0, "eu", 1, 0, 0, False, None, (), {}), 5.0)
    assert {peer for peer, origin, _ in restoration.wanted({"ap", "us"}, {"ap", "us"}, 20.0) if origin == "eu"} == {
        "ap",
        "us",
    }


def test_who_has_still_to_answer_is_named() -> None:
    restoration = begun()
    assert restoration.waits_for({"ap", "us"}, 0.0) == {"ap", "us"}
    for origin in ("eu", "us"):
        restoration.arrived("us", nothing(origin), 0.0)
    assert restoration.waits_for({"ap", "us"}, 0.0) == {"ap"}
