"""What is done about a request when this and that happens to it, as plays: no socket, no clock, no process."""

from __future__ import annotations

from typing import Any

import pytest

from hitmesh.config import BalancerLimits, Proxy
from tests.balancer.middle.ends import Play
from tests.balancer.middle.playbook import perform

LIMITS = BalancerLimits(small_body_bytes=10, body_bytes=1000)


def play(*, backends: int = 1, limits: BalancerLimits = LIMITS, **route: Any) -> Play:
    settings: dict[str, Any] = {"hold": 0, **route}
    return Play(Proxy(service="played", **settings), backends=backends, limits=limits)


def test_a_request_goes_to_a_backend_and_its_answer_back_and_the_connection_serves_the_next_one() -> None:
    perform(
        play(),
        """
        >> client GET /a
        << open one
        >> one connects
        << one GET /a
        >> one answers hello
        << client 200 hello
        >> client GET /b
        << one GET /b
        >> one says HTTP/1.1 200 OK|Content-Length: 5||hel
        << client 200 hel
        >> one says lo
        << client lo
        >> 31
        << shut client
        << close client
        << close one
        """,
    )


def test_a_small_body_is_gathered_before_a_backend_is_asked_for() -> None:
    perform(
        play(),
        """
        >> client POST /a 5
        >> client body hel
        >> client body lo
        << open one
        >> one connects
        << one POST /a hello
        """,
    )


def test_of_a_large_body_the_rest_streams_as_fast_as_the_backend_takes_it() -> None:
    it = play()
    perform(
        it,
        """
        >> client POST /a 30
        >> client body 0123456789
        << open one
        >> one connects
        << one POST /a 0123456789
        >> one room 4
        >> client body 0123456789
        << one 0123
        """,
    )
    assert not it.visitors[0].wire.reading, "what comes waits in the kernel"
    perform(
        it,
        """
        >> one takes
        << one 456789
        >> client body 0123456789
        << one 0123456789
        >> one answers done
        << client 200 done
        """,
    )


def test_a_body_that_stands_still_gives_its_place_to_another_and_gets_one_back_when_it_goes_on() -> None:
    perform(
        play(backend_connections=1),
        """
        >> client POST /slow 30
        >> client body 0123456789
        << open one
        >> one connects
        << one POST /slow 0123456789
        >> client.2 GET /a
        >> 1.1
        << open one.2
        >> one.2 connects
        << one.2 GET /a
        >> one.2 answers a
        << client.2 200 a
        >> client body 01234567890123456789
        << one 01234567890123456789
        >> one answers late
        << client 200 late
        """,
    )


def test_of_several_that_stand_still_the_one_that_does_for_longest_is_sent_away() -> None:
    it = play(backend_connections=1)
    for number in ("", ".2"):
        perform(
            it,
            f"""
            >> client{number} POST /slow 30
            >> client{number} body 0123456789
            << open one{number}
            >> one{number} connects
            << one{number} POST /slow 0123456789
            """,
        )
        it.pass_time(1.1)
        did = it.did()
        first, first_one = it.visitors[0].name, it.connections[0].name
        if number == ".2":
            why = "408 the client is slow, and too many are"
            assert did == [f"{first_one} close", f"{first} send {why}", f"{first} shut"]
            break
        assert did == []
    assert it.service.stats.failures == {"408 slow client": 1}
    assert [each.in_hand for each in it.service.backends] == [1]


@pytest.mark.parametrize("retry", ["never", "idempotent"])
def test_a_connection_that_cant_be_made_costs_another_try_and_no_request(retry: str) -> None:
    perform(
        play(backends=2, retry=retry),
        """
        >> client POST /a 2
        >> client body hi
        << open one
        >> one refuses
        << close one
        << open two
        >> two connects
        << two POST /a hi
        >> two answers yes
        << client 200 yes
        """,
    )


def test_a_deaf_backend_is_given_up_after_connect_s() -> None:
    perform(
        play(backends=2),
        """
        >> client GET /a
        << open one
        >> 3.1
        << close one
        << open two
        """,
    )


def test_a_stale_idle_connection_took_no_byte_so_the_request_goes_on_with_its_body() -> None:
    it = play()
    perform(
        it,
        """
        >> client GET /a
        << open one
        >> one connects
        << one GET /a
        >> one answers 1
        << client 200 1
        >> one gone
        >> client POST /b 2
        >> client body hi
        << close one
        << open one.2
        >> one.2 connects
        << one.2 POST /b hi
        """,
    )
    assert it.service.backends[0].stats.retries == 0


@pytest.mark.parametrize(
    ("what", "reason", "word"),
    [
        ("ends", "no whole answer: closed its connection", "no whole answer"),
        ("breaks", "no whole answer: Connection reset by peer", "no whole answer"),
        ("says garbage", "a bad answer", "bad answer"),
        ("says HTTP/1.1 200 OK|Content-Length: x||", "a bad answer", "bad answer"),
    ],
)
def test_a_request_of_which_a_byte_was_taken_goes_to_no_other(what: str, reason: str, word: str) -> None:
    it = play(backends=2)
    perform(
        it,
        f"""
        >> client GET /a
        << open one
        >> one connects
        << one GET /a
        >> one {what}
        << close one
        << client 502 {reason}
        """,
    )
    assert [each.outstanding for each in it.service.backends] == [0, 0]
    assert it.service.stats.failures == {f"502 {word}": 1}


def test_one_byte_is_enough_for_that() -> None:
    it = play(backends=2)
    perform(
        it,
        """
        >> client GET /a
        << open one
        """,
    )
    it.connections[0].wire.room = 1
    perform(
        it,
        """
        >> one connects
        << one G
        >> one breaks
        << close one
        << client 502 no whole answer: Connection reset by peer
        """,
    )


def test_with_retry_an_idempotent_one_without_a_body_is_tried_elsewhere_a_few_times() -> None:
    it = play(backends=3, retry="idempotent", hold=10, limits=BalancerLimits(tries=2))
    perform(
        it,
        """
        >> client DELETE /a
        << open one
        >> one connects
        << one DELETE /a
        >> one ends
        << close one
        << open two
        >> two connects
        << two DELETE /a
        >> two breaks
        << close two
        << client 502 no whole answer: Connection reset by peer
        """,
    )


@pytest.mark.parametrize("asked", ["POST /a 2", "PUT /a 2", "GET /a 2"])
def test_with_retry_any_other_request_goes_nowhere_else(asked: str) -> None:
    perform(
        play(backends=2, retry="idempotent"),
        f"""
        >> client {asked}
        >> client body hi
        << open one
        >> one connects
        << one {asked[:-2]} hi
        >> one ends
        << close one
        << client 502 no whole answer: closed its connection
        """,
    )


def test_a_silent_backend_is_a_504_and_a_cut_answer_a_reset() -> None:
    perform(
        play(),
        """
        >> client GET /a
        << open one
        >> one connects
        << one GET /a
        >> 31
        << close one
        << client 504 no answer within 30 s
        >> client GET /b
        << open one.2
        >> one.2 connects
        << one.2 GET /b
        >> one.2 says HTTP/1.1 200 OK|Content-Length: 5||hel
        << client 200 hel
        >> 31
        << close one.2
        << reset client
        """,
    )


def test_who_waits_goes_on_in_order_and_who_leaves_frees_the_place() -> None:
    it = play(backend_connections=1, queue=2)
    perform(
        it,
        """
        >> client GET /1
        << open one
        >> client.2 GET /2
        >> client.3 GET /3
        >> client.4 GET /4
        << client.4 503 all backends are busy, and 2 requests wait already
        >> client.2 ends
        << close client.2
        >> client.5 GET /5
        >> one connects
        << one GET /1
        >> one answers 1
        << client 200 1
        << one GET /3
        >> one answers 3
        << client.3 200 3
        << one GET /5
        >> 10.1
        """,
    )
    assert (it.service.queued, it.service.stats.queue_total) == (0, 3)


def test_who_waits_for_too_long_gets_503_and_when_to_come_again() -> None:
    it = play(backends=0, hold=5, hold_s=7.0)
    perform(
        it,
        """
        >> client GET /1
        >> 6.9
        >> 0.2
        << client 503 no backend is alive for 7 s
        """,
    )
    assert b"Retry-After: 5\r\n" in it.visitors[0].wire.out


def test_when_the_route_changes_those_who_wait_go_by_the_new_one_and_those_under_way_are_finished() -> None:
    it = play(backend_connections=1)
    perform(
        it,
        """
        >> client GET /1
        << open one
        >> one connects
        << one GET /1
        >> client.2 GET /2
        """,
    )
    it.change_route(Proxy(service="played", sticky="page"))  # its backend is another, of the same name
    assert it.did() == ["one.1 open"]
    it.connections[1].connects()
    assert it.did() == ["one.1 send GET /2"]
    it.connections[0].says(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
    assert it.did() == ["client.0 send 200 1", "one.0 close"]
    assert it.forgotten == [it.connections[0].backend]


def test_a_client_that_takes_nothing_stops_its_backend_and_is_sent_away_after_write_s() -> None:
    it = play()
    perform(
        it,
        """
        >> client GET /a
        << open one
        >> client room 0
        >> one connects
        << one GET /a
        >> one says HTTP/1.1 200 OK|Content-Length: 9||hello
        """,
    )
    assert not it.connections[0].wire.reading
    for _ in range(4):
        it.pass_time(7.6)
    assert it.did() == ["one.0 close", "client.0 reset"]


def test_a_client_that_takes_again_gets_the_rest() -> None:
    perform(
        play(),
        """
        >> client GET /a
        << open one
        >> client room 0
        >> one connects
        << one GET /a
        >> one says HTTP/1.1 200 OK|Content-Length: 9||hello
        >> 7.6
        >> client takes
        << client 200 hello
        >> one says more
        << client more
        >> client GET /b
        << one GET /b
        """,
    )


@pytest.mark.parametrize(
    "answer",
    [
        "HTTP/1.1 200 OK|Connection: close|Content-Length: 1||x",
        "HTTP/1.0 200 OK|Content-Length: 1||x",
        "HTTP/1.1 200 OK|Content-Length: 1||xHTTP/1.1 200 OK|Content-Length: 4||evil",
    ],
)
def test_a_backends_connection_that_will_close_or_has_said_too_much_serves_no_other_request(answer: str) -> None:
    perform(
        play(),
        f"""
        >> client GET /a
        << open one
        >> one connects
        << one GET /a
        >> one says {answer}
        << client 200 x
        << close one
        >> client GET /b
        << open one.2
        """,
    )


def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    perform(
        play(),
        """
        >> client says GET /1 HTTP/1.1|Host: a||GET /2 HTTP/1.1|Host: a||
        << open one
        >> one connects
        << one GET /1
        >> one answers 1
        << client 200 1
        << one GET /2
        >> one answers 2
        << client 200 2
        """,
    )


def test_an_upgrade_becomes_a_tunnel_whose_ends_are_passed_on() -> None:
    it = play()
    perform(
        it,
        """
        >> client says GET /ws HTTP/1.1|Host: a|Connection: upgrade|Upgrade: websocket||early
        << open one
        >> one connects
        << one GET /ws
        >> one says HTTP/1.1 101 Switching Protocols|Connection: upgrade|Upgrade: websocket||first
        << client 101
        << one early
        << client first
        >> client says more
        << one more
        >> client ends
        << shut one
        >> one says last
        << client last
        >> one ends
        << close one
        << close client
        """,
    )
    assert it.service.backends[0].outstanding == 0
    assert it.front.classes[1] == 1


def test_a_tunnel_in_which_nothing_passes_is_closed() -> None:
    perform(
        play(limits=BalancerLimits(tunnel_s=40.0)),
        """
        >> client says GET /ws HTTP/1.1|Host: a|Connection: upgrade|Upgrade: websocket||
        << open one
        >> one connects
        << one GET /ws
        >> one says HTTP/1.1 101 Switching Protocols|Connection: upgrade|Upgrade: websocket||
        << client 101
        >> 39
        >> one says still
        << client still
        >> 39
        >> 2
        << close one
        << close client
        """,
    )


def test_without_a_file_for_a_connection_a_request_is_refused_and_the_count_is_right() -> None:
    it = play()
    it.has_files = False
    perform(
        it,
        """
        >> client GET /a
        << client 503 no connection can be opened: Too many open files
        """,
    )
    assert it.service.backends[0].outstanding == 0


def test_a_bug_in_one_that_waited_ends_its_client_and_nobody_elses() -> None:
    it = play(backend_connections=1)

    def add(line: bytes) -> None:
        if b" /bug " in line:
            raise RuntimeError("on purpose")

    it.reporter._add = add
    perform(
        it,
        """
        >> client GET /1
        << open one
        >> client.2 GET /bug
        >> client.3 GET /3
        >> one connects
        << one GET /1
        """,
    )
    it.has_files = False
    perform(
        it,
        """
        >> one says HTTP/1.1 200 OK|Connection: close|Content-Length: 1||1
        << client 200 1
        << close one
        << close client.2
        << client.3 503 no connection can be opened: Too many open files
        """,
    )
    assert it.visitors[1].client not in it.traffic.clients
    assert it.visitors[2].client in it.traffic.clients
    assert it.service.backends[0].in_hand == 0
