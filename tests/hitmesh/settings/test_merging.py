"""Which versions other datacenters' writers can have come to. Pure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hitmesh.settings import Edition
from hitmesh.settings.merging import MAX_AHEAD, PLAUSIBLE_VERSION, within_reach


def edition(version: int) -> Edition:
    return Edition(f"k{version}", b"1", version, "me", 1.0)


@given(st.lists(st.integers(1, 2**62)), st.integers(0, 2**49))
def test_what_is_accepted_leaves_room_for_the_next_change(versions: list[int], known: int) -> None:
    within, beyond = within_reach(map(edition, versions), known)
    assert sorted(each.version for each in within + beyond) == sorted(versions)
    highest = max([known, *(each.version for each in within)])
    assert highest <= max(PLAUSIBLE_VERSION, known) + MAX_AHEAD * (len(versions) + 1)
    assert within_reach([edition(highest + 1)], highest)[1] == []


def test_a_mesh_that_has_come_far_goes_on() -> None:
    high = PLAUSIBLE_VERSION + 5 * MAX_AHEAD
    assert within_reach([edition(high + MAX_AHEAD)], high)[1] == []
    assert within_reach([edition(high + MAX_AHEAD + 1)], high)[0] == []


def test_a_mesh_that_has_no_settings_yet_takes_those_of_an_old_one() -> None:
    assert within_reach([edition(PLAUSIBLE_VERSION)], 0)[1] == []


def test_versions_that_others_came_to_one_after_the_other_are_within_reach() -> None:
    high = PLAUSIBLE_VERSION + MAX_AHEAD
    steps = [edition(high + MAX_AHEAD * step) for step in (3, 1, 2)]  # in any order
    assert within_reach(steps, high)[1] == []
    assert within_reach(steps[:1], high)[0] == []
