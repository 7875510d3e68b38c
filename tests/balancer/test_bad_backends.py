"""Backends that refuse, are silent, lie and break off: each with its status, no hang, no leak.

One balancer for all of them; where its time-outs end it they are short meanwhile. After each the same
balancer must serve a good request, on the same client connection where that is still open.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.balancer.live import LiveLimits
from tests.balancer.wire.answers import read_answers
from tests.balancer.wire.proxies import ConfiguredBalancer
from tests.balancer.wire.scripted import (
    Script,
    ScriptedBackend,
    Turn,
    says,
    says_and_closes,
)
from tests.balancer.wire.trouble import ANSWERED_502, CUT, OK, SURPLUS, troubled
from tests.balancer.wire.visitor import LONG_S, Visitor
from tests.services import wait_for

SHORT_S = 0.4
LARGE = b"x" * 17_000  # of 20,000: too large to be read whole before a backend is asked
Play = Callable[[str, Script], None]
balancer_sockets_at_start: dict[int, int] = {}  # by port


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    scripted = ScriptedBackend()
    yield scripted
    scripted.stop()


@pytest.fixture(scope="module")
def balancer(backend: ScriptedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredBalancer]:
    with troubled(tmp_path_factory.mktemp("balancer"), backend.port) as server:
        balancer_sockets_at_start[server.port] = server.open_sockets()
        yield server


@pytest.fixture
def play(backend: ScriptedBackend) -> Iterator[Play]:
    yield backend.scripts.__setitem__
    backend.scripts.clear()


@pytest.fixture
def live(balancer: ConfiguredBalancer) -> LiveLimits:
    return LiveLimits(balancer.folder / "var" / "wire" / "settings.db", balancer.port)


def _is_well(balancer: ConfiguredBalancer, visitor: Visitor) -> None:
    """A good request gets its own answer: on the same connection if it is open, and on a new one."""
    if not visitor.ended:
        assert visitor.get("/fine").body == b"/fine"
    with Visitor(balancer.port) as another:
        assert another.get("/also-fine").body == b"/also-fine"


@pytest.mark.parametrize("name", ANSWERED_502)
def test_a_backend_that_answers_nonsense_is_a_502(name: str, balancer: ConfiguredBalancer, play: Play) -> None:
    play("/bad", ANSWERED_502[name])
    with Visitor(balancer.port) as visitor:
        answer = visitor.get("/bad")
        assert (answer.status, answer.whole) == (502, True)
        assert b"description" in answer.body
        _is_well(balancer, visitor)


def test_a_backend_that_refuses_connections_is_a_502(balancer: ConfiguredBalancer) -> None:
    with Visitor(balancer.port) as visitor:
        assert visitor.get("/", host="refusing.example").status == 502
        _is_well(balancer, visitor)


@pytest.mark.parametrize("name", CUT)
def test_an_answer_that_breaks_off_is_seen_to_be_cut_by_the_client(
    name: str, balancer: ConfiguredBalancer, play: Play, live: LiveLimits
) -> None:
    play("/cut", CUT[name])
    with Visitor(balancer.port) as visitor:
        with live.of(between_bytes_s=SHORT_S) if name.startswith("stops") else contextlib.nullcontext():
            answer = visitor.get("/cut")
        assert (answer.status, answer.body, answer.whole) == (200, b"abc", False)
        assert visitor.ended
        _is_well(balancer, visitor)


def test_a_bad_chunk_after_a_good_one_cuts_the_answer(balancer: ConfiguredBalancer, play: Play) -> None:
    def script(turn: Turn) -> None:
        turn.say(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        wait_for(lambda: len(seen) > 0, what="the first chunk to reach the client")
        turn.say(b"-3\r\nabc\r\n0\r\n\r\n")

    seen: list[bytes] = []
    play("/chunks", script)
    with socket.create_connection(("127.0.0.1", balancer.port), timeout=LONG_S) as connection:
        connection.sendall(b"GET /chunks HTTP/1.1\r\nHost: a.example\r\n\r\n")
        received = b""
        while b"abc" not in received:
            received += connection.recv(65_536)
        seen.append(received)
        try:
            while data := connection.recv(65_536):
                received += data
        except ConnectionResetError:
            pass
        answer = read_answers(received)[0]
        assert (answer.body, answer.whole) == (b"abc", False)


@pytest.mark.parametrize("name", SURPLUS)
def test_what_a_backend_says_beyond_its_answer_reaches_nobody(
    name: str, balancer: ConfiguredBalancer, play: Play
) -> None:
    said, body = SURPLUS[name]
    play("/surplus", says(said))
    with Visitor(balancer.port) as visitor:
        for _ in range(3):
            assert visitor.get("/surplus").body == body
            _is_well(balancer, visitor)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_an_answer_that_has_no_body_gets_none(method: str, balancer: ConfiguredBalancer, play: Play) -> None:
    line = OK if method == "HEAD" else b"HTTP/1.1 304 Not Modified\r\n"
    play("/bodiless", says(line + b"Content-Length: 3\r\n\r\nabc"))
    with Visitor(balancer.port) as visitor:
        for _ in range(3):
            answer = visitor.get("/bodiless", method=method)
            assert (answer.status, answer.value(b"content-length")) == (200 if method == "HEAD" else 304, b"3")
            _is_well(balancer, visitor)


@pytest.mark.parametrize("coding", ["sized", "chunked"])
def test_an_early_answer_reaches_a_client_that_is_still_sending(
    coding: str, balancer: ConfiguredBalancer, play: Play
) -> None:
    play("/early", says_and_closes(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"))
    piece = b"x" * 65_536
    with Visitor(balancer.port) as visitor:
        head = b"Transfer-Encoding: chunked\r\n" if coding == "chunked" else b"Content-Length: 100000000\r\n"
        visitor.send(b"POST /early HTTP/1.1\r\nHost: a.example\r\n" + head + b"\r\n")
        try:
            for _ in range(20):
                visitor.send(b"%x\r\n%b\r\n" % (len(piece), piece) if coding == "chunked" else piece)
        except ConnectionError:
            pass  # it has closed meanwhile, as it may
        answer = visitor.answer()
        assert answer.status in (403, 502), "what it said, or that it closed before it had taken all"
        assert visitor.has_ended(), "the rest of the body isn't taken for a request"
        _is_well(balancer, visitor)


def test_an_early_answer_of_a_backend_that_reads_on_is_passed_on_at_once(
    balancer: ConfiguredBalancer, play: Play
) -> None:
    def script(turn: Turn) -> None:
        turn.say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        turn.wait_for_close()

    play("/early", script)
    with Visitor(balancer.port) as visitor:
        visitor.send(b"POST /early HTTP/1.1\r\nHost: a.example\r\nContent-Length: 20000\r\n\r\n" + LARGE)
        assert visitor.answer().status == 403
        assert visitor.has_ended()
        _is_well(balancer, visitor)


def test_what_an_idle_backend_says_is_no_answer_to_the_next_request(
    balancer: ConfiguredBalancer, backend: ScriptedBackend, play: Play
) -> None:
    said: list[str] = []

    def script(turn: Turn) -> None:
        turn.say(OK + b"Content-Length: 2\r\n\r\nhi")
        wait_for(lambda: len(said) > 0, what="the client to have its answer")
        turn.say(OK + b"Content-Length: 4\r\n\r\nevil")
        turn.wait_for_close()
        said.append("closed")

    play("/chatty", script)
    with Visitor(balancer.port) as visitor:
        assert visitor.get("/chatty").body == b"hi"
        said.append("answered")
        wait_for(lambda: "closed" in said, what="the balancer to close the connection")
        _is_well(balancer, visitor)


def test_a_connection_that_the_backend_has_closed_is_not_used_again(balancer: ConfiguredBalancer, play: Play) -> None:
    closed: list[str] = []

    def script(turn: Turn) -> None:
        turn.say(OK + b"Content-Length: 2\r\n\r\nhi")
        turn.end()
        turn.wait_for_close()
        closed.append("by both sides")

    play("/last", script)
    with Visitor(balancer.port) as visitor:
        for _ in range(10):
            assert visitor.get("/last").body == b"hi"
            wait_for(lambda: len(closed) > 0, what="the balancer to close its side")
            closed.clear()
        _is_well(balancer, visitor)


def test_a_request_of_which_a_byte_was_sent_is_never_sent_again(
    balancer: ConfiguredBalancer, backend: ScriptedBackend, play: Play
) -> None:
    play("/once", Turn.close)
    backend.heads.clear()
    with Visitor(balancer.port) as visitor:
        assert visitor.get("/once").status == 502
    assert len(backend.heads) == 1


def test_a_route_may_let_an_idempotent_request_be_sent_again_but_no_other(
    balancer: ConfiguredBalancer, backend: ScriptedBackend, play: Play
) -> None:
    play("/again", lambda turn: turn.close() if len(backend.heads) < 2 else turn.say(OK + b"Content-Length: 0\r\n\r\n"))
    backend.heads.clear()
    with Visitor(balancer.port) as visitor:
        assert visitor.get("/again", host="again.example").status == 200
        backend.heads.clear()
        assert visitor.get("/again", host="again.example", method="POST").status == 502
    assert len(backend.heads) == 1


def test_a_body_that_ends_with_its_connection_ends_the_clients_too(balancer: ConfiguredBalancer, play: Play) -> None:
    play("/old", says_and_closes(b"HTTP/1.0 200 OK\r\n\r\nall of it"))
    with Visitor(balancer.port) as visitor:
        assert visitor.get("/old").body == b"all of it"
        assert visitor.ended


def test_an_answer_that_comes_byte_by_byte_is_the_same_answer(balancer: ConfiguredBalancer, play: Play) -> None:
    whole = (
        b"HTTP/1.1 103 Early Hints\r\nX-A: 1\r\n\r\n"
        + OK
        + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"
    )

    def script(turn: Turn) -> None:
        for at in range(len(whole)):
            turn.say(whole[at : at + 1])

    play("/drops", script)
    with Visitor(balancer.port) as visitor:
        answer = visitor.get("/drops")
        assert (answer.status, answer.body) == (200, b"abc")
        _is_well(balancer, visitor)


def test_a_client_that_goes_away_takes_its_request_from_the_backend(balancer: ConfiguredBalancer, play: Play) -> None:
    seen: list[str] = []

    def script(turn: Turn) -> None:
        seen.append("asked")
        turn.wait_for_close()
        seen.append("closed")

    play("/left", script)
    connection = socket.create_connection(("127.0.0.1", balancer.port), timeout=LONG_S)
    connection.sendall(b"POST /left HTTP/1.1\r\nHost: a.example\r\nContent-Length: 20000\r\n\r\n" + LARGE)
    wait_for(lambda: "asked" in seen, what="the request to arrive")
    connection.close()
    wait_for(lambda: "closed" in seen, what="the balancer to close the backend's connection")


def test_none_of_this_leaves_a_connection_open(balancer: ConfiguredBalancer, backend: ScriptedBackend) -> None:
    """The last test of the module: idle connections to the backend may be kept, a few."""
    assert balancer.open_sockets() > 0
    wait_for(lambda: backend.open_connections <= 4, what="the connections to the backend to be few")
    most = balancer_sockets_at_start[balancer.port] + 4
    wait_for(
        lambda: balancer.open_sockets() <= most, what=f"at most {most} open sockets; {balancer.open_sockets()} are"
    )
