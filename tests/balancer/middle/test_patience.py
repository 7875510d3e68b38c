"""How long who is waited for, and what becomes of those who wait: the clock is played, so none of it takes time."""

from __future__ import annotations

from typing import Any

import pytest

from hitmesh.config import BalancerLimits, Proxy
from tests.balancer.middle.ends import Play, Visitor
from tests.balancer.middle.playbook import perform

# A byte gives a tenth of a second, and 4 s is all that anybody has at once.
LIMITS = BalancerLimits(small_body_bytes=10, body_s=4.0, write_s=4.0, least_rate=10, first_byte_s=4.0, connect_s=3.0)
LONG_S = 60


def play(*, backends: int = 1, limits: BalancerLimits = LIMITS, **route: Any) -> Play:
    settings: dict[str, Any] = {"hold": 0, **route}
    return Play(Proxy(service="played", **settings), backends=backends, limits=limits)


def begun(it: Play, size: int) -> Visitor:
    """A client whose upload of so many bytes is with a backend, but for all behind the first ten."""
    perform(
        it,
        f"""
        >> client POST /up {size}
        >> client body 0123456789
        << open one
        >> one connects
        << one POST /up 0123456789
        """,
    )
    return it.visitors[0]


def test_a_body_that_comes_slowly_is_taken_however_long_that_takes() -> None:
    it = play()
    client = begun(it, 10 + 10 * LONG_S)
    for _ in range(LONG_S):
        it.pass_time(1.0)
        client.says(b"0123456789")
    assert it.did() == ["one.0 send 0123456789"] * LONG_S
    perform(
        it,
        """
        >> one answers thanks
        << client 200 thanks
        """,
    )


def test_a_body_in_drops_is_cut_and_its_backend_let_go() -> None:
    it = play()
    client = begun(it, 1000)
    seconds = 0
    while not client.wire.was_shut:
        it.pass_time(1.0)
        seconds += 1
        if not client.wire.was_shut:
            client.says(b"x" * 2)
    did = it.did()
    assert did[-3:] == ["one.0 close", "client.0 send 408 too little of the request's body for 4 s", "client.0 shut"]
    assert 4 < seconds < 8, "the drops gave it a little more"
    assert it.service.backends[0].in_hand == 0


def test_a_body_for_a_backend_that_was_slow_once_may_come_slowly_afterwards() -> None:
    it = play()
    client = begun(it, 10 + 40 + 10 * LONG_S)
    it.connections[0].wire.room = 5
    client.says(b"x" * 40)
    it.pass_time(20.0)  # the backend takes nothing: that isn't the client's time
    it.connections[0].takes()
    for _ in range(LONG_S):
        it.pass_time(1.0)
        client.says(b"0123456789")
    it.did()
    perform(
        it,
        """
        >> one answers thanks
        << client 200 thanks
        """,
    )


def test_the_drops_of_an_upload_that_stands_still_are_kept_back_until_it_gets_on() -> None:
    it = play()
    client = begun(it, 300)
    it.pass_time(1.1)
    [backend] = it.service.backends
    assert (backend.outstanding, len(backend.resting)) == (0, 1)
    client.says(b"x")
    assert it.did() == []
    client.says(b"y" * 30)
    assert it.did() == ["one.0 send x" + "y" * 30]
    assert (backend.outstanding, len(backend.resting)) == (1, 0)


def test_a_client_that_takes_its_answer_slowly_gets_it_whole() -> None:
    it = play()
    perform(
        it,
        """
        >> client GET /a
        << open one
        >> client room 100
        >> one connects
        << one GET /a
        """,
    )
    size = 100 + 20 * LONG_S
    it.connections[0].says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
    client = it.visitors[0]
    for _ in range(LONG_S):
        it.pass_time(1.0)
        client.takes(20)
        assert not client.wire.closed
    client.takes()
    assert client.wire.out.endswith(b"x" * size)
    assert it.service.backends[0].in_hand == 0


def test_a_client_that_takes_slowly_of_what_the_kernel_has_for_it_gets_its_answer_whole() -> None:
    it = play()
    perform(
        it,
        """
        >> client GET /a
        << open one
        >> client room 100
        >> one connects
        << one GET /a
        """,
    )
    client = it.visitors[0]
    client.wire.unacknowledged = 20 * LONG_S  # in the kernel, which asks for nothing before most of it is taken
    it.connections[0].says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + b"x" * 99)
    for _ in range(LONG_S):
        it.pass_time(1.0)
        client.wire.unacknowledged -= 20
        assert not client.wire.closed
    client.takes()
    assert client.wire.out.endswith(b"x" * 99)


def test_a_client_that_takes_its_answer_in_drops_is_cut() -> None:
    it = play()
    perform(
        it,
        """
        >> client GET /a
        << open one
        >> client room 0
        >> one connects
        << one GET /a
        >> one says HTTP/1.1 200 OK|Content-Length: 99999||0123456789012345678901234567890123456789
        """,
    )
    seconds = 0
    while not it.visitors[0].wire.closed:
        it.pass_time(1.0)
        it.visitors[0].takes(2)
        seconds += 1
    assert it.visitors[0].wire.was_reset
    assert 4 < seconds < 8


@pytest.mark.parametrize("said", ["", "HTTP/1.1 ", "HTTP/1.1 200 OK|X-A: 1|", "HTTP/1.1 100 Continue||"])
def test_a_backend_that_never_answers_is_a_504_in_time_and_the_client_goes_on(said: str) -> None:
    it = play()
    perform(
        it,
        """
        >> client GET /a
        << open one
        >> one connects
        << one GET /a
        """,
    )
    if said:
        it.connections[0].says(said.replace("|", "\r\n").encode())
        it.did()
    perform(
        it,
        """
        >> 3.9
        >> 0.2
        << close one
        << client 504 no answer within 4 s
        >> client GET /b
        << open one.2
        """,
    )
    assert it.service.backends[0].stats.response_errors == 1


def test_a_backend_that_takes_no_connection_is_a_502_in_time() -> None:
    perform(
        play(),
        """
        >> client GET /a
        << open one
        >> 3.1
        << close one
        << client 502 can't connect to a backend
        """,
    )


def test_who_waits_too_long_for_a_busy_backend_gets_503_and_stays_connected() -> None:
    it = play(backend_connections=1, queue=4, queue_s=3.0)
    perform(
        it,
        """
        >> client GET /1
        << open one
        >> one connects
        << one GET /1
        >> client.2 GET /2
        >> 3.1
        << client.2 503 all backends are busy for 3 s
        >> client.2 GET /3
        >> one answers 1
        << client 200 1
        << one GET /3
        """,
    )


def test_who_waits_too_long_for_a_living_backend_gets_503_and_is_counted() -> None:
    it = play(backends=0, hold=1, hold_s=0.5)
    for _ in range(3):
        perform(
            it,
            """
            >> client GET /1
            >> 0.6
            << client 503 no backend is alive for 0.5 s
            """,
        )
    stats = it.service.stats
    assert (it.service.queued, stats.held_max, stats.held_total) == (0, 1, 3)
    assert stats.failures == {"503 waited too long": 3}


def test_most_that_waited_at_once_is_counted() -> None:
    it = play(backends=0, hold=5)
    for _ in range(3):
        visitor = it.visitor()
        visitor.says(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert it.service.queued == 1
        visitor.ends()
        assert it.service.queued == 0
    for _ in range(2):
        it.visitor().says(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (it.service.queued, it.service.stats.held_max, it.service.stats.held_total) == (2, 2, 5)


def test_a_backend_gets_no_more_connections_than_allowed_and_the_others_wait_in_their_order() -> None:
    it = play(backend_connections=2, queue=4)
    for number in range(6):
        it.visitor().says(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
    assert it.did() == ["one.0 open", "one.1 open"]
    it.visitor().says(b"GET /6 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert it.did() == ["client.6 send 503 all backends are busy, and 4 requests wait already"]
    for connection in it.connections:
        connection.connects()
    assert it.did() == ["one.0 send GET /0", "one.1 send GET /1"]
    for number in range(4):
        it.connections[number % 2].says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert it.did() == [f"client.{number} send 200", f"one.{number % 2} send GET /{number + 2}"]


def test_those_who_left_the_queue_are_not_kept() -> None:
    it = play(backend_connections=1, queue=2000)
    for _ in range(2):
        it.visitor().says(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for _ in range(1500):
        leaver = it.visitor()
        leaver.says(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        leaver.ends()
    assert it.service.queued == 1
    assert len(it.service.waiting) < 50


def test_the_next_request_is_not_begun_before_the_answer_to_this_one_is_taken() -> None:
    it = play()
    perform(
        it,
        """
        >> client GET /a
        << open one
        >> client room 10
        >> one connects
        << one GET /a
        >> one answers hello
        << client HTTP/1.1 2
        """,
    )
    client = it.visitors[0]
    assert not client.wire.reading, "it may ask what it likes: nobody listens"
    for _ in range(3):
        it.pass_time(1.1)
        assert not client.wire.closed
    it.pass_time(1.1)
    assert client.wire.was_reset, "write_s is over, though the answer was all there"


def test_a_body_of_chunks_that_becomes_too_large_is_a_413() -> None:
    perform(
        play(limits=BalancerLimits(small_body_bytes=10, body_bytes=30)),
        """
        >> client says POST /a HTTP/1.1|Host: a|Transfer-Encoding: chunked||14|01234567890123456789|
        << open one
        >> one connects
        << one POST /a 14|01234567890123456789|
        >> client says 14|01234567890123456789|
        << close one
        << client 413 the request's body: more than 30 bytes
        << shut client
        """,
    )


def test_what_was_gathered_of_a_refused_request_is_given_back() -> None:
    it = play(backends=0)
    perform(
        it,
        """
        >> client POST /a 5
        >> client body hel
        """,
    )
    assert it.traffic._gathered_bytes == 3
    perform(
        it,
        """
        >> client body lo
        << client 503 no backend is alive
        """,
    )
    assert it.traffic._gathered_bytes == 0
    assert it.visitors[0].alive


def test_what_is_counted_and_logged_of_an_answer_has_all_its_parts() -> None:
    it = play()
    perform(
        it,
        """
        >> client POST /a 2
        >> 1
        >> client body hi
        << open one
        >> 0.25
        >> one connects
        << one POST /a hi
        >> 0.5
        >> one says HTTP/1.1 200 OK|Content-Length: 5||hel
        << client 200 hel
        >> 0.125
        >> one says lo
        << client lo
        """,
    )
    stats = it.service.backends[0].stats
    assert (stats.answered, stats.classes[2], stats.sessions_total, stats.connects, stats.reuses) == (1, 1, 1, 1, 0)
    assert (stats.queue_s, stats.connect_s, stats.first_byte_s, stats.total_s) == (0.0, 0.25, 0.5, 1.875)
    assert (it.front.requests, it.front.classes[2], it.front.bytes_out) == (1, 1, len(it.visitors[0].wire.out))
    assert stats.bytes_in == len(it.connections[0].wire.out)
    assert stats.bytes_out == len(it.visitors[0].wire.out)
    [line] = it.lines
    assert b'"POST /a HTTP/1.1" 200 ' in line
    assert line.endswith(b'"route-0" one "-" 0/250/500/1875 play-000\n')
