"""The list of keys: what is read, and what is refused, in words."""

from __future__ import annotations

import pytest

from hitmesh.errors import ConfigError
from hitmesh.state.keylist import KeyList, Peer, line_of, parse_list

ONE, OTHER, THIRD = ("1" * 64, "2" * 64, "a" * 64)
COLLECTOR = Peer("eu-west", "collector", "collector-1")
NEXUS = Peer("us-west", "nexus", "nexus-1")


def parsed(*lines: str) -> KeyList:
    return parse_list("\n".join(lines) + "\n", source="allowed")


def test_a_line_says_whose_a_key_is_and_comments_say_nothing() -> None:
    keys = parsed(
        "# whose they are", "", f"{ONE} eu-west collector collector-1  # new", line_of(OTHER, NEXUS, "a host")
    )
    assert keys.owner(ONE) == COLLECTOR
    assert keys.owner(OTHER) == NEXUS
    assert keys.owner(THIRD) is None
    assert len(keys) == 2


def test_somebody_may_have_two_keys_the_newest_last() -> None:
    keys = parsed(line_of(ONE, NEXUS), line_of(THIRD, COLLECTOR), line_of(OTHER, NEXUS))
    assert keys.keys_of(NEXUS) == (ONE, OTHER)
    assert keys.nexus_keys() == (ONE, OTHER)
    assert keys.nexus_keys(["eu-west"]) == ()


def test_the_same_line_twice_is_one() -> None:
    assert len(parsed(line_of(ONE, NEXUS), line_of(ONE, NEXUS))) == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (f"{ONE} eu-west collector", "it has 3 words; a line is KEY DATACENTER ROLE NAME"),
        (f"{ONE} eu-west collector a b", "it has 5 words; a line is KEY DATACENTER ROLE NAME"),
        (f"{ONE[1:]} eu-west collector a", f"'{ONE[1:]}' is no key, which has 64 digits of 0-9 a-f"),
        (f"{'A' * 64} eu-west collector a", f"'{'A' * 64}' is no key, which has 64 digits of 0-9 a-f"),
        (f"{ONE} eu-west colector a", "'colector' is no role; did you mean collector?"),
        (f"{ONE} eu/west collector a", "'eu/west' can't be a datacenter: letters and digits of ASCII, and . _ -"),
        (f"{ONE} eu-west collector ../a", "'../a' can't be a name: letters and digits of ASCII, and . _ -"),
        (
            f"{OTHER} eu-west collector a",
            f"the key {OTHER[:8]}... is us-west/nexus/nexus-1's already; a key is one instance's",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(line: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parsed(line_of(OTHER, NEXUS), line)
    assert str(raised.value) == f"allowed, line 2: {problem}"


def test_a_list_that_breaks_off_is_not_taken_for_another_one() -> None:
    with pytest.raises(ConfigError, match="its last line has no end: it isn't all there yet"):
        parse_list(line_of(ONE, COLLECTOR)[:-1], source="allowed")
