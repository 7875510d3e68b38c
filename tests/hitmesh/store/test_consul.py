"""What Consul answers when things go wrong, and what the store makes of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hitmesh.errors import StoreUnknown
from hitmesh.store import Done, Refused, Row, TotalsStore, Unknown, Write, consul_txn
from hitmesh.store.consul import ConsulTotals
from hitmesh.store.consul_host import Host
from hitmesh.store.consul_keys import Keys
from hitmesh.store.totals import is_row
from tests.hitmesh.store.patience import PATIENT, SILENCE, Held, failing
from tests.services import PATIENCE_S, START_S, free_port, require, wait_for
from tests.services.consul import ConsulCluster
from tests.services.faulty_proxy import Fault, FaultyProxy, Request, reads, writes

READS: dict[str, Callable[[TotalsStore], object]] = {
    "read_head": lambda store: store.read_head(1),
    "read": lambda store: store.read({1: ["a/b"]})[1],
    "load": lambda store: store.load(1),
    "scan": lambda store: list(store.scan()),
    "check": lambda store: store.check(),
}
NEWS = [Write(1, 0, b"head", [Row("a/b", "eu", 5, 1)])]


@pytest.fixture
def through(proxy: FaultyProxy, prefix: str) -> Iterator[ConsulTotals]:
    """A store behind the proxy."""
    store = ConsulTotals([Host("127.0.0.1", proxy.port)], prefix, timeouts=PATIENT)
    yield store
    store.close()


def is_written(store: TotalsStore) -> bool:
    """Whether NEWS is in the store, whole; anything in between fails."""
    head, rows = store.read_head(1), store.load(1)
    if head is None:
        assert rows == []
        return False
    assert (head.body, rows) == (b"head", [Row("a/b", "eu", 5, 1)])
    return True


FAULTS = {
    "500": Fault(status=500, body=b"No cluster leader"),
    "500 that looks like a result": Fault(status=500, body=b'{"Results":[],"Errors":null}'),
    "500 that looks like a refusal": Fault(
        status=500, body=b'{"Results":null,"Errors":[{"OpIndex":0,"What":"failed to set key \\"k\\", index is stale"}]}'
    ),
    "404": Fault(status=404, body=b""),
    "403": Fault(status=403, body=b"Permission denied"),
    "429": Fault(status=429, body=b"Your IP is issuing too many concurrent connections"),
    "redirect": Fault(status=307, body=b""),
    "200 and no JSON": Fault(status=200, body=b"<html>welcome</html>"),
    "200 and nothing": Fault(status=200, body=b""),
    "200 and another shape": Fault(status=200, body=b'{"Results":null,"Errors":null}'),
    "200 and half of it": Fault(status=200, body=b'{"Results":[{"KV":{"Key":"'),
    "200 and only brackets": Fault(status=200, body=b"[" * 100_000),
    "409": Fault(status=409, body=b'{"Results":null,"Errors":[{"OpIndex":0,"What":"Permission denied"}]}'),
    "409 and no JSON": Fault(status=409, body=b"conflict"),
    "cut connection": Fault(cut=True),
    "no answer in time": SILENCE,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_a_read_that_fails_is_unknown_and_never_absent_or_zero(
    consul_store: ConsulTotals,
    through: ConsulTotals,
    proxy: FaultyProxy,
    read: Callable[[TotalsStore], object],
    fault: Fault,
) -> None:
    consul_store.write(NEWS)
    with failing(proxy, through, fault), pytest.raises(StoreUnknown):
        read(through)
    assert read(through) == read(consul_store)


ANSWERS = {name: fault for name, fault in FAULTS.items() if fault.delay_s == 0}


@pytest.mark.parametrize("fault", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_write_that_fails_is_unknown(
    consul_store: ConsulTotals, through: ConsulTotals, proxy: FaultyProxy, fault: Fault
) -> None:
    proxy.inject(fault)
    (outcome,) = through.write(NEWS)
    assert isinstance(outcome, Unknown)
    assert outcome.reason
    assert not is_written(consul_store)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_write_that_was_applied_and_then_failed_is_unknown_and_the_head_shows_it(
    consul_store: ConsulTotals, through: ConsulTotals, proxy: FaultyProxy, fault: Fault
) -> None:
    with failing(proxy, through, replace(fault, forward=True, when=writes)):
        (outcome,) = through.write(NEWS)
        assert isinstance(outcome, Unknown)
        wait_for(lambda: consul_store.read_head(1), what="the write to be carried out")
        assert is_written(through)


def test_a_write_that_is_applied_after_its_time_out_is_unknown(
    consul_store: ConsulTotals, through: ConsulTotals, proxy: FaultyProxy
) -> None:
    late = Held(proxy)
    with failing(proxy, through, replace(SILENCE, when=writes)):
        (outcome,) = through.write(NEWS)
    assert isinstance(outcome, Unknown)
    assert not is_written(consul_store)
    late.let_go()
    assert is_written(consul_store)


def test_a_late_write_can_not_undo_what_came_before_it(
    consul_store: ConsulTotals, through: ConsulTotals, proxy: FaultyProxy
) -> None:
    late = Held(proxy)
    with failing(proxy, through, replace(SILENCE, when=writes)):
        assert isinstance(through.write(NEWS)[0], Unknown)
    (winner,) = consul_store.write([Write(1, 0, b"the next owner's", [])])
    late.let_go()
    head = consul_store.read_head(1)
    assert head is not None
    assert (head.body, winner) == (b"the next owner's", Done(head.index))
    assert consul_store.load(1) == []


def test_a_write_is_sent_once_whatever_its_answer(through: ConsulTotals, proxy: FaultyProxy) -> None:
    for fault in FAULTS.values():
        before = len(proxy.requests)
        with failing(proxy, through, fault):
            through.write(NEWS)
            wait_for(lambda before=before: len(proxy.requests) > before, what="the write")  # type: ignore[misc]
        assert len(proxy.requests) == before + 1


def test_a_413_is_a_value_error_and_not_silence(through: ConsulTotals, proxy: FaultyProxy) -> None:
    proxy.inject(Fault(status=413, body=b"Request body(9 bytes) too large", when=writes))
    with pytest.raises(ValueError, match="too large"):
        through.write(NEWS)


def test_a_413_to_a_read_is_unknown(through: ConsulTotals, proxy: FaultyProxy) -> None:
    proxy.inject(Fault(status=413))
    with pytest.raises(StoreUnknown):
        through.read_head(1)


def test_writes_after_one_that_failed_are_unknown_and_not_sent(
    consul_store: ConsulTotals, through: ConsulTotals, proxy: FaultyProxy
) -> None:
    proxy.inject(Fault(status=500, when=lambda request: b"heads/0032" in request.body))
    outcomes = through.write([Write(p, 0, b"head", [Row("a/b", "eu", 1, 1)]) for p in range(96)])
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Done] * 32 + [Unknown] * 64
    assert consul_store.read_head(31) is not None
    assert consul_store.read_head(95) is None
    assert len(proxy.requests) == 2


def test_a_missing_permission_refuses_nothing(
    consul_store: ConsulTotals, through: ConsulTotals, proxy: FaultyProxy
) -> None:
    body = b'{"Errors":[{"OpIndex":0,"What":"failed to set key, index is stale"},{"OpIndex":1,"What":"Permission denied"}]}'
    proxy.inject(Fault(status=409, body=body, when=writes))
    (outcome,) = through.write(NEWS)
    assert isinstance(outcome, Unknown)


@pytest.mark.parametrize(
    "body",
    [
        b'{"Results":[],"Errors":null}',
        b'{"Results":[{"KV":{"Key":"other","Flags":0,"Value":null,"ModifyIndex":7}}]}',
    ],
    ids=["no result", "another key's"],
)
def test_a_write_whose_answer_lacks_the_heads_index_is_unknown(
    through: ConsulTotals, proxy: FaultyProxy, body: bytes
) -> None:
    proxy.inject(Fault(status=200, body=body, when=writes))
    (outcome,) = through.write(NEWS)
    assert isinstance(outcome, Unknown)


def test_a_head_that_keeps_moving_during_a_long_read_is_unknown(
    consul_store: ConsulTotals, through: ConsulTotals, proxy: FaultyProxy
) -> None:
    pages = [f"site/{number}" for number in range(100)]
    consul_store.write(NEWS)

    def move(request: object) -> bool:
        head = consul_store.read_head(1)
        assert head is not None
        assert isinstance(consul_store.write([Write(1, head.index, b"moved", [])])[0], Done)
        return False

    proxy.inject(Fault(when=move))
    with pytest.raises(StoreUnknown, match="written to during"):
        through.read({1: pages})


def test_a_head_that_moves_once_during_a_long_read_is_read_again(
    consul_store: ConsulTotals, through: ConsulTotals, proxy: FaultyProxy
) -> None:
    pages = [f"site/{number}" for number in range(100)]
    rows = [Row(page, "eu", 1, 1) for page in pages]
    consul_store.write([Write(1, 0, b"one", rows[:50])])
    sent: list[object] = []

    def move(request: object) -> bool:
        sent.append(request)
        if len(sent) == 2:
            head = consul_store.read_head(1)
            assert head is not None
            assert isinstance(consul_store.write([Write(1, head.index, b"two", rows[50:])])[0], Done)
        return False

    proxy.inject(Fault(when=move))
    head, found = through.read({1: pages})[1]
    assert (head and head.body, len(found), len(sent)) == (b"two", 100, 4)


def test_keys_that_the_token_may_not_read_are_unknown_and_not_absent(through: ConsulTotals, proxy: FaultyProxy) -> None:
    proxy.inject(Fault(headers=(("X-Consul-Results-Filtered-By-ACLs", "true"),)))
    with pytest.raises(StoreUnknown, match="ACL token"):
        through.read_head(1)


def test_every_read_is_consistent(through: ConsulTotals, proxy: FaultyProxy) -> None:
    for read in READS.values():
        read(through)  # once to learn what it may read
    proxy.requests.clear()
    for read in READS.values():
        read(through)
    through.read({1: [f"site/{number}" for number in range(100)]})
    assert len(proxy.transactions) == len(READS) + 3
    assert all("consistent" in request.path for request in proxy.transactions)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rows/0001/a%2Fb/eu", b" 5"),
        ("rows/0001/a%2Fb/eu", b"-5"),
        ("rows/0001/a%2Fb/eu", b""),
        ("rows/0001/a%2Fb/eu", b"9" * 20),
        ("rows/0001/a%2Fb", b"5"),
        ("rows/0001/%FF/eu", b"5"),
        ("rows/1/a%2Fb/eu", b"5"),
        ("heads/0001x", b"head"),
    ],
)
def test_a_key_that_is_not_as_we_write_it_is_unknown(
    consul: ConsulCluster, consul_store: ConsulTotals, prefix: str, key: str, value: bytes
) -> None:
    address = f"-http-addr=127.0.0.1:{consul.http(0)}"
    subprocess.run([require("consul"), "kv", "put", address, f"{prefix}/{key}", "-"], input=value, check=True)
    with pytest.raises(StoreUnknown, match="not as we write them"):
        list(consul_store.scan())


def test_a_row_that_is_not_as_we_write_it_hides_no_other_partition(
    consul: ConsulCluster, consul_store: ConsulTotals, prefix: str
) -> None:
    for partition in (1, 2):
        consul_store.write([Write(partition, 0, b"head", [Row(f"a/{partition}", "eu", 5, 1)])])
    address = f"-http-addr=127.0.0.1:{consul.http(0)}"
    subprocess.run([require("consul"), "kv", "put", address, f"{prefix}/rows/0001/a%2F1/eu", "many"], check=True)
    (one, head, rows), (two, _, others) = consul_store.scan()
    assert (one, head, [is_row(row) for row in rows]) == (1, None, [False])
    assert "rows/0001/a%2F1/eu is not as we write them" in rows[0].page
    assert (two, others) == (2, [Row("a/2", "eu", 5, 1)])


def test_a_row_is_readable_with_consul_kv_get(consul: ConsulCluster, consul_store: ConsulTotals, prefix: str) -> None:
    consul_store.write([Write(7, 0, b"head", [Row("a/b c", "eu-west", 42, 3)])])
    command = [require("consul"), "kv", "get", f"-http-addr=127.0.0.1:{consul.http(0)}"]
    for key, value in {f"{prefix}/rows/0007/a%2Fb%20c/eu-west": b"42\n", f"{prefix}/heads/0007": b"head\n"}.items():
        assert subprocess.run([*command, key], check=True, capture_output=True).stdout == value


# --- whole partitions -----------------------------------------------------------------------


def test_a_scan_asks_for_one_partition_at_a_time(
    consul_store: ConsulTotals, through: ConsulTotals, proxy: FaultyProxy, prefix: str
) -> None:
    for partition in (0, 3, 30, 32, 4095):
        consul_store.write([Write(partition, 0, b"head", [Row("a/b", "eu", partition, 1)])])
    assert [partition for partition, _, _ in through.scan()] == [0, 3, 30, 32, 4095]
    asked = [request.body for request in proxy.requests if b"/rows/" in request.body]
    for digits in (b"0000", b"0003", b"0030", b"0032", b"4095"):
        (one,) = [body for body in asked if b"/rows/" + digits + b"/" in body]
        assert one.count(b"get-tree") == 2  # its head, its rows
    assert not any(f"{prefix}/rows/".encode() + b'"' in body for body in asked)


def test_rows_without_a_head_are_scanned(consul: ConsulCluster, consul_store: ConsulTotals, prefix: str) -> None:
    for partition in (3, 30, 31, 32, 300, 4095):
        consul_store.write([Write(partition, 0, b"head", [Row("a/b", "eu", partition, 1)])])
    address = f"-http-addr=127.0.0.1:{consul.http(0)}"
    for partition in (3, 31, 4095):
        subprocess.run([require("consul"), "kv", "delete", address, f"{prefix}/heads/{partition:04}"], check=True)
    found = {partition: (head and head.body, rows) for partition, head, rows in consul_store.scan()}
    assert found == {
        partition: (None if partition in (3, 31, 4095) else b"head", [Row("a/b", "eu", partition, 1)])
        for partition in (3, 30, 31, 32, 300, 4095)
    }


def test_what_a_scan_says_of_a_partition_is_from_one_moment(
    consul_store: ConsulTotals, through: ConsulTotals, proxy: FaultyProxy
) -> None:
    partitions = (1, 2, 31)

    def move(request: object) -> bool:
        for partition in partitions:
            head = consul_store.read_head(partition)
            number = int(head.body) + 1 if head else 1
            write = Write(partition, head.index if head else 0, b"%d" % number, [Row("a/b", "eu", number, number)])
            assert isinstance(consul_store.write([write])[0], Done)
        return False

    move(None)
    proxy.inject(Fault(when=move))
    scanned = list(through.scan())
    assert [partition for partition, _, _ in scanned] == list(partitions)
    for _, head, (row,) in scanned:
        assert head is not None
        assert int(head.body) == row.count > 1


@given(st.sets(st.one_of(st.integers(0, 40), st.integers(0, 4095)), max_size=40))
@example(set())
@example(set(range(32)))
@example(set(range(4096)))
def test_all_other_partitions_rows_begin_with_one_of_those_prefixes_each(excepted: set[int]) -> None:
    keys = Keys("p")
    prefixes = tuple(keys.rows_of_all_but(excepted))
    for partition in {*excepted, *range(0, 4096, 7), 31, 32, 40, 41, 4095}:
        row = keys.row(partition, "a/b", "eu")
        assert sum(row.startswith(prefix) for prefix in prefixes) == (partition not in excepted)


@given(
    st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("%/2Ff5")), min_size=1),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
@example("%2F", "%")
@example("a/b%2Fc", "d/e")
def test_a_row_s_key_is_read_back_as_it_was_written(page: str, dc: str) -> None:
    key = Keys("p").row(7, page, dc)
    assert Keys("p").parse_row(key, b"5", 3) == (7, Row(page, dc, 5, 3))


def test_a_key_that_somebody_has_quoted_otherwise_is_the_same_row() -> None:
    assert Keys("p").parse_row("p/rows/0007/a%2fb%2F%63/eu", b"5", 3) == (7, Row("a/b/c", "eu", 5, 3))


def test_32_partitions_leave_few_enough_prefixes_for_one_transaction() -> None:
    assert len(Keys("p").rows_of_all_but(range(32))) < consul_txn.MAX_OPERATIONS


@pytest.mark.parametrize("patch", ["", "import gevent.monkey; gevent.monkey.patch_all()"], ids=["plain", "patched"])
def test_a_large_answer_is_not_taken_apart_on_the_hub(
    consul: ConsulCluster, consul_store: ConsulTotals, prefix: str, patch: str
) -> None:
    index = 0
    for start in range(0, 960, 60):
        rows = [Row(f"site/{number}", "eu", number, 1) for number in range(start, start + 60)]
        (outcome,) = consul_store.write([Write(1, index, b"head %d" % start, rows)])
        assert isinstance(outcome, Done)
        index = outcome.index
    code = f"""
{patch}
import gevent.monkey
from hitmesh.store import consul_txn
from hitmesh.store.consul import ConsulTotals, Timeouts
from hitmesh.store.consul_host import Host
gevent.get_hub()
ident = gevent.monkey.get_original("_thread", "get_ident")
threads = []
entries = consul_txn.entries
def spied(body):
    threads.append(ident())
    return entries(body)
consul_txn.entries = spied
store = ConsulTotals([Host("127.0.0.1", {consul.http(0)})], "{prefix}", timeouts=Timeouts(30, 30, 30))
assert len(store.load(1)) == 960
assert store.read_head(1).body == b"head 900"
assert [thread == ident() for thread in threads] == [False, True], threads
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=2 * START_S)


# --- several hosts --------------------------------------------------------------------------


@pytest.fixture
def second(consul: ConsulCluster) -> Iterator[FaultyProxy]:
    """Another proxy to the same server."""
    made = FaultyProxy(consul.http(0))
    yield made
    made.close()


@pytest.fixture
def pair(proxy: FaultyProxy, second: FaultyProxy, prefix: str) -> Iterator[ConsulTotals]:
    """A store with two hosts."""
    store = ConsulTotals([Host("127.0.0.1", each.port) for each in (proxy, second)], prefix, timeouts=PATIENT)
    yield store
    store.close()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_read_that_fails_is_asked_of_the_next_host(
    consul_store: ConsulTotals, pair: ConsulTotals, proxy: FaultyProxy, second: FaultyProxy, fault: Fault
) -> None:
    consul_store.write(NEWS)
    with failing(proxy, pair, fault):
        assert is_written(pair)
    wait_for(lambda: proxy.requests, what="the first read")
    assert len(proxy.requests) == 1  # the second read began with the host that answers


def test_a_read_that_fails_everywhere_names_every_host(
    pair: ConsulTotals, proxy: FaultyProxy, second: FaultyProxy
) -> None:
    proxy.inject(Fault(status=500, body=b"No cluster leader"))
    second.inject(Fault(cut=True))
    with pytest.raises(StoreUnknown, match=f"{proxy.port}: 500: No cluster leader; .*{second.port}: connection lost"):
        pair.read_head(1)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_write_that_may_have_happened_is_never_sent_to_another_host(
    pair: ConsulTotals, proxy: FaultyProxy, second: FaultyProxy, fault: Fault
) -> None:
    with failing(proxy, pair, fault):
        (outcome,) = pair.write(NEWS)
    assert isinstance(outcome, Unknown)
    assert second.requests == []
    before = len(proxy.requests)
    pair.check()
    assert len(proxy.requests) == before
    assert second.transactions  # but the next call begins there


def test_a_write_to_a_host_that_accepts_no_connection_goes_to_the_next(proxy: FaultyProxy, prefix: str) -> None:
    hosts = [Host("127.0.0.1", free_port()), Host("127.0.0.1", proxy.port)]
    store = ConsulTotals(hosts, prefix, timeouts=PATIENT)
    assert isinstance(store.write(NEWS)[0], Done)
    assert len(proxy.requests) == 1
    store.close()


def test_no_host_that_accepts_a_connection_is_unknown(prefix: str) -> None:
    store = ConsulTotals([Host("127.0.0.1", free_port()), Host("127.0.0.1", free_port())], prefix)
    (outcome,) = store.write(NEWS)
    assert isinstance(outcome, Unknown)
    assert outcome.reason.count("refused") == 2
    with pytest.raises(StoreUnknown):
        store.read_head(1)


def test_a_host_that_comes_back_is_used_again(pair: ConsulTotals, proxy: FaultyProxy, second: FaultyProxy) -> None:
    pair.write(NEWS)
    proxy.inject(Fault(cut=True, times=1))
    pair.read_head(1)
    second.inject(Fault(cut=True, times=1))
    pair.read_head(1)
    assert (len(proxy.requests), len(second.requests)) == (3, 2)


# --- beside other things --------------------------------------------------------------------


def test_two_writers_with_one_index_get_one_done(
    consul_store: ConsulTotals, consul: ConsulCluster, prefix: str
) -> None:
    other = ConsulTotals([Host("127.0.0.1", consul.http(0))], prefix, timeouts=PATIENT)
    outcomes = [store.write([Write(1, 0, body, [])])[0] for store, body in ((consul_store, b"a"), (other, b"b"))]
    assert isinstance(outcomes[0], Done)
    assert outcomes[1] == Refused()
    other.close()


def test_importing_the_store_does_not_import_requests() -> None:
    code = "import sys, hitmesh.store.consul; assert not {'requests', 'consul', 'urllib3'} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("patch", ["", "import gevent.monkey; gevent.monkey.patch_all()"], ids=["plain", "patched"])
def test_a_waiting_call_leaves_the_hub_free(proxy: FaultyProxy, prefix: str, patch: str) -> None:
    code = f"""
{patch}
import gevent
from hitmesh.store import Done, Write
from hitmesh.store.consul import ConsulTotals, Timeouts
from hitmesh.store.consul_host import Host
store = ConsulTotals([Host("127.0.0.1", {proxy.port})], "{prefix}", timeouts=Timeouts(30, 30, 30))
store.check()
def turn():
    for _ in range(20):
        gevent.sleep(0.01)
    print("free", flush=True)
gevent.spawn(turn)
assert isinstance(store.write([Write(1, 0, b"head", [])])[0], Done)
"""
    turned = threading.Event()

    def until_turned(request: Request) -> bool:
        return writes(request) and not turned.wait(2 * PATIENCE_S)

    proxy.inject(Fault(status=500, when=until_turned))
    arguments = [sys.executable, "-c", code]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "free\n"
        turned.set()
        assert process.communicate(timeout=START_S) == ("", "")
    assert process.returncode == 0


def test_the_environments_proxy_is_not_asked(consul_store: ConsulTotals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("CONSUL_HTTP_SSL", "true")
    assert isinstance(consul_store.write(NEWS)[0], Done)


def test_the_faults_of_reads_leave_writes_alone(through: ConsulTotals, proxy: FaultyProxy) -> None:
    proxy.inject(Fault(status=500, when=reads))
    assert isinstance(through.write(NEWS)[0], Done)
