"""What a release tells of itself, and who reads what."""

from __future__ import annotations

import pytest

from hitmesh import __version__
from hitmesh.protocol.formats import EARLIEST, READS, THIS, Range, reads, release_of, telling, why_unreadable, without
from hitmesh.protocol.messages import MAX_LOAD, Change, Heartbeat, Instance, Release, Seen, decode, encode, make


def instance(load: dict[str, float], release: Release | None = None) -> Instance:
    return Instance("d", "r", "n", "i", "up", 0, 0, {}, load, {}, release)


def test_this_release_is_the_one_of_the_package_and_reads_what_it_writes() -> None:
    assert THIS.version == __version__
    assert all(each.first <= each.last for each in READS.values())


@pytest.mark.parametrize("wire", [1, 2])
def test_a_release_is_told_under_each_wire_format(wire: int) -> None:
    sent = make(Heartbeat, 1, 500, instance(*telling({"jobs": 3.0}, wire)))
    heard = decode(encode(sent), Heartbeat).instance
    assert release_of(heard) == THIS
    assert without(heard.load) == {"jobs": 3.0}


def test_who_tells_nothing_is_the_release_before_there_was_any_word_of_it() -> None:
    release = release_of(instance({"jobs": 3.0}))
    assert release == EARLIEST
    assert [reads(release, name) for name in READS] == [1] * len(READS)


@pytest.mark.parametrize("number", [MAX_LOAD, -MAX_LOAD, 0.5])
def test_a_release_that_cannot_be_harms_nobody(number: float) -> None:
    release = release_of(instance({"version": number, "reads.wire": number, "reads.": number}))
    assert reads(release, "wire") == max(0, int(number))
    assert release.version.count(".") == 2


def test_what_came_in_either_form_is_passed_on_in_it() -> None:
    told = make(Change, "x", 1, True, tuple(Seen(instance({}, one), 1, 0, True) for one in (None, THIS)), ())
    assert decode(encode(told), Change) == told


@pytest.mark.parametrize(
    ("name", "number", "why"),
    [
        ("wire", 1, ""),
        ("wire", 2, ""),
        ("wire", 3, f"the mesh writes wire format 3, and hitmesh {__version__} reads 1 to 2"),
        ("head", 2, f"the mesh writes head format 2, and hitmesh {__version__} reads 1"),
        ("scroll", 1, f"the mesh writes scroll format 1, of which hitmesh {__version__} knows nothing"),
    ],
)
def test_it_says_why_something_cannot_be_read(name: str, number: int, why: str) -> None:
    assert why_unreadable(name, number) == why


def test_a_range_of_one_is_shown_as_one() -> None:
    assert (str(Range(2, 2)), str(Range(1, 2))) == ("2", "1 to 2")
