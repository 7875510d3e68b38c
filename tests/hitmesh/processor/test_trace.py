"""What a processor remembers of parts, commits and other datacenters, and tells of a page or a part."""

from __future__ import annotations

import pytest

from hitmesh.processor import trace as module
from hitmesh.processor.steps import Offered
from hitmesh.processor.trace import Odd, Trace
from hitmesh.protocol.messages import Addressed, Applied, Batch, Part, Position, encode, make
from hitmesh.protocol.stations import Station

WORKER = "collector-1.0a0b0c0d0e0f"
NOW_S, WALL_S = 100.0, 1_000_000.0
EPOCH = 3


def message(*parts: tuple[int, int, str], worker: str = WORKER) -> bytes:
    addressed = tuple(Addressed(EPOCH, Part(partition, seq, 1, {page: 1})) for partition, seq, page in parts)
    return encode(make(Batch, worker, "tcp://127.0.0.1:1", addressed))


def told(trace: Trace, *ids: str) -> list[tuple[float, str, int, int]]:
    """When, by the monotonic clock, what, under which epoch, in which commit."""
    _, stations, _ = trace.find(ids, 9, NOW_S, WALL_S)
    return sorted((_at(each), each.what, each.epoch, each.commit) for each in stations)


def _at(station: Station) -> float:
    return round(NOW_S + station.at_ms / 1000 - WALL_S, 3)


def test_the_commit_of_a_part_is_the_first_that_covers_it() -> None:
    trace = Trace()
    trace.received(1.0, message((7, 5, "s/a"), (8, 1, "s/b")), ())
    trace.applied(1.5, WORKER, [Applied(7, EPOCH, 40, 4, (), {})])
    trace.applied(2.0, "another", [Applied(7, EPOCH, 41, 9, (), {})])
    trace.applied(2.5, WORKER, [Applied(7, EPOCH, 42, 3, ((5, 6),), {}), Applied(8, EPOCH, 2, 0, (), {})])
    trace.applied(3.0, WORKER, [Applied(7, EPOCH, 43, 6, (), {})])
    assert told(trace, "s/a") == told(trace, f"{WORKER}:7:5") == [(1.0, "staged", 0, 0), (2.5, "committed", EPOCH, 42)]
    assert told(trace, "s/b") == [(1.0, "staged", 0, 0)]


def test_another_datacenter_has_it_once_it_has_that_commit_or_a_later_one() -> None:
    trace = Trace()
    trace.received(1.0, message((7, 5, "s/a")), ())
    trace.have(1.0, "us-west", "processor-1.ab", 7, Position("l", EPOCH, 41))
    trace.applied(2.0, WORKER, [Applied(7, EPOCH, 42, 5, (), {})])
    trace.have(3.0, "us-west", "processor-1.ab", 8, Position("l", EPOCH, 50))
    trace.have(3.0, "us-west", "processor-1.ab", 7, Position("l", EPOCH, 41))
    trace.have(4.0, "us-west", "processor-1.ab", 7, Position("l", EPOCH, 44))
    trace.have(5.0, "us-west", "processor-1.ab", 7, Position("l", EPOCH, 45))
    trace.have(6.0, "ap-south", "processor-2.cd", 7, Position("l", EPOCH + 1, 42))
    assert [each for each in told(trace, "s/a") if each[1] == "committed there"] == [
        (4.0, "committed there", EPOCH, 44),
        (6.0, "committed there", EPOCH + 1, 42),
    ]
    _, stations, _ = trace.find(["s/a"], 9, NOW_S, WALL_S)
    assert [(each.dc, each.peer) for each in stations if each.dc] == [
        ("us-west", "processor-1.ab"),
        ("ap-south", "processor-2.cd"),
    ]
    assert len(trace._haves) == 5  # what has been heard before is no news


@pytest.mark.parametrize(
    ("offered", "what"),
    [
        (Offered.DUPLICATE, "had it already"),
        (Offered.MISDIRECTED, "doesn't take it: another epoch"),
        (Offered.DROPPED, "doesn't take it: no room"),
        (Offered.REFUSED, "refused"),
    ],
)
def test_what_became_of_a_part_is_told_with_why(offered: Offered, what: str) -> None:
    trace = Trace()
    odd: Odd = (7, 5, offered, 4, "a reason")
    trace.received(1.0, message((7, 5, "s/a"), (8, 1, "s/b")), [odd])
    [station] = trace.find(["s/a"], 1, NOW_S, WALL_S)[1]
    assert (station.what, station.epoch, station.why) == (what, 4, "a reason")
    assert told(trace, "s/b") == [(1.0, "staged", 0, 0)]


def test_a_part_that_comes_again_is_told_again() -> None:
    trace = Trace()
    for at_s in (1.0, 2.0):
        trace.received(at_s, message((7, 5, "s/a")), ())
    assert told(trace, f"{WORKER}:7:5") == [(1.0, "staged", 0, 0), (2.0, "staged", 0, 0)]


def test_what_happened_to_its_partition_is_told_besides() -> None:
    trace = Trace()
    trace.received(2.0, message((7, 5, "s/a")), ())
    trace.partition(1.0, 7, "took the partition over", 4)
    trace.partition(1.0, 8, "took the partition over", 9)
    assert told(trace, "s/a") == [(1.0, "took the partition over", 4, 0), (2.0, "staged", 0, 0)]


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MESSAGES", 3)
    trace = Trace()
    for seq in range(1, 10):
        trace.received(float(seq), message((7, seq, "s/a")), ())
    assert [each[0] for each in told(trace, "s/a")] == [7.0, 8.0, 9.0]
    monkeypatch.setattr(module, "MAX_BYTES", 2 * module.MESSAGE_BYTES)
    trace.received(10.0, message((7, 10, "s/a")), ())
    assert [each[0] for each in told(trace, "s/a")] == [10.0]


def test_of_many_parts_the_newest_are_told_and_how_many_more_there_are() -> None:
    trace = Trace()
    for seq in range(1, 6):
        trace.received(float(seq), message((7, seq, "s/a")), ())
    known, _, more = trace.find(["s/a"], 2, NOW_S, WALL_S)
    assert ([each.matches for each in known], more) == ([((7, 5),), ((7, 4),)], 3)
