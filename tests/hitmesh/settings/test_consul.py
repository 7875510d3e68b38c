"""What Consul answers to reads and changes when things go wrong, and what the settings store makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hitmesh.errors import SettingConflict, StoreUnknown
from hitmesh.settings import SettingsStore
from hitmesh.settings import consul as consul_settings
from hitmesh.settings.consul import ConsulSettings
from hitmesh.settings.open import open_settings
from hitmesh.store.consul_host import Host
from tests.hitmesh.settings.conftest import Follow, KvProxy
from tests.hitmesh.settings.consul_faults import FAULTS, READS, put
from tests.hitmesh.store.patience import SILENCE, Held, failing
from tests.services import free_port, wait_for
from tests.services.faulty_proxy import Fault, Request, writes

# --- reads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_read_that_fails_is_unknown_and_never_absent(
    straight: SettingsStore, through: ConsulSettings, proxy: KvProxy, fault: Fault
) -> None:
    put(straight)
    with failing(proxy, through, fault):
        for read in READS.values():
            with pytest.raises(StoreUnknown):
                read(through)
    for read in READS.values():
        assert read(through) == read(straight)


def test_every_read_is_consistent(through: ConsulSettings, proxy: KvProxy, follow: Follow) -> None:
    put(through)
    for read in READS.values():
        read(through)
    follow(through.watch()).wait_for({"routes/a": "1"})
    assert all(
        "consistent" in request.path for request in proxy.requests if not (writes(request) or "stale" in request.path)
    )


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
    with failing(proxy, through, replace(fault, forward=True, when=writes)):
        with pytest.raises(StoreUnknown, match="read it before trying again"):
            put(through)
        wait_for(lambda: straight.get("routes/a"), what="the first change to be carried out")
        with pytest.raises(StoreUnknown):
            through.delete("routes/a", author="anna")
        wait_for(lambda: straight.list() == {}, what="the second one to be carried out")
    assert put(straight) == 3
    assert len([request for request in proxy.requests if writes(request)]) == 2


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
    late = Held(proxy)
    with failing(proxy, through, replace(SILENCE, when=writes)), pytest.raises(StoreUnknown):
        put(through, value="late")
    put(straight, value="later")
    late.let_go()
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


def test_a_last_change_that_can_not_be_read_stops_changes_and_no_reads(
    consul_url: str, straight: SettingsStore, kv: Callable[..., str]
) -> None:
    put(straight)
    kv("put", "/.last-change", value="by hand")
    with pytest.raises(StoreUnknown, match="consul kv delete"):
        put(straight)
    assert list(straight.list()) == ["routes/a"]
    kv("delete", "/.last-change")
    fresh = open_settings(consul_url, Path())
    assert put(fresh) == 2
    fresh.close()
