"""What every settings store's watch promises."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hitmesh.settings import Setting, SettingsStore
from tests.hitmesh.settings.conftest import Follow
from tests.services import START_S, wait_for
from tests.services.consul import ConsulCluster


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
import json, sys
from pathlib import Path
from hitmesh.settings.open import open_settings
store = open_settings(sys.argv[1], Path())
store._wait_s = 500.0  # Consul's: what is seen is seen before a query ends by itself
for found in store.watch("routes/"):
    print(json.dumps({key: setting.value.decode() for key, setting in found.items()}), flush=True)
"""


def test_a_watcher_in_another_process_sees_every_change_when_it_is_made(url: str, store: SettingsStore) -> None:
    with subprocess.Popen([sys.executable, "-c", WATCHER, url], stdout=subprocess.PIPE, text=True) as watcher:
        hopeless = threading.Timer(START_S, watcher.kill)
        hopeless.start()
        try:
            assert watcher.stdout is not None
            assert json.loads(watcher.stdout.readline()) == {}
            for number in range(3):
                put(store, "routes/a", str(number))
                assert json.loads(watcher.stdout.readline()) == {"routes/a": str(number)}
        finally:
            hopeless.cancel()
            watcher.kill()


@pytest.mark.parametrize("patch", ["", "import gevent.monkey; gevent.monkey.patch_all()"], ids=["plain", "patched"])
def test_watches_and_changes_in_greenlets_leave_the_hub_free(
    tmp_path: Path, consul: ConsulCluster, prefix: str, patch: str
) -> None:
    code = f"""
{patch}
import sys
from pathlib import Path
import gevent
from hitmesh.settings import consul_query, sqlite
from hitmesh.settings.consul import ConsulSettings
from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.store.consul import Timeouts
from hitmesh.store.consul_host import Host
ticks = 0
def tick():
    global ticks
    while True:
        gevent.sleep(0.005)
        ticks += 1
def wait_for(condition, what):
    for _ in range(10_000):
        if condition():
            return
        gevent.sleep(0.005)
    raise AssertionError(what)
def follow(watch, seen):
    seen.extend(map(dict, watch))
began = None  # how many ticks there were when a watch began to wait
def noted(wait):
    def waits(*args):
        global began
        began = ticks
        try:
            return wait(*args)
        finally:
            began = None
    return waits
gevent.spawn(tick)
sqlite.pause = noted(sqlite.pause)
consul_query.DISTANCE_S = consul_query.EMPTY_DISTANCE_S = 0  # it waits for nothing but an answer
consul_query.BlockingQuery.ask = noted(consul_query.BlockingQuery.ask)
patient = Timeouts(30, 30, 30)
for store in (
    SqliteSettings(Path(sys.argv[1]), busy_timeout_s=30),
    ConsulSettings([Host("127.0.0.1", int(sys.argv[2]))], sys.argv[3], timeouts=patient, wait_s=500),
):
    watch, seen = store.watch(), []
    follower = gevent.spawn(follow, watch, seen)
    wait_for(lambda: watch._known is not None, "there is no first answer")
    wait_for(lambda: began is not None and ticks > began + 10, "the hub stands still while a watch waits")
    written = store.set("a", b"v", author="anna")
    wait_for(lambda: watch._known == {{"a": written}}, "the change is not seen")
    watch.stop()
    follower.join(timeout=30)
    assert follower.ready(), "it didn't end"
    assert seen == [{{}}, {{"a": written}}], seen
print("done")
"""
    command = [sys.executable, "-c", code, str(tmp_path / "settings.db"), str(consul.http(0)), prefix]
    finished = subprocess.run(command, check=False, capture_output=True, text=True, timeout=2 * START_S)
    assert (finished.stdout, finished.stderr) == ("done\n", "")
