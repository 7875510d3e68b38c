"""What heartbeats say, as a scaler counts it."""

from __future__ import annotations

from hitmesh.scaler.figures import Host, figures, hosts, restoring
from hitmesh.scaler.host import available_mb, cpu_times
from hitmesh.scaler.placing import Place, for_one_less, for_one_more
from hitmesh.state.view import Sighting
from tests.hitmesh.dashboard.seen import instance, sighting

NODES = {f"collector-{n}": "a" if n < 4 else "b" for n in range(1, 8)}
BUSY = {"busy": 0.5, "up_s": 60.0}


def one(name: str, state: str = "up", *, age_s: float = 0.2, alive: bool = True, **load: float) -> Sighting:
    owns = {1: 1} if name.startswith("processor-") and not load.pop("idle", 0.0) else {}
    return sighting(instance(name, state=state, load={**BUSY, **load}, owns=owns), 1, 100.0 - age_s, alive=alive)


def test_who_is_up_and_warm_counts_and_who_leaves_is_none_any_more() -> None:
    seen = figures(
        [
            one("collector-1", p99_ms=12.0),
            one("collector-2", busy=0.9, p99_ms=40.0),
            one("collector-3", up_s=3.0, p99_ms=900.0),
            one("collector-4", "draining: by an operator"),
            one("collector-5", "failing: its disk hangs"),
            one("collector-6", age_s=2.0),
            one("collector-7", "draining"),
            one("collector-8", alive=False),
            one("processor-1"),
        ],
        "collector", NODES, 100.0, warm_s=10.0, heartbeat_s=1.0,
    )  # fmt: skip
    assert (seen.serving, seen.new, seen.out) == (2, ("collector-3",), ("collector-4", "collector-5", "collector-6"))
    assert (seen.by_node, seen.living, seen.counted) == ({"a": 3, "b": 3}, 6, 3)
    assert (round(seen.busy, 2), seen.p99_ms, seen.missing) == (1.9, 40.0, "")
    assert seen.fields() == {"counted": 3, "new": 1, "out": 3, "cpus_used": 1.9, "p99_ms": 40.0}
    assert seen.words() == "3 use 63% of a CPU each, p99 40 ms"


def test_one_of_an_older_release_doesnt_say_how_busy_it_is_and_then_nothing_is_known() -> None:
    old = sighting(instance("collector-1", load={"up_s": 60.0}), 1, 100.0)
    seen = figures([old, one("collector-2")], "collector", NODES, 100.0, warm_s=10.0, heartbeat_s=1.0)
    assert seen.missing == "collector-1 don't say how busy they are: an older release"


def test_a_processor_without_partitions_is_waited_for_and_one_that_restores_is_known() -> None:
    idle = one("processor-2", idle=1.0)
    seen = figures([one("processor-1"), idle], "processor", {}, 100.0, warm_s=10.0, heartbeat_s=1.0)
    assert (seen.unsettled, seen.by_node) == ("processor-2", {"": 2})
    assert restoring([one("processor-1", restoring=3.0), idle]) == "processor-1 brings rows back"
    assert restoring([one("processor-1"), idle]) == ""


def test_a_host_is_known_by_its_scaler_unless_that_changes_nothing() -> None:
    able = one("scaler-1", cpus=4.0, host_busy=0.25, host_free_mb=900.0, supervisor=1.0)
    dry = one("scaler-2", cpus=4.0, host_busy=0.25, host_free_mb=900.0, supervisor=1.0, dry_run=1.0)
    new = one("scaler-3", cpus=4.0, supervisor=1.0)
    dead = one("scaler-4", alive=False)
    nodes = {"scaler-1": "a", "scaler-2": "b", "scaler-3": "c", "scaler-4": "d"}
    found = hosts([able, dry, new, dead], nodes)
    assert found["a"] == Host(name="a", cpus=4.0, busy=0.25, free_mb=900.0, is_able=True)
    assert (found["a"].room, found["c"].is_able, sorted(found)) == (3.0, False, ["a", "c"])
    assert sorted(hosts([able, dry, new, dead], nodes, dry_run=True)) == ["a", "b", "c"]
    by_hand = one("scaler-9", cpus=4.0, host_busy=0.25, dry_run=1.0)
    for both in ([able, by_hand], [by_hand, able]):
        assert hosts(both, {**nodes, "scaler-9": "a"}, dry_run=True)["a"].is_able


def place(name: str, wanted: int, busy: float = 0.0, *, least: int = 1, most: int = 4, free_mb: float = 4096) -> Place:
    host = Host(name=name, cpus=4, busy=busy, free_mb=free_mb, is_able=True)
    return Place(name=name, least=least, most=most, wanted=wanted, host=host)


def test_one_more_goes_where_there_is_the_most_room_and_then_where_there_are_the_fewest() -> None:
    bounds = {"busy": 0.85, "free_mb": 256}
    assert for_one_more([place("a", 1, 0.7), place("b", 3)], {}, **bounds) == "b"  # type: ignore[arg-type]
    assert for_one_more([place("a", 2, 0.2), place("b", 1, 0.24)], {}, **bounds) == "b"  # type: ignore[arg-type]
    assert for_one_more([place("a", 1, 1.0)], {}, busy=1.0, free_mb=256) == "a", "1.0 is any"
    assert for_one_more([place("a", 1), place("b", 1)], {"a": 1}, **bounds) == "b"  # type: ignore[arg-type]
    assert for_one_more([place("a", 4), place("b", 1, 0.9), place("c", 1, free_mb=200)], {}, **bounds) is None  # type: ignore[arg-type]


def test_one_less_is_where_there_are_the_most_that_arent_there_anyway() -> None:
    assert for_one_less([place("a", 2), place("b", 3), place("c", 3, least=3)]) == "b"
    assert for_one_less([place("a", 2), place("b", 2, 0.9)]) == "b"
    assert for_one_less([place("a", 1), place("b", 1)]) is None


def test_what_the_kernel_says_is_read_and_what_it_doesnt_is_none() -> None:
    assert cpu_times("cpu  10 1 5 100 20 2 3 4 0 0\ncpu0 1 2\n") == (25, 145)
    assert cpu_times("cpu  10 1 5\n") is cpu_times("") is cpu_times("cpu  a b c d e f g h\n") is None
    assert available_mb("MemTotal: 9 kB\nMemAvailable:   2097152 kB\n") == 2048.0
    assert available_mb("MemTotal: 9 kB\nMemAvailable: x\n") is available_mb("") is None
