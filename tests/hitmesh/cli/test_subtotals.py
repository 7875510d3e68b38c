"""Whose word is taken for a datacenter's counts."""

from __future__ import annotations

from collections.abc import Mapping

from hitmesh.cli.subtotals import Missing, Source, Subtotal, put_together
from hitmesh.protocol.pages import partition_of
from hitmesh.store.totals import Listing

PARTITIONS = 8
NOW_S = 1000.0
ALL = frozenset(range(PARTITIONS))


def source(
    dc: str,
    totals: Mapping[str, Mapping[str, int]],
    *,
    as_of_s: Mapping[str, float] | None = None,
    restoring: frozenset[int] = frozenset(),
    headless: frozenset[int] = frozenset(),
    unknown: frozenset[str] = frozenset(),
) -> Source:
    """A store that can be read; its copies were current at `as_of_s` in every partition."""
    ages = dict.fromkeys(ALL - restoring - headless, as_of_s or {})
    return Source(dc, PARTITIONS, Listing(totals, unknown, restoring | headless, headless, ages))


def unreadable(dc: str) -> Source:
    return Source(dc, PARTITIONS, None, f"{dc} can't be read")


def test_a_datacenter_s_own_store_is_believed_whatever_others_have() -> None:
    eu = source("eu", {"s/a": {"eu": 3, "us": 99}, "s/b": {"us": 1}}, as_of_s={"us": 999.0})
    us = source("us", {"s/a": {"us": 4, "eu": 99}})
    found = put_together([eu, us], NOW_S)
    assert found.totals == {"s/a": {"eu": Subtotal(3), "us": Subtotal(4)}}
    assert found.missing == []


def test_of_several_copies_the_youngest_is_taken() -> None:
    eu = source("eu", {"s/a": {"eu": 3, "us": 7}}, as_of_s={"us": 990.0})
    ap = source("ap", {"s/a": {"us": 6}, "s/b": {"us": 1}}, as_of_s={"us": 980.0})
    found = put_together([eu, unreadable("us"), ap], NOW_S)
    assert found.totals == {
        "s/a": {"eu": Subtotal(3), "us": Subtotal(7, 10.0, "eu")},
        "s/b": {"us": Subtotal(1, 20.0, "ap")},
    }
    assert found.missing == [Missing("us", "us can't be read", {"eu": 10.0, "ap": 20.0})]
    assert found.missing[0].line == ("us can't be read: its counts are eu's copy, 10 s old and ap's copy, 20 s old")


def test_only_partitions_that_are_to_be_brought_back_are_taken_from_copies() -> None:
    here, back = "s/a", "s/b"
    at = partition_of(back, PARTITIONS)
    assert at != partition_of(here, PARTITIONS)
    eu = source("eu", {here: {"us": 2}, back: {"us": 5}}, as_of_s={"us": 990.0})
    us = source("us", {here: {"us": 3}}, restoring=frozenset({at}), unknown=frozenset({back}))
    found = put_together([eu, us], NOW_S)
    assert found.totals == {here: {"us": Subtotal(3)}, back: {"us": Subtotal(5, 10.0, "eu")}}
    assert [each.line for each in found.missing] == [
        "1 partition of us still to be brought back: its counts are eu's copy, 10 s old"
    ]


def test_a_datacenter_that_has_no_store_here_is_known_by_its_copies() -> None:
    found = put_together([source("eu", {"s/a": {"eu": 3, "us": 7}}, as_of_s={"us": 990.0})], NOW_S)
    assert found.totals == {"s/a": {"eu": Subtotal(3), "us": Subtotal(7, 10.0, "eu")}}
    assert found.missing == []


def test_a_copy_that_doesn_t_say_how_old_it_is_is_taken_if_there_is_no_other() -> None:
    eu, ap = source("eu", {"s/a": {"us": 7}}), source("ap", {"s/a": {"us": 5}}, as_of_s={"us": 900.0})
    assert put_together([eu, unreadable("us")], NOW_S).totals == {"s/a": {"us": Subtotal(7, None, "eu")}}
    assert "of unknown age" in put_together([eu, unreadable("us")], NOW_S).missing[0].line
    assert put_together([eu, unreadable("us"), ap], NOW_S).totals == {"s/a": {"us": Subtotal(5, 100.0, "ap")}}


def test_counts_that_nobody_has_are_missing() -> None:
    found = put_together([source("eu", {"s/a": {"eu": 3}}), unreadable("us")], NOW_S)
    assert found.missing == [Missing("us", "us can't be read", {})]
    assert found.missing[0].line.endswith("nobody else here has a copy of its counts")


def test_partitions_that_were_never_used_lack_nothing() -> None:
    found = put_together([source("eu", {}, headless=ALL), source("us", {}, headless=ALL)], NOW_S)
    assert (found.totals, found.missing) == ({}, [])


def test_rows_without_a_head_that_nobody_else_has_are_missing() -> None:
    us = source("us", {}, headless=ALL, unknown=frozenset({"s/a"}))
    assert [each.dc for each in put_together([source("eu", {}), us], NOW_S).missing] == ["us"]


def test_a_partition_that_is_brought_back_lacks_nothing_where_another_knows_that_there_is_nothing() -> None:
    us = source("us", {}, restoring=frozenset({3}))
    assert [each.dc for each in put_together([source("eu", {}), us], NOW_S).missing] == ["us"]
    assert put_together([source("eu", {}, as_of_s={"us": 990.0}), us], NOW_S).missing == []
