"""What every settings store promises of editions: what is kept of a key, and what merging makes of two datacenters."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hitmesh.errors import ConfigError, SettingConflict
from hitmesh.settings import Edition, SettingsStore
from hitmesh.settings.limits import MAX_MERGED_VERSION, MAX_VALUE_BYTES
from hitmesh.settings.open import open_settings
from tests.hitmesh.settings.conftest import Follow
from tests.services import wait_for


def edition(
    key: str = "a", value: str | None = "theirs", version: int = 9, at: float = 5.0, by: str = "ben"
) -> Edition:
    return Edition(key, None if value is None else value.encode(), version, by, at)


def put(store: SettingsStore, key: str = "a", value: str = "ours") -> Edition:
    written = store.set(key, value.encode(), author="anna")
    return Edition(key, written.value, written.version, written.author, written.changed_at)


def values(store: SettingsStore) -> dict[str, bytes]:
    return {key: setting.value for key, setting in store.list().items()}


@pytest.fixture
def other(tmp_path: Path) -> Iterator[SettingsStore]:
    """Another datacenter's store."""
    made = open_settings("sqlite:///other.db", tmp_path)
    yield made
    made.close()


# --- editions ---------------------------------------------------------------------------------


def test_an_empty_store_has_no_editions(store: SettingsStore) -> None:
    assert store.editions() == {}


def test_a_setting_is_an_edition_with_its_version_author_and_time(store: SettingsStore) -> None:
    put(store, "b")
    written = {"b": put(store, "b"), "a": put(store, "a")}
    assert store.editions() == written
    assert list(store.editions()) == ["a", "b"]


def test_what_was_deleted_is_an_edition_without_a_value_and_no_setting(store: SettingsStore) -> None:
    put(store)
    store.delete("a", author="ben")
    [left] = store.editions().values()
    assert (left.key, left.value, left.version, left.author) == ("a", None, 2, "ben")
    assert store.get("a") is None
    assert store.list() == {}


def test_what_is_deleted_already_is_not_deleted_again(store: SettingsStore) -> None:
    put(store)
    assert store.delete("a", author="ben") is True
    before = store.editions()
    assert store.delete("a", author="carl") is False
    assert store.editions() == before


def test_what_was_deleted_has_no_version_to_expect(store: SettingsStore) -> None:
    put(store)
    store.delete("a", author="ben")
    with pytest.raises(SettingConflict):
        store.set("a", b"2", author="anna", expect_version=2)
    assert store.set("a", b"2", author="anna", expect_version=0).version == 3
    assert list(store.editions().values()) == [replace(store.editions()["a"], value=b"2", version=3)]


# --- merging ----------------------------------------------------------------------------------


def test_what_is_merged_into_an_empty_store_is_there_as_it_was(store: SettingsStore) -> None:
    theirs = [edition("a"), edition("b", None, 12), edition("routes/*.example.com", "日本", 3)]
    assert store.merge(theirs) == 3
    assert store.editions() == {each.key: each for each in theirs}
    found = store.get("a")
    assert found is not None
    assert (found.value, found.version, found.author, found.changed_at) == (b"theirs", 9, "ben", 5.0)
    assert store.get("b") is None


def test_merging_nothing_changes_nothing(store: SettingsStore) -> None:
    ours = put(store)
    assert store.merge([]) == 0
    assert store.editions() == {"a": ours}


@pytest.mark.parametrize("value", ["theirs", None], ids=["a value", "a deletion"])
def test_a_newer_edition_wins(store: SettingsStore, value: str | None) -> None:
    put(store)
    theirs = edition(value=value)
    assert store.merge([theirs]) == 1
    assert store.editions() == {"a": theirs}
    assert values(store) == ({} if value is None else {"a": b"theirs"})


@pytest.mark.parametrize("value", ["theirs", None], ids=["a value", "a deletion"])
def test_an_older_edition_changes_nothing(store: SettingsStore, value: str | None) -> None:
    put(store)
    ours = put(store)
    assert store.merge([edition(value=value, version=1)]) == 0
    assert store.editions() == {"a": ours}


def test_an_older_value_brings_nothing_back_that_was_deleted(store: SettingsStore) -> None:
    theirs = put(store)
    store.delete("a", author="ben")
    assert store.merge([theirs]) == 0
    assert store.list() == {}


def test_a_newer_value_brings_back_what_was_deleted(store: SettingsStore) -> None:
    put(store)
    store.delete("a", author="ben")
    assert store.merge([edition()]) == 1
    assert values(store) == {"a": b"theirs"}


def test_of_equal_versions_the_later_one_wins_then_the_author_then_the_value(store: SettingsStore) -> None:
    rising = [
        edition(value="z", at=1.0, by="zoe"),
        edition(value="z", at=2.0, by="anna"),
        edition(value=None, at=2.0, by="ben"),
        edition(value="", at=2.0, by="ben"),
        edition(value="a", at=2.0, by="ben"),
        edition(value="b", at=2.0, by="ben"),
    ]
    for each in rising:
        assert store.merge([each]) == 1
        assert store.merge(rising[: rising.index(each)]) == 0
        assert store.editions() == {"a": each}


def test_several_editions_of_a_key_at_once_are_the_highest_of_them(store: SettingsStore) -> None:
    assert store.merge([edition(version=3), edition(value="x", version=7), edition(version=5)]) == 1
    assert values(store) == {"a": b"x"}


def test_the_next_change_ranks_above_all_that_was_merged(store: SettingsStore) -> None:
    put(store)
    store.merge([edition("b", version=40), edition("c", None, 41)])
    assert put(store).version == 42
    store.merge([edition("d", version=7)])
    assert put(store).version == 43


def test_merging_is_not_undone_by_a_change_that_expected_the_version_before(store: SettingsStore) -> None:
    ours = put(store)
    store.merge([edition()])
    with pytest.raises(SettingConflict, match="at version 9, by ben"):
        store.set("a", b"2", author="anna", expect_version=ours.version)
    assert values(store) == {"a": b"theirs"}


@pytest.mark.parametrize(
    "wrong",
    [
        edition("a b"),
        edition(value="\0"),
        edition(value="x" * (MAX_VALUE_BYTES + 1)),
        edition(version=0),
        edition(version=MAX_MERGED_VERSION + 1),
        edition(by=""),
        edition(at=float("nan")),
        edition(at=-1.0),
    ],
    ids=lambda each: ascii(each)[8:60],
)
def test_an_edition_that_can_not_be_one_is_refused_with_all_that_came_with_it(
    store: SettingsStore, wrong: Edition
) -> None:
    with pytest.raises(ConfigError):
        store.merge([edition("fine"), wrong])
    assert store.editions() == {}


def test_many_and_large_editions_are_merged_whole(store: SettingsStore) -> None:
    large = '"' * MAX_VALUE_BYTES  # twice that in JSON, and a third more in base64
    theirs = [edition(f"large/{number}", large, 100 + number) for number in range(5)]
    theirs += [edition(f"many/{number}", None if number % 7 == 0 else "v", 1 + number) for number in range(150)]
    assert store.merge(theirs) == len(theirs)
    assert store.editions() == {each.key: each for each in theirs}
    assert put(store, "next").version == max(each.version for each in theirs) + 1
    assert store.merge(theirs) == 0


def test_two_who_merge_the_same_at_the_same_time_do_no_harm(store: SettingsStore, url: str) -> None:
    theirs = [edition(f"key/{number}", version=1 + number) for number in range(80)]
    stores = [open_settings(url, Path()) for _ in range(3)]
    start = threading.Barrier(len(stores))
    counts = []

    def merge(one: SettingsStore) -> None:
        start.wait()
        counts.append(one.merge(theirs))

    threads = [threading.Thread(target=merge, args=(one,)) for one in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == len(theirs)
    assert store.editions() == {each.key: each for each in theirs}
    for one in stores:
        one.close()


def test_changes_during_a_merge_are_lost_by_neither(store: SettingsStore, url: str) -> None:
    merging = open_settings(url, Path())
    theirs = [edition(f"theirs/{number}", version=1000 + number) for number in range(60)]
    thread = threading.Thread(target=lambda: [merging.merge([each]) for each in theirs])
    thread.start()
    ours = [put(store, f"ours/{number}") for number in range(20)]
    thread.join()
    merging.close()
    assert store.editions() == {each.key: each for each in sorted([*ours, *theirs], key=lambda each: each.key)}
    versions = [each.version for each in ours]
    assert versions == sorted(set(versions))
    assert put(store).version > max(each.version for each in [*ours, *theirs])


def test_what_one_store_has_can_be_merged_into_another_kind(store: SettingsStore, other: SettingsStore) -> None:
    put(store, "a")
    put(store, "b")
    store.delete("a", author="ben")
    put(other, "c")
    other.merge(store.editions().values())
    store.merge(other.editions().values())
    assert store.editions() == other.editions()
    assert values(store) == {"b": b"ours", "c": b"ours"}


# --- watching ---------------------------------------------------------------------------------


def test_a_watch_of_editions_sees_deletions_and_merges(store: SettingsStore, follow: Follow) -> None:
    put(store, "a", "1")
    following = follow(store.watch_editions())
    wait_for(lambda: len(following.seen) == 1, what="the first picture")
    store.delete("a", author="ben")
    wait_for(lambda: following.seen[-1]["a"].value is None, what="the deletion")
    store.merge([edition("b", None)])
    wait_for(lambda: "b" in following.seen[-1], what="another datacenter's deletion")
    assert following.seen[-1] == store.editions()


def test_a_watch_of_settings_sees_what_was_merged_and_no_deletion_of_what_was_not_there(
    store: SettingsStore, follow: Follow
) -> None:
    put(store, "a", "1")
    following = follow(store.watch())
    following.wait_for({"a": "1"})
    store.merge([edition("b", None)])
    store.merge([edition("c", "3")])
    following.wait_for({"a": "1"}, {"a": "1", "c": "3"})
