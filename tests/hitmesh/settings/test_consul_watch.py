"""What Consul answers to a watch when things go wrong, and what the watch makes of it."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hitmesh.errors import StoreUnknown
from hitmesh.settings import SettingsStore, consul_query
from hitmesh.settings.consul import ConsulSettings
from hitmesh.settings.consul_query import BlockingQuery
from hitmesh.settings.open import open_settings
from hitmesh.store.consul_host import Host
from tests.hitmesh.settings.conftest import Follow, KvProxy
from tests.hitmesh.settings.consul_faults import FAULTS, READS, put
from tests.hitmesh.store.patience import HASTY_S
from tests.services import PATIENCE_S, START_S, wait_for
from tests.services.consul import ConsulCluster
from tests.services.faulty_proxy import Fault, Request


def blocking(request: Request) -> bool:
    """The queries of watches."""
    return request.method == "GET" and "recurse" in request.path


def waiting(request: Request) -> bool:
    """Those of them that wait."""
    return request.method == "GET" and "index=" in request.path


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_watch_keeps_the_last_known_through_a_fault_and_goes_on_after_it(
    straight: SettingsStore,
    through: ConsulSettings,
    proxy: KvProxy,
    follow: Follow,
    fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(straight, value="1")
    following = follow(through.watch())
    following.wait_for({"routes/a": "1"})
    if fault.delay_s:
        monkeypatch.setattr(consul_query, "ANSWER_S", HASTY_S)
        before = len(proxy.queries())
        wait_for(lambda: len(proxy.queries()) > before + 1, what="queries that give up so soon")
    proxy.inject(replace(fault, when=blocking))
    following.wait_for_trouble()
    put(straight, value="2")
    proxy.heal()
    monkeypatch.setattr(consul_query, "ANSWER_S", PATIENCE_S)
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
    wait_for(consul.servers[0].has_leader, within_s=START_S, what="Consul's leader")
    following.wait_for_answers()
    put(store, value="2")
    following.wait_for({"routes/a": "1"}, {"routes/a": "2"})
    assert len(following.seen) == 2
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "the last known ones stay in force" in said[0]
    assert "answers again" in said[1]
    store.close()


def test_a_watch_that_waits_for_long_is_stopped_at_once(proxy: KvProxy, prefix: str, follow: Follow) -> None:
    store = ConsulSettings([Host("127.0.0.1", proxy.port)], prefix, wait_s=120)
    following = follow(store.watch())
    following.wait_for({})
    wait_for(lambda: any(map(waiting, proxy.requests)), what="a query that waits")
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
    assert "the last change was there, and is gone" in following.wait_for_trouble()
    for read in READS.values():
        with pytest.raises(StoreUnknown, match="the last change was there, and is gone"):
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
    store = ConsulSettings([Host("127.0.0.1", proxy.port)], prefix, wait_s=500)
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
    monkeypatch.setattr(consul_query, "DISTANCE_S", 3600.0)
    query = BlockingQuery([Host("127.0.0.1", consul.http(0))], f"{prefix}/settings/", wait_s=0.05)
    for _ in range(3):
        query.ask()
    assert waited[0] == 0
    assert all(3000 < each <= 3600 for each in waited[1:])
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


def test_an_empty_store_is_not_asked_as_often_as_others_write_to_it(
    consul: ConsulCluster, consul_url: str, straight: SettingsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = consul_url.rpartition("/")[2]
    # A change to the one or the other has a second to be everywhere.
    assert 1 > consul_query.EMPTY_DISTANCE_S / 2 > consul_query.DISTANCE_S
    pauses: list[float] = []
    monkeypatch.setattr(consul_query, "pause", pauses.append)
    monkeypatch.setattr(consul_query, "EMPTY_DISTANCE_S", 3600.0)
    query = BlockingQuery([Host("127.0.0.1", consul.http(0))], f"{prefix}/settings/", wait_s=0.05)
    query.ask()
    query.ask()
    put(straight)
    query.begin_anew()
    query.ask()
    query.ask()
    query.close()
    empty, there = pauses[1], pauses[3]
    assert empty > 3000
    assert there <= consul_query.DISTANCE_S
