"""What a collector remembers of its batches, and tells of a page, a request or a part."""

from __future__ import annotations

import pytest

from hitmesh.collector import trace as module
from hitmesh.collector.trace import Acked, Trace
from hitmesh.protocol.messages import Job, Part, encode, make
from hitmesh.protocol.stations import Known, Station

WORKER = "collector-1.0a0b0c0d0e0f"
WALL_S = 1_000_000.0  # at the question, which is asked at NOW_S
NOW_S = 100.0


def job(*parts: tuple[int, int, str], worker: str = WORKER) -> bytes:
    """A job of so many parts, each of one page: partition, number, page."""
    return encode(make(Job, worker, 1, tuple(Part(partition, seq, 1, {page: 1}) for partition, seq, page in parts)))


def put(
    trace: Trace, body: bytes, *, at_s: float = 1.0, ids: tuple[str, ...] = (), pages: tuple[str, ...] = ()
) -> module.Trip:
    trip = trace.formed(body, 1, at_s - 0.5, at_s, ids=ids, pages=pages)
    trace.put(trip, body, at_s + 0.25, is_left=False)
    return trip


def found(trace: Trace, *ids: str, last: int = 1) -> tuple[list[Known], list[Station], int]:
    return trace.find(ids, last, NOW_S, WALL_S)


def told(trace: Trace, *ids: str) -> list[tuple[float, str, tuple[tuple[int, int], ...]]]:
    """When, by the monotonic clock, what happened, and to which parts."""
    _, stations, _ = found(trace, *ids)
    return sorted((round(NOW_S + each.at_ms / 1000 - WALL_S, 3), each.what, each.parts) for each in stations)


def test_each_station_is_told_with_its_time_by_the_wall_clock() -> None:
    trace = Trace()
    trace.owners({7: ("tcp://127.0.0.1:1", 3), 8: ("tcp://127.0.0.1:1", 4)}, {"tcp://127.0.0.1:1": "processor-1.ab"})
    trip = put(trace, job((7, 1, "s/a"), (8, 1, "s/b")))
    trace.sent(trip, 1.25, "")
    trip.acks.append(Acked(2.0, 7, 3, 41, 1, ()))
    trace.sent(trip, 3.0, "no ack in time")
    trip.acks.append(Acked(4.0, 8, 4, 42, 0, ((1, 1),)))
    trace.deleted([trip.body], 5.0)
    both = ((7, 1), (8, 1))
    assert told(trace, "s/a") == [
        (0.5, "accepted", both),
        (1.0, "formed", both),
        (1.25, "in the spool, answered", both),
        (1.25, "sent", ((7, 1),)),
        (1.25, "sent", ((8, 1),)),
        (2.0, "acked", ((7, 1),)),
        (3.0, "sent", ((8, 1),)),  # not what was acked by then
        (4.0, "acked", ((8, 1),)),
        (5.0, "deleted from the spool", both),
    ]
    [known], stations, more = found(trace, "s/a")
    assert (known.name, known.matches, known.parts, more) == (f"{WORKER}:7:1", ((7, 1),), both, 0)
    sent = [each for each in stations if each.what == "sent"]
    assert {(each.peer, each.epoch, each.why) for each in sent} == {
        ("processor-1.ab", 3, ""),
        ("processor-1.ab", 4, ""),
        ("processor-1.ab", 4, "no ack in time"),
    }


@pytest.mark.parametrize("id", [f"{WORKER}:8:1", "s/b", "request-2"])
def test_a_batch_is_found_by_a_page_a_part_and_a_request(id: str) -> None:
    trace = Trace()
    put(trace, job((7, 1, "s/a"), (8, 1, "s/b")), ids=("request-1", "request-2"), pages=("s/a", "s/b"))
    put(trace, job((7, 2, "s/a"), (8, 2, "s/bb")), ids=("request-20",), pages=("s/a",))
    [known], _, _ = found(trace, id, last=9)
    assert (known.name, known.matches) == (f"{WORKER}:7:1", ((8, 1),))


def test_a_request_of_many_pages_is_every_part_of_its_batch() -> None:
    trace = Trace()
    put(trace, job((7, 1, "s/a"), (8, 1, "s/b")), ids=("r-1",), pages=(module.ALL,))
    assert found(trace, "r-1")[0][0].matches == ((7, 1), (8, 1))


def test_so_is_one_whose_page_cant_be_told() -> None:
    trace = Trace()
    put(trace, job((7, 1, "s/a\nb"), (8, 1, "s/b")), ids=("r-1",), pages=("s/a\nb",))
    assert found(trace, "r-1")[0][0].matches == ((7, 1), (8, 1))


@pytest.mark.parametrize(
    "id", ["s/", "request", f"{WORKER}:7:11", "other:7:1", f"{WORKER}:9999:1", "\n", "\udce9", "é"]
)
def test_what_is_only_like_it_isnt_found(id: str) -> None:
    trace = Trace()
    put(trace, job((7, 1, "s/a"), (8, 1, "s/b")), ids=("request-1", "request-2"), pages=("s/a", "s/b"))
    assert found(trace, id) == ([], [], 0)


def test_of_many_batches_the_newest_are_told_and_how_many_more_there_are() -> None:
    trace = Trace()
    for seq in range(1, 6):
        put(trace, job((7, seq, "s/a")), at_s=float(seq))
    known, _, more = found(trace, "s/a", last=2)
    assert ([each.name for each in known], more) == ([f"{WORKER}:7:5", f"{WORKER}:7:4"], 3)


def test_what_the_spool_didnt_take_and_what_is_left_to_it_is_told_with_why() -> None:
    trace = Trace()
    trace.refused(trace.formed(job((7, 1, "s/a")), 1, 1.0, 2.0, ids=(), pages=()), 3.0, "disk full", is_unknown=False)
    trace.refused(trace.formed(job((7, 2, "s/b")), 1, 1.0, 2.0, ids=(), pages=()), 3.0, "no answer", is_unknown=True)
    trace.put(trace.formed(job((7, 3, "s/c")), 1, 1.0, 2.0, ids=(), pages=()), 3, 3.0, is_left=True)
    trace.set_aside(job((7, 4, "s/d"), worker="dead"), 3.0, "too old")
    for page, what, why in (
        ("s/a", "not counted", "disk full"),
        ("s/b", "perhaps counted", "no answer"),
        ("s/c", "left to the spool", ""),
        ("s/d", "set aside", "too old"),
    ):
        [*_, last] = found(trace, page)[1]
        assert (last.what, last.why) == (what, why)


def test_a_job_of_another_worker_is_told_as_claimed() -> None:
    trace = Trace()
    trip = trace.claimed(job((7, 9, "s/a"), worker="dead"), 1, 5, 2.0)
    trace.sent(trip, 2.0, "claimed")
    [known], stations, _ = found(trace, "dead:7:9")
    assert known.worker == "dead"
    assert [(each.what, each.why) for each in stations] == [
        ("claimed from the spool", ""),
        ("sent", "claimed; to whom isn't remembered any more"),
    ]


def test_what_no_socket_took_and_what_nobody_owns_is_told() -> None:
    trace = Trace()
    trace.owners({7: ("tcp://127.0.0.1:1", 3)}, {"tcp://127.0.0.1:1": "processor-1.ab"})
    trip = put(trace, job((7, 1, "s/a"), (8, 1, "s/b")))
    trace.not_sent("tcp://127.0.0.1:1", 1.25)
    trace.sent(trip, 1.25, "")
    assert {(each.peer, each.why) for each in found(trace, "s/a")[1] if each.what == "sent"} == {
        ("processor-1.ab", "no socket took it: there is no connection, or it is full"),
        ("", "to nobody: the partition has no owner"),
    }


def test_the_memory_is_bounded_by_batches_bytes_sends_and_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TRIPS", 3)
    trace = Trace()
    for seq in range(1, 10):
        trip = put(trace, job((7, seq, "s/a")))
    for number in range(100):
        trace.sent(trip, float(number), "")
    assert len(found(trace, "s/a", last=99)[0]) == 3
    sends = [each for each in found(trace, "s/a")[1] if each.what == "sent"]
    assert len(sends) == module.MAX_SENDS
    assert max(each.at_ms for each in sends) == (WALL_S - NOW_S + 99) * 1000  # the last one is there
    ids = tuple(f"{number}" * 100 for number in range(10_000))
    put(trace, job((7, 10, "s/a")), ids=ids, pages=ids)
    assert len(trace._trips[-1].ids) <= module.MAX_IDS_CHARS
    monkeypatch.setattr(module, "MAX_BYTES", 2 * module.TRIP_BYTES)
    put(trace, job((7, 11, "s/a")))
    assert [each.name for each in found(trace, "s/a", last=99)[0]] == [f"{WORKER}:7:11"]
    assert len(trace._by_job) == 1
