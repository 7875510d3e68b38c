"""What every settings store's watch promises."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import pytest

from hitmesh.settings import Setting, SettingsStore
from tests.hitmesh.settings.conftest import Follow
from tests.services import wait_for


def put(store: SettingsStore, key: str, value: str = "v") -> Setting:
    return store.set(key, value.encode(), author="anna")


def test_a_watch_hands_out_at_once_what_there_is(store: SettingsStore) -> None:
    put(store, "routes/a", "1")
    with store.watch() as watch:
        assert next(watch) == store.list()


def test_a_watch_of_an_empty_store_hands_out_that_it_is_empty(store: SettingsStore) -> None:
    with store.watch() as watch:
        assert next(watch) == {}


def test_a_watch_hands_out_every_state_that_lasts(store: SettingsStore, follow: Follow) -> None:
    following = follow(store.watch("routes/"))
    following.wait_for({})
    put(store, "routes/a", "1")
    following.wait_for({"routes/a": "1"})
    put(store, "routes/b", "2")
    following.wait_for({"routes/a": "1", "routes/b": "2"})
    put(store, "routes/a", "3")
    following.wait_for({"routes/a": "3", "routes/b": "2"})
    store.delete("routes/b", author="ben")
    following.wait_for({"routes/a": "3"})
    store.delete("routes/a", author="ben")
    following.wait_for({"routes/a": "3"}, {})
    assert len(following.seen) == 6


def test_a_watch_hands_out_what_a_list_says(store: SettingsStore, follow: Follow) -> None:
    following = follow(store.watch("routes/"))
    put(store, "routes/a", "1")
    put(store, "routes/b", "2")
    wait_for(lambda: following.seen and following.seen[-1] == store.list("routes/"), what="both settings")


def test_a_change_elsewhere_in_the_store_is_not_handed_out(store: SettingsStore, follow: Follow) -> None:
    following = follow(store.watch("routes/"))
    following.wait_for({})
    put(store, "limits/x")
    put(store, "routes/a", "1")
    following.wait_for({}, {"routes/a": "1"})


def test_the_same_value_written_again_is_a_change(store: SettingsStore, follow: Follow) -> None:
    following = follow(store.watch())
    first = put(store, "a")
    following.wait_for({"a": "v"})
    second = put(store, "a")
    wait_for(lambda: following.seen[-1]["a"] == second, what="the second version")
    assert [found["a"] for found in following.seen if found] == [first, second]


def test_what_was_handed_out_can_not_be_changed_by_who_took_it(store: SettingsStore) -> None:
    with store.watch() as watch:
        found = next(watch)
        with pytest.raises(TypeError):
            found["a"] = put(store, "a")  # type: ignore[index]


def test_the_last_of_many_quick_changes_is_handed_out(store: SettingsStore, follow: Follow) -> None:
    following = follow(store.watch())
    for number in range(50):
        put(store, "a", str(number))
    following.wait_for({"a": "49"})


def test_a_watch_that_is_stopped_from_elsewhere_ends(store: SettingsStore, follow: Follow) -> None:
    following = follow(store.watch())
    following.wait_for({})
    following.stop()


def test_a_watch_that_was_stopped_hands_out_nothing(store: SettingsStore) -> None:
    watch = store.watch()
    watch.stop()
    assert list(watch) == []


WATCHER = """
import json, sys, time
from pathlib import Path
from hitmesh.settings.open import open_settings
for found in open_settings(sys.argv[1], Path()).watch("routes/"):
    print(json.dumps([time.time(), {key: setting.value.decode() for key, setting in found.items()}]), flush=True)
"""


def test_a_watcher_in_another_process_sees_a_change_within_a_second(url: str, store: SettingsStore) -> None:
    with subprocess.Popen([sys.executable, "-c", WATCHER, url], stdout=subprocess.PIPE, text=True) as watcher:
        try:
            assert watcher.stdout is not None
            assert json.loads(watcher.stdout.readline())[1] == {}
            ages_s = []
            for number in range(3):
                written = put(store, "routes/a", str(number))
                seen_at, seen = json.loads(watcher.stdout.readline())
                assert seen == {"routes/a": str(number)}
                ages_s.append(seen_at - written.changed_at)
        finally:
            watcher.kill()
    assert statistics.median(ages_s) < 1  # of three: one may meet a machine that is busy otherwise


@pytest.mark.parametrize("patch", ["", "import gevent.monkey; gevent.monkey.patch_all()"], ids=["plain", "patched"])
def test_watches_and_changes_in_greenlets_leave_the_hub_free(sqlite_url: str, consul_url: str, patch: str) -> None:
    code = f"""
{patch}
import sys
from pathlib import Path
import gevent
from hitmesh.settings.open import open_settings
ticks = 0
def tick():
    global ticks
    while True:
        gevent.sleep(0.01)
        ticks += 1
def wait_for(condition):
    with gevent.Timeout(10):
        while not condition():
            gevent.sleep(0.01)
def follow(watch, seen):
    seen.extend(map(dict, watch))
gevent.spawn(tick)
for url in sys.argv[1:]:
    store = open_settings(url, Path())
    watch, seen = store.watch(), []
    follower = gevent.spawn(follow, watch, seen)
    wait_for(lambda: watch._known is not None)
    before = ticks
    gevent.sleep(0.3)
    assert ticks > before + 10, "the hub stands still while a watch waits"
    written = store.set("a", b"v", author="anna")
    wait_for(lambda: watch._known == {{"a": written}})
    watch.stop()
    follower.join(timeout=3)
    assert follower.ready(), "it didn't end"
    assert seen == [{{}}, {{"a": written}}], seen
print("done")
"""
    command = [sys.executable, "-c", code, sqlite_url, consul_url]
    finished = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (finished.stdout, finished.stderr) == ("done\n", "")
