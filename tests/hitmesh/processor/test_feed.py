"""The memory of the newest rows, and how rows are cut into chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.processor import feed as module
from hitmesh.processor.feed import Feed, by_commit, cut
from hitmesh.protocol.messages import MAX_CHUNK_ROWS, OriginRow

commits = st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 99), min_size=1), max_size=12)


@given(commits, st.integers(0, 12), st.integers(1, 8))
def test_above_is_every_row_that_changed_since_or_unknown(history: list[dict[str, int]], after: int, room: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_RECENT", room)
        feed = Feed()
        rows: dict[str, OriginRow] = {}
        for commit, changed in enumerate(history, 1):
            feed.wrote(commit, changed)
            rows.update({page: OriginRow(page, count, commit) for page, count in changed.items()})
        found = feed.above(after)
        expected = {row for row in rows.values() if row.commit > after}
        if found is None:
            assert after < feed.floor
            assert len(rows) > room
        else:
            assert set(found) == expected
            assert found == by_commit(found)
        assert all(row.commit <= feed.floor for row in rows.values() if row not in (feed.above(feed.floor) or ()))


def test_a_feed_that_was_loaded_knows_nothing_older() -> None:
    feed = Feed()
    feed.loaded(7)
    assert feed.above(6) is None
    assert feed.above(7) == []
    assert feed.commit == 7


def test_a_commit_without_own_rows_is_no_news() -> None:
    feed = Feed()
    feed.wrote(3, {})
    assert feed.commit == 0


def test_only_the_first_question_of_an_instance_is_its_first() -> None:
    feed = Feed()
    assert [feed.meets("us", "eu", one) for one in ("p1", "p1", "p2", "p1")] == [True, False, True, True]
    assert feed.meets("us", "ap", "p1")


def rows_of(*sizes: int) -> list[OriginRow]:
    """So many rows in each commit."""
    return [OriginRow(f"s/{commit}/{n}", 1, commit) for commit, size in enumerate(sizes, 1) for n in range(size)]


def test_a_chunk_is_whole_commits() -> None:
    rows = rows_of(400, 500, 200, 1)
    some, is_all = cut(rows)
    assert (len(some), is_all) == (900, False)
    assert cut(rows[900:]) == (rows[900:], True)


def test_a_chunk_holds_one_commit_at_least() -> None:
    rows = rows_of(MAX_CHUNK_ROWS, 1)
    assert cut(rows) == (rows[:MAX_CHUNK_ROWS], False)


def test_a_chunk_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHUNK_BYTES", 12)
    rows = [OriginRow("é" * 3, 1, commit) for commit in (1, 2, 3)]
    assert cut(rows) == (rows[:2], False)


def test_nothing_is_a_whole_chunk() -> None:
    assert cut([]) == ([], True)
