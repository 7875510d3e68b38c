"""What every totals store promises."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hitmesh.errors import PageError
from hitmesh.protocol.messages import MAX_TOTAL
from hitmesh.protocol.pages import check_page
from hitmesh.store import Done, Refused, Row, Write
from hitmesh.store.consul import ConsulTotals
from hitmesh.store.sqlite import SqliteTotals
from tests.examples import examples

Store = SqliteTotals | ConsulTotals

ODD_PAGES = [
    "site/with space",
    "site/100%",
    "site/%41",
    "site/A",
    "site/what?x=1",
    "site/a#b",
    "site/日本語",
    "site/a//b",
    "site/a/b",
    "site/a/b/",
    "site//",
    "site",
    "site/...",
    'site/"quoted"',
    "site/back\\slash",
    "site/&amp;+,;=",
    "x" * 1024,
    "é" * 512,
    "%" * 1024,
]


def put(store: Store, partition: int, head: bytes, *rows: Row) -> int:
    """Write a head and rows over whatever is there; the head's new index."""
    before = store.read_head(partition)
    (outcome,) = store.write([Write(partition, before.index if before else 0, head, rows)])
    assert isinstance(outcome, Done)
    return outcome.index


def state(store: Store, partition: int) -> tuple[object, list[Row]]:
    """All there is of a partition, to compare with."""
    return store.read_head(partition), sorted(store.load(partition), key=repr)


def test_an_absent_head_is_none(store: Store) -> None:
    assert store.read_head(1) is None


def test_a_new_head_is_read_back_with_its_index(store: Store) -> None:
    index = put(store, 1, b"\x00head\xff")
    head = store.read_head(1)
    assert head is not None
    assert (head.body, head.index) == (b"\x00head\xff", index)


def test_a_head_is_not_found_under_a_partition_whose_number_begins_like_its_own(store: Store) -> None:
    put(store, 10, b"ten", Row("a/b", "eu", 1, 1))
    assert state(store, 1) == (None, [])
    assert state(store, 100) == (None, [])


def test_a_head_that_must_not_exist_and_does_is_refused(store: Store) -> None:
    put(store, 1, b"first")
    before = state(store, 1)
    assert store.write([Write(1, 0, b"second", [Row("a/b", "eu", 1, 1)])]) == [Refused()]
    assert state(store, 1) == before


def test_a_head_that_must_exist_and_does_not_is_refused(store: Store) -> None:
    assert store.write([Write(1, 5, b"head", [Row("a/b", "eu", 1, 1)])]) == [Refused()]
    assert state(store, 1) == (None, [])


def test_a_stale_index_is_refused_and_changes_nothing(store: Store) -> None:
    stale = put(store, 1, b"one", Row("a/b", "eu", 1, 1))
    put(store, 1, b"two", Row("a/b", "eu", 2, 2))
    before = state(store, 1)
    assert store.write([Write(1, stale, b"three", [Row("a/b", "eu", 99, 3), Row("a/c", "eu", 1, 3)])]) == [Refused()]
    assert state(store, 1) == before


def test_every_write_of_a_head_raises_its_index(store: Store) -> None:
    indexes = [put(store, 1, b"%d" % number) for number in range(4)]
    assert indexes == sorted(set(indexes))


def test_a_head_with_the_same_bytes_still_gets_a_new_index(store: Store) -> None:
    first = put(store, 1, b"same")
    second = put(store, 1, b"same")
    third = put(store, 1, b"same")
    assert first < second < third
    assert store.write([Write(1, second, b"same", [])]) == [Refused()]


def test_a_write_of_another_head_leaves_an_index_alone(store: Store) -> None:
    index = put(store, 1, b"one")
    put(store, 2, b"two")
    head = store.read_head(1)
    assert head is not None
    assert head.index == index


def test_as_many_rows_as_the_store_allows_are_written_with_their_head(store: Store) -> None:
    rows = [Row(f"site/{number}", "eu-west", number, 7) for number in range(store.max_rows)]
    index = put(store, 3, b"head", *rows)
    head, found = state(store, 3)
    assert getattr(head, "index", None) == index
    assert found == sorted(rows, key=repr)


def test_one_row_too_many_is_a_value_error_and_writes_nothing(store: Store) -> None:
    rows = [Row(f"site/{number}", "eu", 1, 1) for number in range(store.max_rows + 1)]
    with pytest.raises(ValueError, match="rows; the limit is"):
        store.write([Write(1, 0, b"head", rows)])
    assert state(store, 1) == (None, [])


def test_a_write_as_large_as_the_store_allows_is_done(store: Store) -> None:
    # The worst there is: every byte of a page takes three in a URL.
    pages = [f"{number:02}" + "%" * 1022 for number in range(min(63, store.max_rows))]
    rows = [Row(page, "d" * 128, MAX_TOTAL, MAX_TOTAL) for page in pages]
    left = store.max_write_bytes - sum(len(row.page) + len(row.dc) + len(str(row.count)) for row in rows)
    put(store, 4095, b"\xff" * left, *rows)
    assert state(store, 4095)[1] == sorted(rows, key=repr)


def test_a_byte_more_than_the_store_allows_is_a_value_error(store: Store) -> None:
    row = Row("a/b", "eu", 1, 1)
    left = store.max_write_bytes - len("a/b") - len("eu") - len("1")
    with pytest.raises(ValueError, match="the limit is"):
        store.write([Write(1, 0, b"h" * (left + 1), [row])])
    assert state(store, 1) == (None, [])


def test_a_head_alone_as_large_as_the_store_allows_is_done(store: Store) -> None:
    index = put(store, 4095, b"\xff" * store.max_head_bytes)
    head = store.read_head(4095)
    assert head is not None
    assert (head.index, len(head.body)) == (index, store.max_head_bytes)


def test_a_head_alone_of_a_byte_more_is_a_value_error(store: Store) -> None:
    with pytest.raises(ValueError, match="the limit is"):
        store.write([Write(1, 0, b"\xff" * (store.max_head_bytes + 1), [])])


def test_a_large_write_does_not_take_another_of_its_call_down(store: Store) -> None:
    large = b"h" * (store.max_write_bytes - 100)
    outcomes = store.write([Write(number, 0, large, [Row("a/b", "eu", 1, 1)]) for number in range(3)])
    assert [type(outcome) for outcome in outcomes] == [Done, Done, Done]


@pytest.mark.parametrize(
    "write",
    [
        Write(-1, 0, b"h", []),
        Write(4096, 0, b"h", []),
        Write(1, -1, b"h", []),
        Write(1, 0, b"", []),
        Write(1, 0, None, [Row("a/b", "eu", 1, 1)]),
        Write(1, 0, b"h", [Row("a/b", "eu", -1, 1)]),
        Write(1, 0, b"h", [Row("a/b", "eu", 2**63, 1)]),
        Write(1, 0, b"h", [Row("a/b", "eu", 1, 2**63)]),
        Write(1, 0, b"h", [Row("a" * 1025, "eu", 1, 1)]),
        Write(1, 0, b"h", [Row("", "eu", 1, 1)]),
        Write(1, 0, b"h", [Row("a/b", "", 1, 1)]),
        Write(1, 0, b"h", [Row("a/\ud800", "eu", 1, 1)]),
    ],
    ids=repr,
)
def test_what_is_no_write_is_a_value_error(store: Store, write: Write) -> None:
    with pytest.raises(ValueError, match=r"partition|surrogates"):
        store.write([write])


def test_two_writes_to_one_partition_in_a_call_are_a_value_error(store: Store) -> None:
    with pytest.raises(ValueError, match="two writes"):
        store.write([Write(1, 0, b"a", []), Write(1, 0, b"b", [])])


def test_no_writes_have_no_outcomes(store: Store) -> None:
    assert store.write([]) == []


def test_rows_under_the_heads_index_are_written_and_leave_the_head_alone(store: Store) -> None:
    index = put(store, 1, b"head with a redo")
    before = store.read_head(1)
    assert store.write([Write(1, index, None, [Row("a/b", "eu", 5, 2)])]) == [Done(index)]
    assert store.read_head(1) == before
    assert store.load(1) == [Row("a/b", "eu", 5, 2)]


def test_rows_under_a_stale_index_are_refused(store: Store) -> None:
    stale = put(store, 1, b"one")
    put(store, 1, b"two")
    assert store.write([Write(1, stale, None, [Row("a/b", "eu", 5, 2)])]) == [Refused()]
    assert store.load(1) == []


def test_rows_under_a_head_that_is_not_there_are_refused(store: Store) -> None:
    assert store.write([Write(1, 9, None, [Row("a/b", "eu", 5, 2)])]) == [Refused()]
    assert store.load(1) == []


def test_a_refused_write_takes_no_other_of_its_call_down(store: Store) -> None:
    stale = {partition: put(store, partition, b"old") for partition in range(30)}
    for partition in (0, 7, 8, 29):
        put(store, partition, b"taken over")
    writes = [Write(p, stale[p], b"new", [Row(f"site/{p}", "eu", p, 1)]) for p in range(30)]
    outcomes = store.write(writes)
    assert [p for p in range(30) if outcomes[p] == Refused()] == [0, 7, 8, 29]
    for partition in range(30):
        head = store.read_head(partition)
        assert head is not None
        if outcomes[partition] == Refused():
            assert (head.body, store.load(partition)) == (b"taken over", [])
        else:
            assert outcomes[partition] == Done(head.index)
            assert (head.body, store.load(partition)) == (b"new", [Row(f"site/{partition}", "eu", partition, 1)])


def test_outcomes_are_in_the_order_of_the_writes(store: Store) -> None:
    partitions = random.Random(5).sample(range(200), 200)
    outcomes = store.write([Write(p, 0, b"h%d" % p, [Row(f"s/{p}", "eu", p, 1)]) for p in partitions])
    for partition, outcome in zip(partitions, outcomes, strict=True):
        head = store.read_head(partition)
        assert head is not None
        assert outcome == Done(head.index)


def test_a_count_of_zero_is_not_an_absent_row(store: Store) -> None:
    put(store, 1, b"head", Row("a/zero", "eu", 0, 1))
    assert store.read({1: ["a/zero", "a/absent"]})[1][1] == [Row("a/zero", "eu", 0, 1)]


def test_the_largest_counts_and_commits_come_back(store: Store) -> None:
    row = Row("a/b", "eu", MAX_TOTAL, MAX_TOTAL)
    put(store, 1, b"head", row)
    assert store.load(1) == [row]


def test_a_row_is_replaced_by_the_next_count(store: Store) -> None:
    put(store, 1, b"one", Row("a/b", "eu", 10, 1))
    put(store, 1, b"two", Row("a/b", "eu", 3, 2))
    assert store.load(1) == [Row("a/b", "eu", 3, 2)]


def test_each_datacenters_row_of_a_page_is_kept(store: Store) -> None:
    rows = [Row("a/b", "eu-west", 1, 1), Row("a/b", "us-west", 2, 1)]
    put(store, 1, b"head", *rows)
    assert sorted(store.read({1: ["a/b"]})[1][1], key=repr) == rows


def test_a_read_has_the_head_and_only_the_pages_asked_for(store: Store) -> None:
    index = put(store, 1, b"head", Row("a/b", "eu", 1, 1), Row("a/b/c", "eu", 2, 1), Row("a", "eu", 3, 1))
    head, rows = store.read({1: ["a/b", "a/b"]})[1]
    assert head is not None
    assert (head.body, head.index, rows) == (b"head", index, [Row("a/b", "eu", 1, 1)])


def test_a_read_of_what_can_not_be_a_name_leaves_the_store_usable(store: Store) -> None:
    put(store, 1, b"head", Row("a/b", "eu", 1, 1))
    with pytest.raises(ValueError, match="surrogates"):
        store.read({1: ["a/\ud800"]})
    assert store.read({1: ["a/b"]})[1][1] == [Row("a/b", "eu", 1, 1)]


def test_a_read_of_no_pages_has_the_head(store: Store) -> None:
    put(store, 1, b"head", Row("a/b", "eu", 1, 1))
    head, rows = store.read({1: []})[1]
    assert (head and head.body, rows) == (b"head", [])


def test_a_read_of_many_pages_has_all_of_them(store: Store) -> None:
    rows = [Row(f"site/{number}", "eu", number, 1) for number in range(200)]
    for at in range(0, 200, 50):
        put(store, 1, b"head %d" % at, *rows[at : at + 50])
    head, found = store.read({1: [row.page for row in rows]})[1]
    assert head == store.read_head(1)
    assert sorted(found, key=repr) == sorted(rows, key=repr)


def test_a_read_of_many_partitions_says_of_each_its_own(store: Store) -> None:
    for partition in range(50):
        put(store, partition, b"head %d" % partition, Row("site/page", "eu", partition, 1), Row("site/b", "us", 1, 1))
    wanted = {partition: ["site/page", "site/absent"] for partition in (*range(50), 60)}
    found = store.read(wanted)
    assert found.keys() == wanted.keys()
    assert found.pop(60) == (None, [])
    for partition, (head, rows) in found.items():
        assert head == store.read_head(partition)
        assert rows == [Row("site/page", "eu", partition, 1)]


def test_reads_loads_and_scans_agree(store: Store) -> None:
    for partition in (0, 1, 10, 4095):
        put(store, partition, b"h%d" % partition, *(Row(f"s/{n}", "eu", n, partition) for n in range(partition % 7)))
    scanned = list(store.scan())
    assert [partition for partition, _, _ in scanned] == [0, 1, 10, 4095]
    for partition, head, rows in scanned:
        assert head == store.read_head(partition)
        assert sorted(rows, key=repr) == sorted(store.load(partition), key=repr)
        assert store.read({partition: [row.page for row in rows]})[partition][0] == head


def test_an_empty_store_has_nothing_to_scan(store: Store) -> None:
    assert list(store.scan()) == []


def test_a_store_that_answers_passes_its_check(store: Store) -> None:
    store.check()
    store.close()
    store.check()  # closing gives up connections; the next call opens new ones
    assert store.read_head(1) is None


@pytest.mark.parametrize("page", ODD_PAGES, ids=lambda page: ascii(page[:20]))
def test_an_odd_page_is_a_page_of_its_own(store: Store, page: str) -> None:
    assert check_page(page)
    put(store, 2, b"head", *(Row(each, "eu", at, 1) for at, each in enumerate(ODD_PAGES)))
    assert store.read({2: [page]})[2][1] == [Row(page, "eu", ODD_PAGES.index(page), 1)]


def _is_a_page(text: str) -> bool:
    try:
        check_page(text)
    except PageError:
        return False
    return True


pages = st.text(max_size=200).filter(_is_a_page)


@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(pages, min_size=1, max_size=20, unique=True))
def test_any_pages_come_back_as_they_were(store: Store, names: list[str]) -> None:
    put(store, 9, b"head", *(Row(name, "eu", at, 1) for at, name in enumerate(names)))
    found = {row.page: row.count for row in store.read({9: names})[9][1]}
    assert found == {name: at for at, name in enumerate(names)}
