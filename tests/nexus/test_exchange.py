"""Live settings between datacenters: each with a real store and a real ROUTER, in one process."""

from __future__ import annotations

import contextlib
import itertools
import socket
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import msgspec
import pytest
import zmq
import zmq.green
from gevent.event import Event

from hitmesh.cli import keyfolder
from hitmesh.errors import StoreUnknown
from hitmesh.mesh.keyring import new_pair, open_keyring
from hitmesh.mesh.network import Network
from hitmesh.mesh.sockets import open_socket
from hitmesh.protocol.messages import MAX_FRAME_BYTES, Lookup, SettingRecord, Settings, decode, encode, make
from hitmesh.protocol.names import with_key
from hitmesh.settings import Edition, SettingsStore, limits, sqlite
from hitmesh.settings.merging import digest
from hitmesh.settings.open import open_settings
from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.state.keylist import Peer
from nexus import exchange
from nexus.exchange import NOT_KNOWN, SettingsExchange
from tests.services import PATIENCE_S, free_port, wait_for
from tests.services.consul import ConsulCluster
from tests.services.nexus import mesh_config

_numbers = itertools.count()
Answerer = Callable[[Lookup], Settings | None]


def until(condition: Callable[[], object], what: str) -> None:
    def met() -> object:
        gevent.sleep(0.005)
        return condition()

    wait_for(met, what=what)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gives up a slow answer: what isn't brought over is tried again with the next word only."""
    monkeypatch.setattr(exchange, "ANSWER_S", PATIENCE_S)


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network(zmq.green.Context())
    yield made
    made.close()


class Router:
    """What answers Lookups of settings, as a Nexus's own socket does."""

    def __init__(self, network: Network, answer: Answerer) -> None:
        self.endpoint = f"tcp://127.0.0.1:{free_port()}"
        self.asked: list[str] = []  # the keys after which settings were asked for
        self.connections: list[bytes] = []  # by which they were asked for
        self.under_way = self.most_under_way = 0
        self._answer = answer
        self._socket = open_socket(network, zmq.ROUTER, heartbeat_s=1.0, receive_bytes=MAX_FRAME_BYTES)
        self._socket.bind(self.endpoint)
        self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        with contextlib.suppress(zmq.ZMQError):
            while True:
                identity, data = self._socket.recv_multipart()
                gevent.spawn(self._reply, identity, data)

    def _reply(self, identity: bytes, data: bytes) -> None:
        request = decode(data, Lookup)
        assert request.what == "settings"
        self.asked.append(request.key)
        self.connections.append(identity)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        answer = self._answer(request)
        self.under_way -= 1
        if answer is not None:
            self._socket.send_multipart([identity, encode(answer)])

    def close(self) -> None:
        self._greenlet.kill()
        self._socket.close(linger=0)


class Dc:
    """A datacenter: a store and a Nexus's exchange of it, and what it has said to the others."""

    def __init__(self, name: str, opened: Callable[[str], SettingsStore], network: Network) -> None:
        self.name = name
        self.others: list[Dc] = []
        self.cut = False
        self.store = opened(name)
        self.exchange = SettingsExchange(opened(name), name, network, self.tell)
        self.router = Router(network, self.exchange.answer)
        self.exchange.start()

    def tell(self) -> None:
        """Its digest to all others, as Neighbours does at every change and every few seconds."""
        for other in self.others:
            if not (self.cut or other.cut):
                other.hear(self)

    def hear(self, other: Dc, said: str | None = None) -> None:
        self.exchange.heard(other.name, f"nexus-1-{other.name}", said or other.exchange.digest(), other.router.endpoint)

    def put(self, key: str, value: str | None) -> None:
        if value is None:
            self.store.delete(key, author=f"of-{self.name}")
        else:
            self.store.set(key, value.encode(), author=f"of-{self.name}")

    def values(self) -> dict[str, str]:
        return {key: each.value.decode() for key, each in self.store.list().items()}

    def stop(self) -> None:
        self.exchange.stop()
        self.router.close()


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulCluster]:
    """One real server, in which each datacenter of a test has a prefix."""
    cluster = ConsulCluster(tmp_path_factory.mktemp("consul"), servers=1)
    cluster.start_all()
    yield cluster
    cluster.stop()


@pytest.fixture
def sqlite_stores(tmp_path: Path) -> Callable[[str], SettingsStore]:
    return lambda name: SqliteSettings(tmp_path / f"{name}.db", poll_s=0.01)


@pytest.fixture
def consul_stores(consul: ConsulCluster) -> Callable[[str], SettingsStore]:
    number = next(_numbers)
    return lambda name: open_settings(consul.url(f"test-{number}-{name}"), Path())


@pytest.fixture(params=["sqlite", "consul"])
def dcs(request: pytest.FixtureRequest, network: Network) -> Iterator[list[Dc]]:
    """Three datacenters that hear each other, with each kind of store in turn."""
    yield from datacenters(request.getfixturevalue(f"{request.param}_stores"), network)


def datacenters(opened: Callable[[str], SettingsStore], network: Network) -> Iterator[list[Dc]]:
    made = [Dc(name, opened, network) for name in ("eu-west", "us-west", "ap-south")]
    for each in made:
        each.others = [other for other in made if other is not each]
    until(lambda: all(each.exchange.digest() != NOT_KNOWN for each in made), "the stores to be read")
    yield made
    for each in made:
        each.stop()
    gevent.sleep(0.05)


@pytest.fixture
def one(sqlite_stores: Callable[[str], SettingsStore], network: Network) -> Iterator[Dc]:
    """A datacenter whose others say nothing by themselves."""
    for made in datacenters(sqlite_stores, network):
        for each in made:
            each.others = []
        yield made[0]


@pytest.fixture
def stranger(network: Network) -> Iterator[Callable[[Answerer], Router]]:
    """A Nexus that answers what a test wants."""
    made: list[Router] = []

    def start(answer: Answerer) -> Router:
        made.append(Router(network, answer))
        return made[-1]

    yield start
    for each in made:
        each.close()


def record(key: str, value: str | None = "1", version: int = 5, at: float = 1.0) -> SettingRecord:
    return SettingRecord(key, value, version, "ben", at)


def editions_of(*records: SettingRecord) -> dict[str, Edition]:
    return {
        each.key: Edition(
            each.key, None if each.value is None else each.value.encode(), each.version, each.author, each.changed_at
        )
        for each in records
    }


def whole(*records: SettingRecord) -> Answerer:
    return lambda request: make(
        Settings, request.request, False, tuple(each for each in records if each.key > request.key)
    )


# --- among datacenters ------------------------------------------------------------------------


def test_a_setting_of_one_datacenter_is_soon_in_all_as_it_was(dcs: list[Dc]) -> None:
    dcs[0].put("timing.commit_s", "0.1")
    until(lambda: all(each.values() == {"timing.commit_s": "0.1"} for each in dcs), "the setting everywhere")
    assert len({tuple(each.store.editions().values()) for each in dcs}) == 1
    until(lambda: {each.exchange.version for each in dcs} == {1}, "the version everywhere")


def test_a_deletion_goes_everywhere_and_brings_nothing_back(dcs: list[Dc]) -> None:
    dcs[0].put("a", "1")
    until(lambda: all(each.values() == {"a": "1"} for each in dcs), "the setting everywhere")
    dcs[2].put("a", None)
    until(lambda: all(each.values() == {} for each in dcs), "its end everywhere")
    for each in dcs:
        each.tell()
    gevent.sleep(0.1)
    assert [each.values() for each in dcs] == [{}, {}, {}]


def test_one_that_was_cut_off_catches_up_and_brings_its_own(dcs: list[Dc]) -> None:
    dcs[0].put("a", "old")
    until(lambda: all(each.values() == {"a": "old"} for each in dcs), "the setting everywhere")
    dcs[2].cut = True
    dcs[0].put("a", "new")
    dcs[1].put("b", "1")
    dcs[2].put("c", "2")
    until(lambda: dcs[0].values() == dcs[1].values() == {"a": "new", "b": "1"}, "the settings of two")
    assert dcs[2].values() == {"a": "old", "c": "2"}
    dcs[2].cut = False
    for each in dcs:
        each.tell()
    expected = {"a": "new", "b": "1", "c": "2"}
    until(lambda: all(each.values() == expected for each in dcs), "the same everywhere")


def test_of_two_changes_at_the_same_time_one_wins_everywhere(dcs: list[Dc]) -> None:
    for each in dcs:
        each.cut = True
    for each in dcs:
        each.put("a", each.name)
    gevent.sleep(0.05)
    for each in dcs:
        each.cut = False
    for each in dcs:
        each.tell()
    until(lambda: len({str(each.store.editions()) for each in dcs}) == 1, "the same everywhere")
    assert dcs[0].values()["a"] == "ap-south"  # the last one


def test_when_all_is_the_same_nobody_is_asked(dcs: list[Dc]) -> None:
    dcs[0].put("a", "1")
    until(lambda: len({each.exchange.digest() for each in dcs}) == 1 and dcs[2].values(), "the same everywhere")
    until(lambda: not any(each.exchange._fetching for each in dcs), "what is under way")
    gevent.sleep(0.1)
    before = [len(each.router.asked) for each in dcs]
    for each in dcs:
        each.tell()
    gevent.sleep(0.1)
    assert [len(each.router.asked) for each in dcs] == before


@pytest.mark.parametrize("dcs", ["sqlite"], indirect=True)
def test_what_was_removed_by_hand_comes_back_from_the_others(dcs: list[Dc], tmp_path: Path) -> None:
    dcs[0].put("a", "1")
    until(lambda: len({each.exchange.digest() for each in dcs}) == 1 and dcs[2].values(), "the same everywhere")
    until(lambda: not any(each.exchange._fetching for each in dcs), "what is under way")  # or it brings it back at once
    dcs[1].cut = True
    with contextlib.closing(sqlite3.connect(tmp_path / "us-west.db")) as db, db:
        db.execute("DELETE FROM settings")
    until(lambda: dcs[1].exchange.digest() != dcs[0].exchange.digest(), "the change")
    assert dcs[1].values() == {}
    dcs[1].cut = False
    dcs[0].tell()
    until(lambda: dcs[1].values() == {"a": "1"}, "it to be back")


@pytest.mark.parametrize("dcs", ["sqlite"], indirect=True)
def test_what_was_removed_by_hand_just_after_it_came_is_missed(
    dcs: list[Dc], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch looks only when the store is again as it was before."""
    look, gate, held = sqlite._Polling.look, Event(), Event()

    def look_when_open(polling: sqlite._Polling[Any]) -> Any:
        if polling._file.path.name == "us-west.db":
            held.set()
            gate.wait()
        return look(polling)

    until(
        lambda: len({each.exchange.digest() for each in dcs}) == 1 and dcs[1].exchange.digest() != NOT_KNOWN,
        "the empty stores",
    )
    monkeypatch.setattr(sqlite._Polling, "look", look_when_open)
    held.wait(PATIENCE_S)
    dcs[0].put("a", "1")
    until(lambda: dcs[1].exchange.digest() == dcs[0].exchange.digest() and dcs[1].values(), "it to come")
    until(lambda: not any(each.exchange._fetching for each in dcs), "what is under way")
    dcs[1].cut = True
    with contextlib.closing(sqlite3.connect(tmp_path / "us-west.db")) as db, db:
        db.execute("DELETE FROM settings")
    gate.set()
    until(lambda: dcs[1].exchange.digest() != dcs[0].exchange.digest(), "the change")


# --- what is asked ----------------------------------------------------------------------------


def test_more_settings_than_an_answer_holds_come_in_several(dcs: list[Dc], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "PAGE_BYTES", 1000)
    theirs = [Edition(f"key/{number:03}", b"x" * 90, 1 + number, "ben", 1.0) for number in range(100)]
    dcs[1].store.merge(theirs)
    until(lambda: dcs[0].store.editions() == {each.key: each for each in theirs}, "all of them")
    assert len(dcs[1].router.asked) >= 10


def test_an_answer_has_at_least_one_setting_and_ends(one: Dc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "PAGE_BYTES", 1)
    for key in "abc":
        one.put(key, "x")
    one.put("b", None)
    until(lambda: one.exchange.version == 4, "the store to be read")
    pages = [one.exchange.answer(make(Lookup, 7, "settings", after)) for after in ("", "a", "b", "c", "zzz")]
    assert [[(each.key, each.value) for each in page.records] for page in pages] == [
        [("a", "x")], [("b", None)], [("c", "x")], [], []
    ]  # fmt: skip
    assert [page.more for page in pages] == [True, True, False, False, False]
    assert {page.request for page in pages} == {7}


def test_a_datacenter_is_asked_one_thing_at_a_time_whatever_it_says(
    one: Dc, stranger: Callable[[Answerer], Router]
) -> None:
    may_answer = Event()

    def slowly(request: Lookup) -> Settings:
        may_answer.wait()
        return make(Settings, request.request, False, (record("a"),))

    router = stranger(slowly)
    for number in range(50):
        one.exchange.heard("us-west", f"nexus-{number % 2}", f"digest-{number}", router.endpoint)
        gevent.sleep(0.001)
    until(lambda: router.asked, "the question")
    gevent.sleep(0.1)
    may_answer.set()
    until(lambda: one.values() == {"a": "1"}, "the setting")
    until(lambda: not one.exchange._fetching, "what is under way")
    gevent.sleep(0.1)
    assert router.most_under_way == 1
    assert len(router.asked) <= 2


def test_the_same_word_again_is_not_followed_again(one: Dc, stranger: Callable[[Answerer], Router]) -> None:
    """They have less than we: their digest will never be ours until they have asked."""
    one.put("a", "mine")
    until(lambda: one.exchange.version == 1, "the store to be read")
    router = stranger(whole(record("b")))
    theirs = digest(editions_of(record("b")))
    for _ in range(5):
        one.exchange.heard("us-west", "nexus-1", theirs, router.endpoint)
        until(lambda: "b" in one.values() and not one.exchange._fetching, "the setting")
        gevent.sleep(0.01)
    assert len(router.asked) == 1


def test_a_nexus_that_is_heard_is_connected_to_before_there_is_anything_to_ask(one: Dc, network: Network) -> None:
    router = open_socket(network, zmq.ROUTER, heartbeat_s=1.0, receive_bytes=MAX_FRAME_BYTES)
    monitor = router.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    router.bind(endpoint)
    for _ in range(3):
        one.exchange.heard("us-west", "nexus-1", one.exchange.digest(), endpoint)
    until(lambda: monitor.poll(0), "the connection")
    monitor.recv_multipart()
    gevent.sleep(0.1)
    assert not monitor.poll(0)  # one is enough
    router.disable_monitor()
    router.close(linger=0)


def test_itself_and_one_whose_store_is_away_is_not_asked(one: Dc, stranger: Callable[[Answerer], Router]) -> None:
    router = stranger(whole(record("a")))
    one.exchange.heard("eu-west", "nexus-2", "other", router.endpoint)
    one.exchange.heard("us-west", "nexus-1", NOT_KNOWN, router.endpoint)
    one.exchange.heard("us-west", "nexus-1", "other", "")
    gevent.sleep(0.1)
    assert router.asked == []


# --- what goes wrong --------------------------------------------------------------------------


def test_one_that_does_not_answer_is_asked_again_when_it_is_heard_again(
    one: Dc, stranger: Callable[[Answerer], Router], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exchange, "ANSWER_S", 0.2)
    is_silent = True

    def answer(request: Lookup) -> Settings | None:
        return None if is_silent else whole(record("a"))(request)

    router = stranger(answer)
    for failed in (1, 2):
        one.exchange.heard("us-west", "nexus-1", "other", router.endpoint)
        until(lambda failed=failed: one.exchange.failed == failed, "the failure")  # type: ignore[misc]
    is_silent = False
    monkeypatch.setattr(exchange, "ANSWER_S", PATIENCE_S)
    one.exchange.heard("us-west", "nexus-1", "other", router.endpoint)
    until(lambda: one.values() == {"a": "1"}, "the setting")
    assert len([each for each in caplog.records if "can't be brought over" in each.getMessage()]) == 1
    assert len(set(router.connections)) == len(
        router.connections
    )  # what became of the one that was silent, nobody knows


def test_a_connection_that_works_is_kept(one: Dc, stranger: Callable[[Answerer], Router]) -> None:
    theirs: list[SettingRecord] = []

    def answer(request: Lookup) -> Settings | None:
        return whole(*theirs)(request)

    router = stranger(answer)
    for number in range(3):
        theirs.append(record(f"key/{number}"))
        one.exchange.heard("us-west", "nexus-1", digest(editions_of(*theirs)), router.endpoint)
        until(lambda number=number: len(one.values()) == number + 1, "the setting")  # type: ignore[misc]
    assert len(router.connections) == 3
    assert len(set(router.connections)) == 1


def test_one_that_is_silent_holds_up_no_other(one: Dc, stranger: Callable[[Answerer], Router]) -> None:
    silent, other = stranger(lambda request: None), stranger(whole(record("a")))
    one.exchange.heard("us-west", "nexus-1", "first", silent.endpoint)
    one.exchange.heard("ap-south", "nexus-1", "second", other.endpoint)
    until(lambda: one.values() == {"a": "1"}, "the setting of the other")
    assert silent.under_way == 0
    assert one.exchange.failed == 0


def test_an_address_that_is_none_ends_nothing(one: Dc, stranger: Callable[[Answerer], Router]) -> None:
    one.exchange.heard("us-west", "nexus-1", "other", "tcp://no address at all")
    until(lambda: one.exchange.failed == 1, "the failure")
    one.exchange.heard("us-west", "nexus-1", "other", stranger(whole(record("a"))).endpoint)
    until(lambda: one.values() == {"a": "1"}, "the setting")


@pytest.mark.parametrize(
    "wrong",
    [
        record("a b"),
        record("\x1f"),
        record("x", "\0"),
        record("x", version=limits.MAX_MERGED_VERSION + 1),
        record("x", version=0),
        record("x", at=-5.0),
    ],
    ids=lambda each: ascii(each)[14:60],
)
def test_what_can_not_be_a_setting_is_left_there_and_the_others_come(
    one: Dc, stranger: Callable[[Answerer], Router], wrong: SettingRecord
) -> None:
    router = stranger(whole(*sorted([record("b"), wrong, record("zz")], key=lambda each: each.key)))
    one.exchange.heard("us-west", "nexus-1", "other", router.endpoint)
    until(lambda: one.values() == {"b": "1", "zz": "1"}, "the others")


def test_a_version_that_nobody_can_have_come_to_is_left_there_and_changes_go_on_spreading(
    one: Dc, stranger: Callable[[Answerer], Router]
) -> None:
    far = stranger(whole(record("timing.fresh_s", "9", 2**49), record("timing.read_s", "2", 7)))
    one.exchange.heard("far", "n", "d1", far.endpoint)
    until(lambda: "timing.read_s" in one.store.list(), "what can be")
    assert "timing.fresh_s" not in one.store.list()
    assert one.exchange.refused == 1
    assert one.store.set("timing.fresh_s", b"1", author="me").version == 8


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: make(Settings, request.request, True, ()),
        lambda request: make(Settings, request.request, True, (record("a"),)),
        lambda request: make(Settings, request.request, False, (record("b"), record("a"))),
        lambda request: make(Settings, request.request + 1, False, (record("a"),)),
    ],
    ids=["no end and nothing", "the same again and again", "out of order", "to another question"],
)
def test_an_answer_that_makes_no_sense_brings_nothing(
    one: Dc, stranger: Callable[[Answerer], Router], monkeypatch: pytest.MonkeyPatch, answer: Answerer
) -> None:
    monkeypatch.setattr(exchange, "ANSWER_S", 0.2)
    one.exchange.heard("us-west", "nexus-1", "other", stranger(answer).endpoint)
    until(lambda: one.exchange.failed == 1, "the failure")
    assert one.values() == {}


def test_settings_without_end_are_given_up(
    one: Dc, stranger: Callable[[Answerer], Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_EDITIONS", 20)
    router = stranger(lambda request: make(Settings, request.request, True, (record(request.key + "a"),)))
    one.exchange.heard("us-west", "nexus-1", "other", router.endpoint)
    until(lambda: one.exchange.failed == 1, "the failure")
    assert len(router.asked) <= 22
    assert one.values() == {}


def test_keys_past_the_limit_are_left_where_they_are(
    one: Dc, stranger: Callable[[Answerer], Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    one.put("a", "mine")
    until(lambda: one.exchange.version == 1, "the store to be read")
    monkeypatch.setattr(limits, "MAX_EDITIONS", 3)
    theirs = [record("a", "theirs", 9), *(record(f"key/{number}") for number in range(3))]
    one.exchange.heard("us-west", "nexus-1", "other", stranger(whole(*theirs)).endpoint)
    until(lambda: one.values().get("a") == "theirs", "what is known")
    assert len(one.values()) == 3


def test_a_store_that_does_not_take_it_is_tried_again_with_the_next_word(
    one: Dc, stranger: Callable[[Answerer], Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = one.exchange._store
    merge = store.merge
    monkeypatch.setattr(store, "merge", partial(_away, store))
    router = stranger(whole(record("a")))
    one.exchange.heard("us-west", "nexus-1", "other", router.endpoint)
    until(lambda: one.exchange.failed == 1, "the failure")
    monkeypatch.setattr(store, "merge", merge)
    one.exchange.heard("us-west", "nexus-1", "other", router.endpoint)
    until(lambda: one.values() == {"a": "1"}, "the setting")


def _away(store: object, editions: object) -> int:
    raise StoreUnknown("away")


def test_what_this_release_does_not_know_is_brought_over(one: Dc, stranger: Callable[[Answerer], Router]) -> None:
    router = stranger(whole(record("timing.of_tomorrow_s", "soon"), record("tomorrow/x", "{}")))
    one.exchange.heard("us-west", "nexus-1", "other", router.endpoint)
    until(lambda: one.values() == {"timing.of_tomorrow_s": "soon", "tomorrow/x": "{}"}, "both")


# --- with keys ---------------------------------------------------------------------------------


def test_a_nexus_is_asked_under_the_key_that_it_has_now_though_a_question_is_under_way(
    tmp_path: Path, sqlite_stores: Callable[[str], SettingsStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = Peer("eu-west", "nexus", "nexus-1"), Peer("us-west", "nexus", "nexus-1")
    former, now = new_pair().public.hex(), new_pair().public.hex()
    keyfolder.make_missing(tmp_path / "keys", [here])
    for key in (former, now):
        keyfolder.add(tmp_path / "keys", there, key)
    keyring = open_keyring(
        msgspec.structs.replace(mesh_config(name="eu-west"), keys=str(tmp_path / "keys")), "nexus", "nexus-1"
    )
    network = Network(zmq.green.Context(), keyring)
    asking: list[gevent.Greenlet[[], None]] = []
    monkeypatch.setattr(exchange, "spawn", lambda _, work, *given: asking.append(gevent.spawn(work, *given)))
    made = SettingsExchange(sqlite_stores("eu-west"), "eu-west", network)
    made.start()
    until(lambda: made.digest() != NOT_KNOWN, "the store to be read")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        for number, key in enumerate((former, now)):
            made.heard("us-west", "nexus-1-00", f"digest-{number}", with_key(place, key))
            gevent.sleep(0.2)  # it asks, and nobody answers
        assert list(made._links["us-west"]) == [with_key(place, now)]
        keyfolder.revoke(tmp_path / "keys", lambda _, peer: peer == there)
        until(lambda: not made._links["us-west"], "the connection to end with its key")
        gevent.sleep(0.2)
        assert [one.exception for one in asking] == [None] * len(asking), "whoever asked must survive it"
    made.stop()
    network.close()
