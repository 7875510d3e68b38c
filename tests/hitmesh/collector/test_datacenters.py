"""A real collector's answers about several datacenters: heads and rows are the test's, as is the processor."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import pytest
import zmq

from hitmesh.config import dump, nexus_endpoints
from hitmesh.protocol.messages import Ack, Applied, Head, Heartbeat, Instance, Origin, Position, encode, make
from hitmesh.protocol.pages import partition_of
from hitmesh.settings import SettingsStore
from hitmesh.settings.open import open_settings
from hitmesh.store import Done, Row, Write
from hitmesh.store.open import open_store
from tests.services import wait_for
from tests.system.mesh import Answer, Mesh

PARTITIONS = 8
HERE, THERE = "dc-test", "us-west"
SHARED, RETURNING, RETURNED, HEADLESS, OWN, LOST = "s/a", "s/b", "s/c", "s/d", "s/e", "s/f"
assert len({partition_of(page, PARTITIONS) for page in (SHARED, RETURNING, RETURNED, HEADLESS, OWN, LOST)}) == 6
BEAT_S = 0.2
SILENT_S = 4.0  # after which a processor is dead
OLD_S = 100  # as a head says it
WITHIN_S = 60.0


class Processor:
    """The owner of every partition, as far as heartbeats go."""

    def __init__(self, mesh: Mesh) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.connect(nexus_endpoints(mesh.config.instances("nexus")[0]).heartbeats)
        self._started_s, self._number = time.time(), 0
        self._id = f"processor-1-{self._started_s}"
        self._interval_ms = int(SILENT_S / mesh.config.timing.missed_heartbeats * 1000)
        self.load: Mapping[str, float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat)
        self._thread.start()

    def _beat(self) -> None:
        owns = dict.fromkeys(range(PARTITIONS), 9)
        endpoints = {"batches": "tcp://127.0.0.1:9"}  # nobody there: what is sent stays on its way
        while not self._stopped.wait(BEAT_S):
            self._number += 1
            load = {"beats": float(self._number), **self.load}
            started_ms = int(self._started_s * 1000)
            instance = Instance(HERE, "processor", "processor-1", self._id, "up", 1, started_ms, endpoints, load, owns)
            self._socket.send(encode(make(Heartbeat, self._number, self._interval_ms, instance)))

    def push(self, endpoint: str, ack: Ack) -> None:
        with self._context.socket(zmq.PUSH) as socket:
            socket.connect(endpoint)
            socket.send(encode(ack))
            socket.close(linger=int(WITHIN_S * 1000))

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._context.destroy(linger=0)


def put(mesh: Mesh, page: str, index: int, *, restoring: bool = False, **counts: int) -> int:
    """Write the page's partition: a head that says how old the other's rows are, and the page's rows."""
    origins = {THERE: Origin(Position("theirs", 1, 1), 0, {}, int(time.time()) - OLD_S)} if "there" in counts else {}
    own = counts.get("here", 0)
    head = make(Head, "ledger", 2, "processor-1-x", 7 + index, own, {}, (), origins, restoring, 0)
    rows = [Row(page, {"here": HERE, "there": THERE}[at], count, 7) for at, count in counts.items()]
    with contextlib.closing(open_store(mesh.config, mesh.folder / HERE)) as store:
        (outcome,) = store.write([Write(partition_of(page, PARTITIONS), index, encode(head), rows)])
    assert isinstance(outcome, Done)
    return outcome.index


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A Nexus and a collector, that know of another datacenter; pages in partitions of all kinds."""
    mesh = Mesh(
        tmp_path_factory.mktemp("mesh"),
        partitions=PARTITIONS,
        timing={"fresh_s": 0.1, "drain_s": 0.5, "read_s": 10.0},
        keys=False,
    )
    mesh.config = msgspec.structs.replace(mesh.config, peers={THERE: ("127.0.0.1:9",)})
    mesh.file.write_text(dump(mesh.config))
    put(mesh, SHARED, 0, here=5, there=2)
    put(mesh, OWN, 0, here=3)
    put(mesh, RETURNING, 0, restoring=True, there=2)
    try:
        mesh.launch("nexus-1")
        mesh.launch("collector-1")
        wait_for(lambda: is_healthy(mesh), within_s=2 * WITHIN_S, what="the collector")
        yield mesh
    finally:
        mesh.stop()


def is_healthy(mesh: Mesh) -> bool:
    try:
        return mesh.request("GET", "/health").status == 200
    except OSError:
        return False


@pytest.fixture
def processor(mesh: Mesh) -> Iterator[Processor]:
    one = Processor(mesh)
    yield one
    one.stop()


@pytest.fixture
def settings(mesh: Mesh) -> Iterator[SettingsStore]:
    """The datacenter's live settings; none are left behind."""
    with contextlib.closing(open_settings(mesh.config.stores.settings, mesh.folder / HERE)) as store:
        yield store
        for key in store.list():
            store.delete(key, author="test")


def total(mesh: Mesh, page: str) -> Any:
    answer = mesh.request("GET", f"/total/{page}")
    assert answer.status == 200, answer
    return answer.json()


def age_s(mesh: Mesh, page: str, dc: str = THERE) -> float:
    age: float = total(mesh, page)["dcs"][dc]["age_s"]
    return age


def soon(condition: Callable[[], object], what: str) -> None:
    wait_for(condition, within_s=WITHIN_S, what=what)


def counts(found: Any) -> dict[str, int]:
    return {dc: each["count"] for dc, each in found["dcs"].items() if each["count"]}


# This one comes first: once a processor has spoken, its word counts.
def test_until_a_processor_says_better_a_count_is_as_old_as_the_head_says(mesh: Mesh) -> None:
    found = total(mesh, SHARED)
    assert (found["total"], counts(found)) == (7, {HERE: 5, THERE: 2})
    assert OLD_S <= found["dcs"][THERE]["age_s"] < OLD_S * 10
    assert found["dcs"][HERE]["age_s"] < OLD_S / 2


def test_an_age_is_what_the_owner_says_and_grows_while_nobody_says_anything(mesh: Mesh, processor: Processor) -> None:
    processor.load = {f"age_s.{THERE}": 0.25}
    soon(lambda: age_s(mesh, SHARED) < OLD_S / 2, "the owner's word")
    assert age_s(mesh, SHARED) >= 0.25
    hit = mesh.hit(SHARED).json()
    assert hit["dcs"][THERE]["age_s"] < OLD_S / 2
    processor.stop()
    ages = [age_s(mesh, SHARED)]
    while ages[-1] < SILENT_S + 2:  # for the last two of them it is dead
        time.sleep(0.3)
        ages.append(age_s(mesh, SHARED))
        assert ages[-1] > ages[-2]


def test_a_datacenter_without_hits_on_the_page_is_in_the_answer_with_its_age(mesh: Mesh, processor: Processor) -> None:
    processor.load = {f"age_s.{THERE}": 40.0, "age_s.ap-south": 4000.0}
    soon(lambda: "ap-south" in total(mesh, OWN)["dcs"], "the owner's word")
    found = total(mesh, OWN)
    assert (found["total"], counts(found)) == (3, {HERE: 3})
    assert [found["dcs"][dc]["count"] for dc in (THERE, "ap-south")] == [0, 0]
    assert 40 <= found["dcs"][THERE]["age_s"] < 90
    assert 4000 <= found["dcs"]["ap-south"]["age_s"] < 4060
    listed = mesh.request("GET", f"/totals?prefix={OWN}").json()["totals"]
    assert [(counts(each), each["dcs"].keys()) for each in listed] == [({HERE: 3}, found["dcs"].keys())]
    assert 40 <= listed[0]["dcs"][THERE]["age_s"] < 90


def test_an_ack_s_counts_have_the_ages_that_the_owner_last_said(mesh: Mesh, processor: Processor) -> None:
    processor.load = {f"age_s.{THERE}": 40.0}
    soon(lambda: 40 <= age_s(mesh, SHARED) < 70, "the owner's word")
    (collector,) = (one.instance for one in mesh.living() if one.instance.role == "collector")
    totals = {"s/acked": {HERE: 3, THERE: 4}}
    applied = Applied(partition_of("s/acked", PARTITIONS), 9, 9, 0, (), totals)
    mesh.hit("s/acked")
    processor.push(collector.endpoints["acks"], make(Ack, collector.id, (applied,)))
    answers = []

    def is_told() -> bool:
        answers.append(mesh.hit("s/acked").json())  # which doesn't wait for the store
        return answers[-1]["total"] is not None and answers[-1]["total"] >= 7

    soon(is_told, "the ack")
    assert answers[-1]["dcs"][THERE]["count"] == 4
    assert 40 <= answers[-1]["dcs"][THERE]["age_s"] < 90


def assert_unknown(answer: Answer) -> None:
    assert (answer.status, answer.json()["title"]) == (503, "Not known")
    assert "brought back" in answer.json()["description"]


@pytest.mark.parametrize("page", [RETURNING, HEADLESS])
def test_a_page_whose_rows_are_brought_back_has_no_total_and_takes_hits(mesh: Mesh, page: str) -> None:
    assert_unknown(mesh.request("GET", f"/total/{page}"))
    for _ in range(3):
        answer = mesh.hit(page)
        assert (answer.status, answer.json()) == (200, {"page": page, "total": None, "dcs": {}})
    assert_unknown(mesh.request("GET", f"/total/{page}"))
    assert total(mesh, OWN)["total"] == 3


def test_the_list_says_which_pages_are_unknown_and_how_many_partitions_are_brought_back(mesh: Mesh) -> None:
    found = mesh.request("GET", "/totals?sort=top").json()
    assert found["restoring"] == PARTITIONS - 2
    assert [each["page"] for each in found["totals"]] == [SHARED, OWN, RETURNING]
    assert found["totals"][2] == {"page": RETURNING, "total": None, "dcs": {}}


def test_a_page_has_a_total_once_its_rows_are_back(mesh: Mesh) -> None:
    index = put(mesh, RETURNED, 0, restoring=True, here=1)
    assert_unknown(mesh.request("GET", f"/total/{RETURNED}"))
    put(mesh, RETURNED, index, here=4, there=6)
    found = total(mesh, RETURNED)
    assert (found["total"], counts(found)) == (10, {HERE: 4, THERE: 6})


def test_a_total_that_was_known_becomes_unknown_when_its_rows_have_to_be_brought_back(mesh: Mesh) -> None:
    index = put(mesh, LOST, 0, here=4)
    assert total(mesh, LOST)["total"] == 4
    put(mesh, LOST, index, restoring=True, here=4)
    soon(lambda: mesh.request("GET", f"/total/{LOST}").status == 503, "the total to be unknown")
    assert_unknown(mesh.request("GET", f"/total/{LOST}"))
    soon(lambda: mesh.hit(LOST).json()["total"] is None, "the same of a hit's answer")


def test_a_retired_datacenter_s_count_stays_and_has_no_age(mesh: Mesh, settings: SettingsStore) -> None:
    def entry() -> Any:
        return total(mesh, SHARED)["dcs"][THERE]

    settings.set(f"datacenters/{THERE}", b"retired", author="test")
    soon(lambda: "retired" in entry(), "the setting in force")
    assert entry() == {"count": 2, "age_s": 0.0, "retired": True}
    assert total(mesh, SHARED)["total"] >= 7
    (listed,) = mesh.request("GET", f"/totals?prefix={SHARED}").json()["totals"]
    assert listed["dcs"][THERE] == {"count": 2, "age_s": 0.0, "retired": True}
    assert "retired" not in listed["dcs"][HERE]
    settings.delete(f"datacenters/{THERE}", author="test")
    soon(lambda: "retired" not in entry(), "it to be back")
    assert entry()["age_s"] > 0


def test_where_every_other_datacenter_is_retired_nothing_is_waited_for(mesh: Mesh, settings: SettingsStore) -> None:
    assert_unknown(mesh.request("GET", f"/total/{HEADLESS}"))
    settings.set(f"datacenters/{THERE}", b"retired", author="test")
    settings.set("datacenters/ap-south", b"retired", author="test")
    soon(lambda: mesh.request("GET", f"/total/{HEADLESS}").status == 200, "a total")
    assert mesh.request("GET", f"/total/{RETURNING}").status == 503


def heard_settings(mesh: Mesh) -> float:
    """The version of the settings that the collector says is in force."""
    (collector,) = (one.instance for one in mesh.living() if one.instance.role == "collector")
    return collector.load["settings"]


def test_what_belongs_to_a_page_is_a_live_setting(mesh: Mesh, settings: SettingsStore) -> None:
    def page(path: str) -> object:
        return mesh.request("POST", f"/hit/{path}").json()["page"]

    assert page("s/kept/?a=%20b") == "s/kept"
    settings.set("pages.query", b"keep", author="test")
    soon(lambda: page("s/kept/?a=%20b") == "s/kept?a=%20b", "the query in the page")
    settings.set("pages.trailing_slash", b"keep", author="test")
    soon(lambda: page("s/kept/?a=%20b") == "s/kept/?a=%20b", "the slash in the page")


def test_limits_are_live_settings_and_heartbeats_say_which_version_is_in_force(
    mesh: Mesh, settings: SettingsStore
) -> None:
    def batch() -> int:
        body = msgspec.msgpack.encode({"s/one": 1, "s/two": 1})
        return mesh.request("POST", "/hits", body, {"Content-Type": "application/msgpack"}).status

    assert batch() == 200
    setting = settings.set("limits.batch_pages", b"1", author="test")
    soon(lambda: batch() == 413, "the limit in force")
    soon(lambda: heard_settings(mesh) == setting.version, "the version in a heartbeat")


def test_for_how_long_a_total_is_fresh_is_a_live_setting(mesh: Mesh, settings: SettingsStore) -> None:
    index = put(mesh, "s/g", 0, here=1)
    setting = settings.set("timing.fresh_s", b"60", author="test")
    soon(lambda: heard_settings(mesh) >= setting.version, "the setting in force")
    assert total(mesh, "s/g")["total"] == 1
    put(mesh, "s/g", index, here=2)
    until_s = time.monotonic() + 10 * mesh.config.timing.fresh_s
    while time.monotonic() < until_s:
        assert total(mesh, "s/g")["total"] == 1
    settings.delete("timing.fresh_s", author="test")
    soon(lambda: total(mesh, "s/g")["total"] == 2, "the total to be read again")
