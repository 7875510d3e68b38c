"""What every settings store promises."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from hitmesh.errors import ConfigError, SettingConflict
from hitmesh.settings import Setting, SettingsStore
from hitmesh.settings.limits import MAX_VALUE_BYTES
from hitmesh.settings.open import open_settings

ODD_VALUES = [
    "",
    " ",
    "日本語",
    '"quoted" \\ and / all',
    "line\nline\r\n\ttab",
    "\x7f\u2028\ufeff",
    '{"action":"empty"}',
]
ODD_KEYS = ["a", "routes/*.example.com", "routes/default", "routes/[::1]:8000", "*", "a/b/c/d", "-._:", "A", "x" * 512]


def put(store: SettingsStore, key: str, value: str = "v") -> Setting:
    return store.set(key, value.encode(), author="anna")


# --- reading and writing ----------------------------------------------------------------------


def test_a_setting_that_is_not_there_is_none(store: SettingsStore) -> None:
    assert store.get("routes/default") is None


def test_an_empty_store_lists_nothing(store: SettingsStore) -> None:
    assert store.list() == {}


def test_a_setting_is_read_back_with_its_author_and_time(store: SettingsStore) -> None:
    before = time.time()
    written = store.set("routes/default", b'{"action":"empty"}', author="anna")
    assert store.get("routes/default") == written
    assert (written.key, written.value, written.author) == ("routes/default", b'{"action":"empty"}', "anna")
    assert before <= written.changed_at <= time.time()


@pytest.mark.parametrize("value", ODD_VALUES, ids=ascii)
def test_an_odd_value_comes_back_as_it_was(store: SettingsStore, value: str) -> None:
    put(store, "odd", value)
    found = store.get("odd")
    assert found is not None
    assert found.value == value.encode()


@pytest.mark.parametrize("filler", ["x", '"', "é"])
def test_a_value_as_large_as_allowed_comes_back(store: SettingsStore, filler: str) -> None:
    value = filler * (MAX_VALUE_BYTES // len(filler.encode()))
    put(store, "large", value)
    assert store.list()["large"].value == value.encode()


def test_an_odd_key_is_a_key_of_its_own(store: SettingsStore) -> None:
    for key in ODD_KEYS:
        put(store, key, f"of {key}")
    assert {key: setting.value.decode() for key, setting in store.list().items()} == {k: f"of {k}" for k in ODD_KEYS}
    for key in ODD_KEYS:
        found = store.get(key)
        assert found is not None
        assert found.value.decode() == f"of {key}"


def test_a_key_that_begins_like_another_is_not_that_one(store: SettingsStore) -> None:
    put(store, "routes/a.example.com")
    assert store.get("routes/a") is None
    assert store.delete("routes/a", author="anna") is False


def test_a_list_has_all_settings_below_a_prefix_in_order(store: SettingsStore) -> None:
    for key in ("routes/b", "limits/x", "routes/a", "routes", "routers/c", "Routes/d"):
        put(store, key)
    assert list(store.list("routes/")) == ["routes/a", "routes/b"]
    assert list(store.list("route")) == ["routers/c", "routes", "routes/a", "routes/b"]
    assert list(store.list()) == ["Routes/d", "limits/x", "routers/c", "routes", "routes/a", "routes/b"]


def test_a_deleted_setting_is_gone(store: SettingsStore) -> None:
    put(store, "routes/a")
    put(store, "routes/b")
    assert store.delete("routes/a", author="anna") is True
    assert store.get("routes/a") is None
    assert list(store.list()) == ["routes/b"]


def test_deleting_what_is_not_there_says_so(store: SettingsStore) -> None:
    assert store.delete("routes/a", author="anna") is False


@pytest.mark.parametrize(
    ("key", "value", "author"),
    [
        ("", b"v", "anna"),
        ("routes//a", b"v", "anna"),
        ("routes/../a", b"v", "anna"),
        ("k" * 513, b"v", "anna"),
        ("a", b"v" * (MAX_VALUE_BYTES + 1), "anna"),
        ("a", b"\xff", "anna"),
        ("a", b"\x00", "anna"),
        ("a", b"v", ""),
        ("a", b"v", "an\nna"),
    ],
    ids=lambda each: ascii(each[:12]),
)
def test_what_is_no_setting_is_refused_and_nothing_written(
    store: SettingsStore, key: str, value: bytes, author: str
) -> None:
    with pytest.raises(ConfigError):
        store.set(key, value, author=author)
    assert store.list() == {}


@pytest.mark.parametrize("key", ["", "/a", "a/", ".last-change", "a b"])
def test_what_is_no_key_is_refused_by_every_call(store: SettingsStore, key: str) -> None:
    with pytest.raises(ConfigError):
        store.get(key)
    with pytest.raises(ConfigError):
        store.delete(key, author="anna")
    if key not in ("", "a/"):  # those are beginnings of keys
        with pytest.raises(ConfigError):
            store.list(key)
        with pytest.raises(ConfigError):
            store.watch(key)


def test_a_store_that_answers_passes_its_check_and_closing_it_does_not_end_it(store: SettingsStore) -> None:
    store.check()
    store.close()
    put(store, "a")
    assert list(store.list()) == ["a"]


# --- versions -----------------------------------------------------------------------------------


def test_every_change_gets_a_higher_version_whatever_its_key(store: SettingsStore) -> None:
    versions = [put(store, key, value).version for key, value in (("a", "1"), ("b", "1"), ("a", "1"), ("a", "2"))]
    assert versions == sorted(set(versions))


def test_a_version_is_not_given_again_after_a_delete(store: SettingsStore) -> None:
    first = put(store, "a")
    store.delete("a", author="ben")
    second = put(store, "a")
    assert second.version > first.version + 1


def test_a_change_that_expects_the_right_version_is_made(store: SettingsStore) -> None:
    first = store.set("a", b"1", author="anna", expect_version=0)
    second = store.set("a", b"2", author="anna", expect_version=first.version)
    assert store.get("a") == second
    assert store.delete("a", author="anna", expect_version=second.version) is True
    assert store.delete("a", author="anna", expect_version=0) is False


@pytest.mark.parametrize("expected", [0, -1, 99])
def test_a_change_that_expects_another_version_is_refused_and_changes_nothing(
    store: SettingsStore, expected: int
) -> None:
    before = put(store, "a")
    with pytest.raises(SettingConflict, match=r"at version 1, by anna"):
        store.set("a", b"2", author="ben", expect_version=expected)
    with pytest.raises(SettingConflict):
        store.delete("a", author="ben", expect_version=expected)
    assert store.list() == {"a": before}
    assert put(store, "b").version == before.version + 1  # a refused change takes no version


def test_a_change_that_expects_a_setting_where_there_is_none_is_refused(store: SettingsStore) -> None:
    with pytest.raises(SettingConflict, match=r"not there; version 1 was expected"):
        store.set("a", b"2", author="ben", expect_version=1)
    with pytest.raises(SettingConflict):
        store.delete("a", author="ben", expect_version=1)


def test_the_version_from_before_a_delete_is_refused(store: SettingsStore) -> None:
    stale = put(store, "a", "1")
    store.delete("a", author="ben")
    put(store, "a", "1")
    with pytest.raises(SettingConflict):
        store.set("a", b"2", author="anna", expect_version=stale.version)


def test_of_writers_that_expect_the_same_version_one_is_done(url: str, store: SettingsStore) -> None:
    version = put(store, "a").version
    done: list[str] = []
    refused: list[str] = []

    def write(author: str) -> None:
        mine = open_settings(url, Path())
        try:
            mine.set("a", author.encode(), author=author, expect_version=version)
            done.append(author)
        except SettingConflict:
            refused.append(author)
        finally:
            mine.close()

    threads = [threading.Thread(target=write, args=(f"writer-{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.get("a")
    assert found is not None
    assert ([found.author], len(refused)) == (done, 5)


def test_writers_of_different_settings_at_once_are_all_done(url: str, store: SettingsStore) -> None:
    written: list[Setting] = []

    def write(writer: int) -> None:
        mine = open_settings(url, Path())
        written.extend(put(mine, f"w{writer}/{number}", str(number)) for number in range(5))
        mine.close()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.list() == {setting.key: setting for setting in written}
    assert sorted(setting.version for setting in written) == list(range(1, 21))
