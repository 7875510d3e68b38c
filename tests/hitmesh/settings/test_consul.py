"""What Consul answers when things go wrong, and what the settings store makes of it."""

from __future__ import annotations

import base64
import json
import logging
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hitmesh.errors import SettingConflict, StoreUnknown
from hitmesh.settings import SettingsStore, consul_query, watch
from hitmesh.settings import consul as consul_settings
from hitmesh.settings.consul import ConsulSettings
from hitmesh.settings.consul_query import BlockingQuery
from hitmesh.settings.open import open_settings
from hitmesh.store.consul import Timeouts
from hitmesh.store.consul_http import Host
from tests.hitmesh.settings.conftest import Follow, KvProxy
from tests.services import free_port, require, wait_for
from tests.services.consul import ConsulCluster
from tests.services.faulty_proxy import Fault, Request, writes

SHORT = Timeouts(read_s=0.3, write_s=0.3, scan_s=0.3)
READS: dict[str, Callable[[SettingsStore], object]] = {
    "get": lambda store: store.get("routes/a"),
    "list": lambda store: store.list(),
    "check": lambda store: store.check(),
}
FAULTS = {
    "500": Fault(status=500, body=b"No cluster leader"),
    "500 that looks like a result": Fault(status=500, body=b'{"Results":[],"Errors":null}'),
    "404": Fault(status=404, body=b""),
    "404 with an index and a text": Fault(status=404, body=b"no such page", headers=(("X-Consul-Index", "7"),)),
    "403": Fault(status=403, body=b"Permission denied", headers=(("X-Consul-Index", "7"),)),
    "429": Fault(status=429, body=b"Your IP is issuing too many concurrent connections"),
    "redirect": Fault(status=307, body=b""),
    "200 and no JSON": Fault(status=200, body=b"<html>welcome</html>", headers=(("X-Consul-Index", "7"),)),
    "200 and nothing": Fault(status=200, body=b"", headers=(("X-Consul-Index", "7"),)),
    "200 and no index": Fault(status=200, body=b"[]"),
    "200 and an odd index": Fault(status=200, body=b"[]", headers=(("X-Consul-Index", "-1"),)),
    "200 and half of it": Fault(status=200, body=b'[{"Key":"', headers=(("X-Consul-Index", "7"),)),
    "200 and only brackets": Fault(status=200, body=b"[" * 100_000, headers=(("X-Consul-Index", "7"),)),
    "409": Fault(status=409, body=b'{"Results":null,"Errors":[{"OpIndex":0,"What":"Permission denied"}]}'),
    "filtered": Fault(headers=(("X-Consul-Results-Filtered-By-ACLs", "true"),)),
    "cut connection": Fault(cut=True),
    "no answer in time": Fault(delay_s=0.5),
}


def blocking(request: Request) -> bool:
    """The queries of watches."""
    return request.method == "GET"


def waiting(request: Request) -> bool:
    """Those of them that wait."""
    return request.method == "GET" and "index=" in request.path


def put(store: SettingsStore, key: str = "routes/a", value: str = "1") -> int:
    return store.set(key, value.encode(), author="anna").version


@pytest.fixture
def straight(consul_url: str) -> Iterator[SettingsStore]:
    """A store without the proxy."""
    store = open_settings(consul_url, Path())
    yield store
    store.close()


@pytest.fixture
def through(proxy: KvProxy, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsulSettings]:
    """A store behind the proxy that waits for nothing for long."""
    monkeypatch.setattr(consul_query, "ANSWER_S", 0.1)
    monkeypatch.setattr(consul_query, "DISTANCE_S", 0.02)
    monkeypatch.setattr(watch, "FIRST_RETRY_S", 0.02)
    monkeypatch.setattr(watch, "LONGEST_RETRY_S", 0.05)
    store = ConsulSettings([Host("127.0.0.1", proxy.port)], prefix, timeouts=SHORT, wait_s=0.1)
    yield store
    store.close()


@pytest.fixture
def kv(consul: ConsulCluster, prefix: str) -> Callable[..., str]:
    """`consul kv` below the prefix: put KEY VALUE, get KEY, delete KEY."""

    def run(verb: str, *options: str, value: str | None = None) -> str:
        *flags, key = options
        command = [require("consul"), "kv", verb, f"-http-addr=127.0.0.1:{consul.http(0)}", *flags]
        command += [f"{prefix}/settings{key}", *(["-"] if value is not None else [])]
        return subprocess.run(command, input=value, check=True, capture_output=True, text=True).stdout

    return run


# --- reads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_read_that_fails_is_unknown_and_never_absent(
    straight: SettingsStore, through: ConsulSettings, proxy: KvProxy, fault: Fault
) -> None:
    put(straight)
    proxy.inject(fault)
    for read in READS.values():
        with pytest.raises(StoreUnknown):
            read(through)
    proxy.heal()
    for read in READS.values():
        assert read(through) == read(straight)


def test_every_read_is_consistent(through: ConsulSettings, proxy: KvProxy, follow: Follow) -> None:
    put(through)
    for read in READS.values():
        read(through)
    follow(through.watch()).wait_for({"routes/a": "1"})
    assert all("consistent" in request.path for request in proxy.requests if not writes(request))


def test_a_read_and_a_watch_go_to_the_next_host(proxy: KvProxy, prefix: str, follow: Follow) -> None:
    store = ConsulSettings([Host("127.0.0.1", free_port()), Host("127.0.0.1", proxy.port)], prefix)
    put(store)
    assert list(store.list()) == ["routes/a"]
    following = follow(store.watch())
    following.wait_for({"routes/a": "1"})
    assert following.watch.trouble == ""
    store.close()


def test_a_setting_that_is_not_as_we_write_it_is_unknown_until_it_is_set_again(
    straight: SettingsStore, kv: Callable[..., str]
) -> None:
    put(straight, "routes/b")
    for value in ('{"action":"empty"}', "", '{"value":"x","version":0,"author":"a","changed_at":1}'):
        kv("put", "/routes/a", value=value)
        for read in (lambda: straight.get("routes/a"), straight.list):
            with pytest.raises(StoreUnknown, match="set or delete it again"):
                read()
        assert straight.get("routes/b") is not None
        with pytest.raises(StoreUnknown):
            straight.set("routes/a", b"2", author="anna", expect_version=0)
        put(straight, value="2")
        assert straight.list()["routes/a"].value == b"2"
    kv("put", "/routes/a", value="{}")
    assert straight.delete("routes/a", author="anna") is True
    assert list(straight.list()) == ["routes/b"]


def test_a_key_that_is_none_of_ours_is_unknown(straight: SettingsStore, kv: Callable[..., str]) -> None:
    kv("put", "/routes/a b", value="{}")
    with pytest.raises(StoreUnknown, match="not a setting's key"):
        straight.list()


def test_a_folder_that_consuls_pages_made_is_no_setting(straight: SettingsStore, kv: Callable[..., str]) -> None:
    kv("put", "/routes/", value="")
    assert straight.list() == {}


def test_a_setting_is_readable_with_consul_kv_get(straight: SettingsStore, kv: Callable[..., str]) -> None:
    straight.set("routes/*.example.com", b'{"action":"empty"}', author="anna")
    found = json.loads(kv("get", "/routes/*.example.com"))
    assert (found["value"], found["version"], found["author"]) == ('{"action":"empty"}', 1, "anna")
    last = json.loads(kv("get", "/.last-change"))
    assert (last["version"], last["key"], last["deleted"]) == (1, "routes/*.example.com", False)


# --- changes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_change_that_was_carried_out_and_then_failed_is_unknown_and_sent_once(
    straight: SettingsStore, through: ConsulSettings, proxy: KvProxy, fault: Fault
) -> None:
    proxy.inject(replace(fault, forward=True, when=writes))
    with pytest.raises(StoreUnknown, match="read it before trying again"):
        put(through)
    with pytest.raises(StoreUnknown):
        through.delete("routes/a", author="anna")
    assert len([request for request in proxy.requests if writes(request)]) == 2
    wait_for(lambda: straight.list() == {} and put(straight) == 3, what="both changes to be carried out")


def test_a_500_is_unknown_even_if_its_body_says_done(through: ConsulSettings, proxy: KvProxy, prefix: str) -> None:
    entry = {"Key": f"{prefix}/settings/.last-change", "Flags": 0, "Value": None, "ModifyIndex": 7}
    body = json.dumps({"Results": [{"KV": entry}], "Errors": None}).encode()
    proxy.inject(Fault(status=500, body=body, when=writes))
    with pytest.raises(StoreUnknown):
        put(through)


@pytest.mark.parametrize("fault", ["500", "409", "cut connection"])
def test_a_change_that_was_not_carried_out_is_unknown_as_well(
    straight: SettingsStore, through: ConsulSettings, proxy: KvProxy, fault: str
) -> None:
    proxy.inject(replace(FAULTS[fault], when=writes))
    with pytest.raises(StoreUnknown):
        put(through)
    assert straight.list() == {}


def test_a_change_that_is_carried_out_late_can_not_undo_a_later_one(
    straight: SettingsStore, through: ConsulSettings, proxy: KvProxy
) -> None:
    proxy.inject(Fault(delay_s=0.5, late=True, times=1, when=writes))
    with pytest.raises(StoreUnknown):
        put(through, value="late")
    put(straight, value="later")
    wait_for(lambda: len(proxy.tokens) == 2, what="the late change to reach Consul")  # after the read before it
    assert straight.list()["routes/a"].value == b"later"


def test_a_change_whose_turn_others_take_is_tried_again(
    straight: SettingsStore, through: ConsulSettings, proxy: KvProxy
) -> None:
    taken: list[int] = []

    def take(request: Request) -> bool:
        if writes(request) and len(taken) < 3:
            taken.append(put(straight, "limits/x"))
        return False

    proxy.inject(Fault(when=take))
    assert put(through) == 4
    assert list(straight.list()) == ["limits/x", "routes/a"]


def test_a_change_whose_turn_others_take_for_ever_is_given_up(
    straight: SettingsStore, through: ConsulSettings, proxy: KvProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(request: Request) -> bool:
        if writes(request):
            put(straight, "limits/x")
        return False

    monkeypatch.setattr(consul_settings, "CHANGE_TRIES", 4)
    proxy.inject(Fault(when=take))
    with pytest.raises(StoreUnknown, match="each of 4 tries"):
        put(through)
    assert straight.get("routes/a") is None


def test_a_change_by_hand_between_the_look_and_the_write_is_not_overwritten_unseen(
    straight: SettingsStore, through: ConsulSettings, proxy: KvProxy, kv: Callable[..., str]
) -> None:
    version = put(straight)

    def by_hand(request: Request) -> bool:
        if writes(request):
            kv("put", "/routes/a", value='{"value":"by hand","version":7,"author":"ben","changed_at":1}')
        return False

    proxy.inject(Fault(when=by_hand))
    with pytest.raises(SettingConflict, match="at version 7, by ben"):
        through.set("routes/a", b"2", author="anna", expect_version=version)
    proxy.heal()
    assert put(through) == 8  # above the one that was made by hand, too


def test_the_last_change_can_be_lost_and_versions_still_rise(
    consul_url: str, straight: SettingsStore, kv: Callable[..., str]
) -> None:
    put(straight)
    put(straight)
    kv("delete", "/.last-change")
    fresh = open_settings(consul_url, Path())  # which doesn't know that something is missing
    assert put(fresh) == 3
    fresh.close()


# --- watches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_watch_keeps_the_last_known_through_a_fault_and_goes_on_after_it(
    straight: SettingsStore, through: ConsulSettings, proxy: KvProxy, follow: Follow, fault: Fault
) -> None:
    put(straight, value="1")
    following = follow(through.watch())
    following.wait_for({"routes/a": "1"})
    proxy.inject(replace(fault, when=blocking))
    following.wait_for_trouble()
    put(straight, value="2")
    proxy.heal()
    following.wait_for({"routes/a": "1"}, {"routes/a": "2"})
    following.wait_for_answers()
    assert len(following.seen) == 2


@pytest.mark.parametrize(
    "fault", [f for f in FAULTS.values() if not f.delay_s], ids=[n for n in FAULTS if n != "no answer in time"]
)
def test_a_watch_that_begins_in_a_fault_hands_out_nothing_until_it_ends(
    straight: SettingsStore, through: ConsulSettings, proxy: KvProxy, follow: Follow, fault: Fault
) -> None:
    proxy.inject(fault)
    following = follow(through.watch())
    following.wait_for_trouble()
    assert following.seen == []
    put(straight)
    proxy.heal()
    following.wait_for({"routes/a": "1"})
    assert len(following.seen) == 1


def test_a_watch_outlives_consul_and_says_so_once(
    consul: ConsulCluster, consul_url: str, follow: Follow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hitmesh.settings")
    store = open_settings(consul_url, Path())
    put(store)
    following = follow(store.watch())
    following.wait_for({"routes/a": "1"})
    consul.kill(0)
    following.wait_for_trouble()
    with pytest.raises(StoreUnknown):
        store.list()
    consul.start(0)
    wait_for(consul.servers[0].has_leader, within_s=20, what="Consul's leader")
    following.wait_for_answers()
    put(store, value="2")
    following.wait_for({"routes/a": "1"}, {"routes/a": "2"})
    assert len(following.seen) == 2
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "the last known ones stay in force" in said[0]
    assert "answers again" in said[1]
    store.close()


def test_a_watch_that_waits_for_long_is_stopped_at_once(consul: ConsulCluster, prefix: str, follow: Follow) -> None:
    store = ConsulSettings([Host("127.0.0.1", consul.http(0))], prefix, wait_s=120)
    following = follow(store.watch())
    following.wait_for({})
    following.stop()
    assert following.watch.trouble == ""
    store.close()


def test_a_wiped_store_is_unknown_and_not_empty(
    consul_url: str, straight: SettingsStore, kv: Callable[..., str], follow: Follow
) -> None:
    put(straight)
    following = follow(straight.watch())
    following.wait_for({"routes/a": "1"})
    kv("delete", "-recurse", "/")
    assert "there is nothing at all" in following.wait_for_trouble()
    for read in READS.values():
        with pytest.raises(StoreUnknown, match="there is nothing at all"):
            read(straight)
    with pytest.raises(StoreUnknown):
        put(straight)
    fresh = open_settings(consul_url, Path())  # a process that never saw any begins anew, and is followed
    put(fresh, "routes/b", "2")
    following.wait_for({"routes/a": "1"}, {"routes/b": "2"})
    assert list(straight.list()) == ["routes/b"]
    fresh.close()


def test_a_setting_that_is_deleted_by_hand_is_followed(
    straight: SettingsStore, kv: Callable[..., str], follow: Follow
) -> None:
    put(straight)
    following = follow(straight.watch())
    following.wait_for({"routes/a": "1"})
    kv("delete", "/routes/a")
    following.wait_for({"routes/a": "1"}, {})


def test_a_setting_that_can_not_be_read_hides_no_other_from_a_watch(
    straight: SettingsStore, kv: Callable[..., str], follow: Follow
) -> None:
    put(straight)
    following = follow(straight.watch())
    following.wait_for({"routes/a": "1"})
    kv("put", "/routes/b", value="by hand")
    assert "routes/b" in following.wait_for_trouble()
    put(straight, value="2")
    put(straight, "routes/b", "3")
    following.wait_for({"routes/a": "1"}, {"routes/a": "2", "routes/b": "3"})
    following.wait_for_answers()


def test_a_setting_that_can_not_be_read_is_trouble_for_as_long_as_it_is_there(
    through: ConsulSettings,
    proxy: KvProxy,
    kv: Callable[..., str],
    follow: Follow,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put(through)
    following = follow(through.watch())
    following.wait_for({"routes/a": "1"})
    kv("put", "/routes/b", value="by hand")
    following.wait_for_trouble()
    before = len(proxy.queries())
    wait_for(lambda: len(proxy.queries()) > before + 5, what="more queries")  # none of which says that all is well
    assert "routes/b" in following.watch.trouble
    assert len(caplog.records) == 1


def test_writes_elsewhere_in_consul_wake_no_watch(
    consul: ConsulCluster, proxy: KvProxy, prefix: str, follow: Follow
) -> None:
    store = ConsulSettings([Host("127.0.0.1", proxy.port)], prefix, wait_s=60)
    put(store)
    following = follow(store.watch())
    wait_for(lambda: any(map(waiting, proxy.requests)), what="a query that waits")
    before = len(proxy.queries())
    other = open_settings(consul.url(f"{prefix}-other"), Path())
    for number in range(30):
        put(other, value=str(number))
    put(store, value="2")
    following.wait_for({"routes/a": "1"}, {"routes/a": "2"})
    assert len(proxy.queries()) <= before + 1
    store.close()
    other.close()


def test_queries_that_something_wakes_all_the_time_keep_a_distance(
    consul: ConsulCluster, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(consul_query, "pause", waited.append)
    monkeypatch.setattr(consul_query, "DISTANCE_S", 60.0)
    query = BlockingQuery([Host("127.0.0.1", consul.http(0))], f"{prefix}/settings/", wait_s=0.05)
    for _ in range(3):
        query.ask()
    assert waited[0] == 0
    assert all(50 < each <= 60 for each in waited[1:])
    query.close()


def answer(prefix: str, index: int, value: str) -> Fault:
    """An answer to a watch's query, made up."""

    def entry(key: str, record: dict[str, object]) -> dict[str, object]:
        encoded = base64.b64encode(json.dumps(record).encode()).decode()
        return {"Key": f"{prefix}/settings/{key}", "Flags": 0, "Value": encoded, "ModifyIndex": 3}

    common = {"version": 9, "author": "anna", "changed_at": 1.0}
    entries = [
        entry(".last-change", {**common, "key": "routes/a", "deleted": False}),
        entry("routes/a", {**common, "value": value}),
    ]
    headers = (("X-Consul-Index", str(index)),)
    return Fault(status=200, body=json.dumps(entries).encode(), headers=headers, times=1, when=blocking)


def indexes(proxy: KvProxy) -> list[str]:
    """The indexes that were waited for, "" where none was."""
    return [path.partition("&index=")[2].partition("&")[0] for path in proxy.queries()]


def test_an_index_that_goes_backwards_begins_anew(
    through: ConsulSettings, proxy: KvProxy, prefix: str, follow: Follow
) -> None:
    for index, value in ((900_000, "1"), (800_000, "2")):
        proxy.inject(answer(prefix, index, value))
    put(through, value="real")
    following = follow(through.watch())
    following.wait_for({"routes/a": "1"}, {"routes/a": "2"}, {"routes/a": "real"})
    wait_for(lambda: len(proxy.queries()) > 3, what="the query after it")
    first, second, third, fourth = indexes(proxy)[:4]
    assert (first, second, third) == ("", "900000", "")
    assert 0 < int(fourth) < 800_000
    assert following.watch.trouble == ""


def test_after_an_error_nothing_is_waited_for(
    straight: SettingsStore, through: ConsulSettings, proxy: KvProxy, follow: Follow
) -> None:
    put(straight)
    proxy.inject(Fault(cut=True, times=1, when=waiting))
    following = follow(through.watch())
    wait_for(lambda: len(proxy.queries()) > 2, what="the query after it")
    first, second, third = indexes(proxy)[:3]
    assert (first, second != "", third) == ("", True, "")  # a restored store's index may be a lower one
    following.wait_for_answers()
    assert len(following.seen) == 1


def test_an_index_of_zero_is_never_waited_for(
    through: ConsulSettings, proxy: KvProxy, prefix: str, follow: Follow
) -> None:
    proxy.inject(answer(prefix, 0, "1"))
    follow(through.watch())
    wait_for(lambda: len(proxy.queries()) > 1, what="the query after it")
    assert indexes(proxy)[:2] == ["", "1"]


def test_a_wait_is_bounded_and_its_end_is_no_change(through: ConsulSettings, proxy: KvProxy, follow: Follow) -> None:
    put(through)
    following = follow(through.watch())
    wait_for(lambda: len(proxy.queries()) > 2, what="a wait to end")
    assert all("wait=100ms" in path for path in proxy.queries()[1:])
    assert len(following.seen) == 1
    assert following.watch.trouble == ""


def test_the_token_of_the_environment_is_sent_with_every_request(
    through: ConsulSettings, proxy: KvProxy, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "sesame")
    put(through)
    follow(through.watch()).wait_for({"routes/a": "1"})
    assert len(proxy.tokens) >= 3
    assert set(proxy.tokens) == {"sesame"}
