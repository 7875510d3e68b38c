"""Keys and transactions as bytes, without a server."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.protocol.messages import MAX_TOTAL
from hitmesh.store import Done, Refused, Row, Write, consul_txn
from hitmesh.store.consul_keys import Keys, count_value

KEYS = Keys("mesh")
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=50)
partitions = st.integers(0, 4095)


def packed(*sizes: int) -> list[consul_txn.Packed]:
    """Writes of so many operations each, to partitions 0, 1, ..."""
    rows = [Row(f"s/{number}", "eu", 1, 1) for number in range(64)]
    return [consul_txn.pack(at, Write(at, 1, b"h", rows[: size - 1]), KEYS) for at, size in enumerate(sizes)]


def errors(*failed: tuple[int, str]) -> str:
    """An answer with these errors."""
    return json.dumps({"Results": None, "Errors": [{"OpIndex": at, "What": what} for at, what in failed]})


STALE = 'failed to set key "mesh/heads/0000", index is stale'


@given(partitions, texts, texts, st.integers(0, MAX_TOTAL), st.integers(0, MAX_TOTAL))
def test_a_row_comes_back_from_its_key_and_value(partition: int, page: str, dc: str, count: int, commit: int) -> None:
    key = KEYS.row(partition, page, dc)
    assert KEYS.parse_row(key, count_value(count), commit) == (partition, Row(page, dc, count, commit))


@given(st.one_of(texts, st.text("aZ09._~/-% +\n\u00e9", max_size=20)), texts)
def test_a_key_is_percent_encoded_as_everybody_does_it(page: str, dc: str) -> None:
    assert KEYS.row(7, page, dc) == f"mesh/rows/0007/{quote(page, safe='')}/{quote(dc, safe='')}"


@given(partitions, texts, texts, texts)
def test_no_page_has_the_beginning_of_another_pages_rows(partition: int, page: str, other: str, dc: str) -> None:
    begins = KEYS.row(partition, other, dc).startswith(KEYS.page(partition, page))
    assert begins == (page == other)


@given(partitions, partitions)
def test_no_partition_has_the_beginning_of_anothers_keys(one: int, other: int) -> None:
    assert KEYS.head(other).startswith(KEYS.head(one)) == (one == other)
    assert KEYS.rows_of(other).startswith(KEYS.rows_of(one)) == (one == other)


@given(partitions)
def test_a_partition_comes_back_from_its_heads_key(partition: int) -> None:
    assert KEYS.partition_of_head(KEYS.head(partition)) == partition


@pytest.mark.parametrize(
    "key", ["mesh/heads/1", "mesh/heads/0001/", "other/heads/0001", "mesh/heads/\u0660\u0660\u0660\u0661"]
)
def test_another_key_is_no_heads(key: str) -> None:
    with pytest.raises(ValueError, match="not a partition"):
        KEYS.partition_of_head(key)


def test_writes_share_transactions_up_to_64_operations() -> None:
    groups = consul_txn.group(packed(32, 32, 1, 63, 64, 2))
    assert [[each.number for each in together] for together in groups] == [[0, 1], [2, 3], [4], [5]]


def test_writes_share_transactions_up_to_a_size() -> None:
    third = consul_txn.MAX_SHARED_BYTES // 4  # and a third more in base64
    writes = [consul_txn.pack(at, Write(at, 1, b"h" * third, []), KEYS) for at in range(4)]
    assert [len(together) for together in consul_txn.group(writes)] == [2, 2]


def test_the_writes_whose_head_operation_failed_are_refused() -> None:
    body = errors((3, STALE), (5, 'failed index check for key "k", current modify index 8 != 3'))
    assert consul_txn.refused(packed(3, 2, 2, 4), body) == {1: Refused(), 2: Refused()}


@pytest.mark.parametrize(
    "body",
    [
        errors((0, "Permission denied")),
        errors((0, STALE), (3, "Permission denied")),
        errors((1, STALE)),
        errors((7, STALE)),
        errors(),
        '{"Results":null,"Errors":null}',
        "{}",
        "",
    ],
)
def test_a_409_for_any_other_reason_refuses_nothing(body: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        consul_txn.refused(packed(3, 2), body)


def test_a_done_writes_index_is_its_own_heads() -> None:
    results = [
        {"KV": {"Key": key, "Flags": 0, "Value": None, "ModifyIndex": index}}
        for key, index in (("mesh/heads/0001", 8), ("mesh/rows/0000/s%2F0/eu", 9), ("mesh/heads/0000", 7))
    ]
    assert consul_txn.done(packed(1, 1), json.dumps({"Results": results})) == {0: Done(7), 1: Done(8)}
