"""The list of all totals: what is in an entry, and in which order unknown ones come."""

from __future__ import annotations

from hitmesh.collector.known import Total
from hitmesh.collector.listed import Listed
from hitmesh.protocol.pages import partition_of
from hitmesh.store.totals import Listing

PARTITIONS = 8
AT = partition_of("s/b", PARTITIONS)


def listed(*, unknown: frozenset[str] = frozenset(), restoring: frozenset[int] = frozenset()) -> Listed:
    """Page s/b, read at 10 and looked at at 12; in its partition us was current at 9, in all others at 3."""
    listing = Listing({"s/b": {"eu": 5, "us": 2}}, unknown, restoring, frozenset(), {})
    as_of = {partition: {"us": 9.0 if partition == AT else 3.0, "ap": 4.0} for partition in range(PARTITIONS)}
    return Listed(listing, as_of, dc="eu", partitions=PARTITIONS, read_s=10.0, now_s=12.0)


def test_each_count_has_the_age_of_its_datacenter_in_the_page_s_partition() -> None:
    assert listed().total("s/b") == Total(7, {"eu": 5, "us": 2, "ap": 0}, {"eu": 2.0, "us": 3.0, "ap": 8.0})
    assert listed().sum("s/b") == 7


def test_a_clock_that_is_ahead_makes_no_count_younger_than_the_reading() -> None:
    listing = Listing({"s/b": {"us": 2}}, frozenset(), frozenset(), frozenset(), {})
    one = Listed(listing, {AT: {"us": 99.0}}, dc="eu", partitions=PARTITIONS, read_s=10.0, now_s=12.0)
    assert one.total("s/b").ages["us"] == 2.0


def test_a_page_whose_rows_are_brought_back_is_listed_as_unknown_below_all_others() -> None:
    one = listed(unknown=frozenset({"s/c"}), restoring=frozenset({3}))
    assert sorted(one) == ["s/b", "s/c"]
    assert one.total("s/c") == Total(None, {}, {})
    assert one.sum("s/c") < 0
    assert one.restoring == 1
