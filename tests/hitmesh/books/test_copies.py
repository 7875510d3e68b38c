"""Copies in other datacenters: how far they are, and when one of them accuses its original."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hypothesis import given
from hypothesis import strategies as st

from hitmesh.books.copies import Copy, Replicated, Stored, compare
from hitmesh.protocol.pages import partition_of

PARTITIONS = 8
NOW_S = 1000.0
Counts = Mapping[str, Mapping[str, int]]


def stored(counts: Counts, *, as_of_s: Mapping[str, float] | None = None, restoring: Collection[int] = ()) -> Stored:
    return Stored(PARTITIONS, counts, as_of_s or {}, restoring)


def compared(
    first: Mapping[str, Stored], second: Mapping[str, Stored] | None = None, retired: Collection[str] = ()
) -> dict[str, Replicated]:
    return compare(first, second or first, retired=retired, now_s=NOW_S)


def test_a_copy_that_has_everything_is_behind_by_nothing() -> None:
    found = compared(
        {
            "eu": stored({"eu": {"s/a": 3, "s/b": 4}, "us": {"s/a": 9}}, as_of_s={"us": 990.0}),
            "us": stored({"us": {"s/a": 9}, "eu": {"s/a": 3, "s/b": 4}}),
        }
    )
    assert found == {
        "eu": Replicated({"us": Copy(7, 0, None)}, []),
        "us": Replicated({"eu": Copy(9, 0, 10.0)}, []),
    }


def test_each_copy_has_its_own_way_to_go() -> None:
    found = compared(
        {
            "eu": stored({"eu": {"s/a": 30, "s/b": 4}}),
            "us": stored({"eu": {"s/a": 28}}),
            "ap": stored({}),
        }
    )
    assert found["eu"] == Replicated({"us": Copy(28, 6, None), "ap": Copy(0, 34, None)}, [])


def test_a_copy_with_more_than_the_original_is_of_hits_that_were_lost_at_home() -> None:
    original = {"s/a": 30, "s/b": 4}
    copy = {"s/a": 28, "s/b": 6, "s/c": 1, "s/d": 1, "s/e": 1}
    found = compared({"eu": stored({"eu": original}), "us": stored({"eu": copy})})
    assert found["eu"].problems == ["5 hits are counted in us's copy, and not at home: on s/b, s/c, s/d ..."]
    assert found["us"].problems == []


def test_hits_of_a_partition_that_is_being_brought_back_are_not_lost() -> None:
    at = partition_of("s/a", PARTITIONS)
    first = {"eu": stored({}, restoring={at}), "us": stored({"eu": {"s/a": 28}})}
    assert compared(first)["eu"].problems == []
    other = partition_of("s/b", PARTITIONS)
    assert other != at
    first["eu"] = stored({}, restoring={other})
    assert len(compared(first)["eu"].problems) == 1


def test_what_a_retired_datacenter_has_lost_is_no_news() -> None:
    first = {"eu": stored({"eu": {"s/a": 28}}), "us": stored({"eu": {"s/a": 30}, "us": {"s/a": 1}})}
    assert compared(first, retired={"eu"})["eu"].problems == []
    assert len(compared(first, retired={"us"})["eu"].problems) == 1


steps = st.lists(st.tuples(st.sampled_from(["hit", "copy"]), st.sampled_from(["s/a", "s/b"]), st.integers(0, 3)))


@given(steps, steps)
def test_while_hits_go_on_no_copy_is_ever_ahead_nor_behind_by_more_than_there_was(
    before: object, after: object
) -> None:
    """Each store is read at a moment of its own: here the worst, with everything happening in between."""
    own, copy = dict[str, int](), dict[str, int]()

    def go_on(what: object) -> None:
        assert isinstance(what, list)
        for step, page, count in what:
            if step == "hit":
                own[page] = own.get(page, 0) + count
            elif page in own:
                copy[page] = own[page]

    first_eu = stored({"eu": dict(own)})
    go_on(before)
    first = {"eu": first_eu, "us": stored({"eu": dict(copy)})}
    second_eu = stored({"eu": dict(own)})
    go_on(after)
    second = {"eu": second_eu, "us": stored({"eu": dict(copy)})}
    found = compared(first, second)["eu"]
    assert found.problems == []
    assert found.copies["us"].behind == 0  # nothing had been counted at the first look
