"""The list of keys: what is read, and what is refused, in words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

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


def test_a_role_that_0_2_0_does_not_know_is_behind_what_it_takes_for_a_comment() -> None:
    peer = Peer("eu-west", "recorder", "recorder-1")
    line = line_of("a" * 64, peer, "mine")
    assert line == f"#+ {'a' * 64} eu-west recorder recorder-1  # mine"
    assert parse_list(f"{line}\n# {line}\n", source="x").keys_of(peer) == ("a" * 64,)
    assert parse_list(f"{line.removeprefix('#+ ')}\n", source="x").keys_of(peer) == ("a" * 64,)


def test_the_release_before_reads_a_list_with_later_roles(previous_release: Mapping[str, str]) -> None:
    lines = [
        line_of("a" * 64, Peer("eu-west", "recorder", "recorder-1")),
        line_of("b" * 64, Peer("eu-west", "nexus", "n")),
        line_of("c" * 64, Peer("eu-west", "scaler", "scaler-1")),
    ]
    code = (
        "import sys; from hitmesh.state.keylist import parse_list; print(len(parse_list(sys.stdin.read(), source='x')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input="".join(f"{line}\n" for line in lines), env={**os.environ, **previous_release},
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("1\n", "")
