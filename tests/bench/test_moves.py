"""Hand-overs read from heads that were seen."""

from __future__ import annotations

import pytest

from bench.moves import Glimpse, gaps, moves, unowned


def seen(*glimpses: tuple[float, int, int]) -> list[Glimpse]:
    return [Glimpse(at_s, epoch, hits) for at_s, epoch, hits in glimpses]


STEADY = seen((0.0, 1, 0), (0.25, 1, 5), (0.5, 1, 9), (0.75, 1, 12))


def test_without_another_epoch_nothing_has_moved() -> None:
    assert moves(3, STEADY) == []
    assert gaps(STEADY) == [0.25, 0.25]


def test_a_pause_is_from_the_old_owners_last_commit_to_the_new_ones_first() -> None:
    [move] = moves(3, [*STEADY, *seen((0.85, 2, 12), (0.95, 2, 20), (1.2, 2, 24))])
    assert (move.partition, move.last_s) == (3, 0.75)
    assert (move.claimed_s, move.pause_s, move.first_commit_s) == pytest.approx((0.1, 0.2, 0.1))


def test_a_head_that_changes_without_hits_ends_no_pause() -> None:
    [move] = moves(3, [*STEADY, *seen((0.8, 1, 12), (0.85, 2, 12), (0.9, 2, 12), (0.95, 2, 20))])
    assert (move.claimed_s, move.pause_s) == pytest.approx((0.1, 0.2))


def test_a_claim_that_was_seen_with_its_first_commit_only_is_both() -> None:
    [move] = moves(3, [*STEADY, *seen((0.9, 2, 20))])
    assert (move.claimed_s, move.pause_s) == pytest.approx((0.15, 0.15))


def test_a_move_that_has_led_to_no_commit_is_none_yet() -> None:
    assert moves(3, [*STEADY, *seen((0.9, 2, 12))]) == []


def test_an_owner_that_never_committed_lengthens_the_pause_of_the_next() -> None:
    first, second = moves(3, [*STEADY, *seen((0.85, 2, 12), (1.0, 3, 12), (1.15, 3, 20))])
    assert first.pause_s == second.pause_s == pytest.approx(0.4)


def test_a_gap_over_a_change_of_owner_is_none_of_the_usual_ones() -> None:
    assert gaps([*STEADY, *seen((1.85, 2, 12), (1.95, 2, 20), (2.2, 2, 24))]) == pytest.approx([0.25, 0.25, 0.25])


def test_a_partition_is_unowned_from_one_claim_to_the_next() -> None:
    assert unowned([(0.0, True), (1.0, False), (1.2, True), (3.0, False), (3.5, False), (4.0, True), (5.0, False)]) == (
        pytest.approx([0.2, 1.0])
    )
