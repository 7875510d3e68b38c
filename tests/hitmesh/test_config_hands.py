"""What operators say of instances and backends, as live settings."""

from __future__ import annotations

import pytest

from hitmesh.config import Config
from hitmesh.config.hands import Hands, drained_key, weight_key, words
from hitmesh.config.live import apply, check, check_without
from hitmesh.errors import ConfigError

CONFIG = Config(name="eu-west", nodes={})
SAID = {
    drained_key("eu-west", "collector-1"): "drained",
    drained_key("eu-west", "10.0.0.1:80"): "drained",
    drained_key("us-west", "collector-2"): "drained",
    weight_key("eu-west", "[::1]:80"): "250",
}


def test_each_datacenter_hears_what_is_said_of_its_own() -> None:
    applied = apply(CONFIG, SAID)
    assert applied.refused == {}
    assert applied.hands == Hands(frozenset({"collector-1", "10.0.0.1:80"}), {"[::1]:80": 250})
    assert applied.hands.share("[::1]:80") == 2.5
    assert applied.hands.share("collector-1") == 1.0


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("drained/eu-west/collector-1", "yes", "the only value is drained"),
        ("drained/eu-west", "drained", "is no instance's"),
        ("drained/EU/collector-1", "drained", "the datacenter must be"),
        ("drained/eu-west/a:b:c", "drained", "must be HOST:PORT"),
        ("weights/eu-west/collector-1", "0", "a whole number from 1 to 1000, not '0'"),
        ("weights/eu-west/collector-1", "1001", "a whole number from 1 to 1000"),
        ("weights/eu-west/collector-1", "\u0665", "a whole number from 1 to 1000"),
        ("weights/eu-west/collector-1", "1.5", "a whole number from 1 to 1000"),
    ],
)
def test_a_wrong_word_is_refused_and_where_it_stands_left_out(key: str, value: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(key, value, CONFIG)
    assert problem in refused.value.message
    applied = apply(CONFIG, {**SAID, key: value})
    assert list(applied.refused) == [key]
    assert applied.hands.share("[::1]:80") == 2.5, "the others apply"


def test_a_right_one_is_accepted_and_can_be_taken_back() -> None:
    for key, value in SAID.items():
        assert check(key, f" {value} ", CONFIG) == value
        check_without(key, CONFIG, SAID)


def test_an_event_says_it_in_words() -> None:
    assert words("drained/eu-west/collector-1", "drained") == "collector-1 of eu-west was drained"
    assert words("drained/eu-west/collector-1", None) == "collector-1 of eu-west was undrained"
    assert words("weights/eu-west/10.0.0.1:80", "50") == "10.0.0.1:80 of eu-west has a weight of 50%"
    assert words("weights/eu-west/10.0.0.1:80", None) == "10.0.0.1:80 of eu-west has its own weight again"
