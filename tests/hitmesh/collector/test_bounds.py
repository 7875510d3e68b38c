"""What a client's connection may hold."""

from __future__ import annotations

from hitmesh.collector.bounds import Bounds, Taking
from hitmesh.config import parse
from hitmesh.config.balancer import BalancerLimits
from hitmesh.http.limits import ADDED_BYTES, ADDED_FIELDS

NODE = {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 1, "balancer": 1}


def limits_of(**limits: float) -> BalancerLimits:
    config = parse({"name": "x", "nodes": {"local": NODE}, "balancer": {"limits": limits}}, source="test")
    return config.balancer.limits


def test_bounds_are_the_balancer_s_and_room_for_what_it_adds() -> None:
    bounds = Bounds(limits_of(line_bytes=1000, headers=10, header_bytes=2000, head_bytes=3000, head_s=5.0))
    head = bounds.head
    assert (head.line_bytes, head.headers, head.header_bytes) == (1000, 10 + ADDED_FIELDS, 2000)
    assert (head.head_bytes, bounds.head_s) == (3000 + ADDED_BYTES, 5.0)


def test_the_limits_of_a_head_are_the_same_object_until_they_change() -> None:
    bounds = Bounds(limits_of())
    head = bounds.head
    bounds.follow(limits_of(body_s=3.0))
    assert bounds.head is head
    assert bounds.body_s == 3.0
    bounds.follow(limits_of(headers=3))
    assert bounds.head.headers == 3 + ADDED_FIELDS


def test_bytes_lengthen_patience_by_what_they_may_take_and_never_beyond_it() -> None:
    bounds = Bounds(limits_of(least_rate=100))
    assert bounds.paced(10.0, 100, 5.0, 30.0) == 11.0
    assert bounds.paced(10.0, 0, 5.0, 30.0) == 10.0
    assert bounds.paced(10.0, 10**9, 5.0, 30.0) == 35.0


def test_with_a_least_rate_of_0_any_byte_will_do() -> None:
    bounds = Bounds(limits_of(least_rate=0))
    assert bounds.paced(10.0, 1, 5.0, 30.0) == 35.0
    assert bounds.paced(10.0, 0, 5.0, 30.0) == 10.0


def test_who_takes_enough_has_time_and_who_takes_less_has_none_when_patience_ends() -> None:
    bounds = Bounds(limits_of(least_rate=100, write_s=8.0))
    taking = Taking()
    assert taking.begin(1000, 0.0, bounds) == 2.0
    assert taking.look(800, 2.0, bounds) == 4.0, "2 s more for 200 bytes, up to 10 s from now"
    assert taking.look(800, 4.0, bounds) == 6.0
    assert taking.look(799, 9.9, bounds) == 10.01
    assert taking.look(799, 10.02, bounds) is None
