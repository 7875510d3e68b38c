"""Silences as settings."""

from __future__ import annotations

import pytest

from hitmesh.dashboard.alerts.silences import (
    MAX_WHY_CHARS,
    key_of,
    live_among,
    silence_of,
    silences_among,
    value_of,
)
from hitmesh.settings import Setting
from hitmesh.settings.limits import check_key, check_value


def setting(key: str, value: bytes, author: str = "ann") -> dict[str, Setting]:
    return {key: Setting(key, value, 1, author, 0.0)}


def test_one_is_read_as_it_was_written() -> None:
    key, value = key_of("disk/app-1", "eu"), value_of(1000.0, "making room")
    check_key(key)
    check_value(key, value)
    [found] = silences_among(setting(key, value))
    assert (found.name, found.dc, found.until, found.who, found.why) == (
        "disk/app-1",
        "eu",
        1000.0,
        "ann",
        "making room",
    )
    check_key(key_of("disk"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("deploys/alerts/silences/*/disk", b"no"),
        ("deploys/alerts/silences/*/disk", b'{"until": "x"}'),
        ("deploys/alerts/silences/*/disk", b'{"until": 1e300}'),
        ("deploys/alerts/silences/disk", value_of(1.0, "")),
        ("deploys/alerts/eu/memory", value_of(1.0, "")),
        ("timing.commit_s", b"1"),
    ],
)
def test_what_is_none_is_none(key: str, value: bytes) -> None:
    assert silences_among(setting(key, value)) == []


def test_the_one_that_lasts_longest_holds_and_past_ones_do_not() -> None:
    known = silences_among(
        setting(key_of("disk"), value_of(100.0, "a"))
        | setting(key_of("disk/app-1"), value_of(200.0, "b"))
        | setting(key_of("disk", "us"), value_of(300.0, "c"))
    )
    held = silence_of(known, "eu", "disk/app-1", 50.0)
    assert held is not None
    assert held.why == "b"
    assert silence_of(known, "eu", "disk/app-2", 99.0) is not None
    assert silence_of(known, "eu", "disk/app-2", 100.0) is None
    assert silence_of(known, "eu", "disks", 50.0) is None


def test_however_many_there_are_the_last_one_holds() -> None:
    settings = setting(key_of("memory"), value_of(200.0, "swap"))
    for number in range(300):
        settings |= setting(key_of(f"disk/past-{number}"), value_of(100.0, "room"))
        settings |= setting(key_of(f"disk/live-{number}"), value_of(200.0, "room"))
    live = live_among(settings, 100.0)
    assert (len(live), {each.until for each in live}) == (301, {200.0})
    assert silence_of(live, "eu", "memory", 100.0) is not None


def test_hostile_words_are_text_and_bounded() -> None:
    [found] = silences_among(setting(key_of("disk"), value_of(1.0, "\x1b[2J\u202e" + "z" * 500), author="a\u202eb"))
    assert found.why.isprintable()
    assert len(found.why) <= MAX_WHY_CHARS
    assert found.who == "a\\u202eb"
