"""Requests in the words of WSGI, and an app's answers: in the hub, in greenlets, and held."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import gevent
import pytest

from hitmesh.http.wsgi import Environ
from tests.hitmesh.collector.staged import PEER, Held, Stage, says

GET = b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def environ_for(stage: Stage, request: bytes) -> Environ:
    """What the app is given."""
    seen: list[Environ] = []

    def answer(environ: Environ, start_response: Any) -> Iterable[bytes]:
        seen.append(dict(environ))
        return says(b"seen")(environ, start_response)

    stage.app.answers = dict.fromkeys(("/a b", "/a", "*"), answer)
    stage.send(request)
    stage.until_got(b"seen")
    return seen[0]


def test_an_app_is_given_what_wsgi_wants(stage: Stage) -> None:
    environ = environ_for(
        stage,
        b"POST /a%20b?c=%20&d HTTP/1.1\r\nHost: h:80\r\nX-Two: 1\r\nX-Two: 2\r\nX_Two: 3\r\nScript_Name: /x\r\n"
        b"Content-Type: text/plain\r\nContent-Length: 0\r\n\r\n",
    )
    del environ["wsgi.input"]
    assert environ == {
        "SCRIPT_NAME": "", "REQUEST_METHOD": "POST", "PATH_INFO": "/a b", "QUERY_STRING": "c=%20&d",
        "RAW_URI": "/a%20b?c=%20&d", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "h:80", "HTTP_X_TWO": "1,2",
        "CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "0", "REMOTE_ADDR": PEER[0], "REMOTE_PORT": str(PEER[1]),
    }  # fmt: skip


def test_what_one_request_says_is_not_the_next_one_s(stage: Stage) -> None:
    first = environ_for(stage, b"GET /a?b HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n\r\n")
    second = environ_for(stage, b"GET /a HTTP/1.0\r\nHost: h\r\n\r\n")
    assert (first["HTTP_X_A"], first["QUERY_STRING"]) == ("1", "b")
    assert ("HTTP_X_A" in second, second["QUERY_STRING"], second["SERVER_PROTOCOL"]) == (False, "", "HTTP/1.0")


def test_each_request_has_its_own_id_wherever_that_stands(stage: Stage) -> None:
    lines = [
        b"X-Request-Id: %b\r\nA: b\r\n",
        *3 * [b"A: b\r\nX-Request-Id: %b\r\n"],
        b"A: %b\r\n",
        b"X-Request-Id:%b\r\n",
    ]
    wanted = ["r-0", "r-1", "r-2", "r-3", "", "r-5"]
    found = []
    for number, line in enumerate(lines):
        environ = environ_for(stage, b"GET /a HTTP/1.1\r\nHost: h\r\n" + line % (b"r-%d" % number) + b"\r\n")
        found.append(environ.get("HTTP_X_REQUEST_ID", ""))
    assert found == wanted
    assert stage.app.ids == wanted  # as the shortcut sees it


def test_an_app_that_waits_for_nothing_is_asked_in_the_hub_and_others_in_greenlets(stage: Stage) -> None:
    found: dict[str, bool] = {}

    def answer(environ: Environ, start_response: Any) -> Iterable[bytes]:
        found[environ["PATH_INFO"]] = gevent.getcurrent() is gevent.get_hub()
        return says(b"done")(environ, start_response)

    stage.app.answers = {"/straight": answer, "/waits": answer}
    stage.app.straight = {"/straight"}
    for path in (b"/straight", b"/waits"):
        stage.send(GET % path)
        stage.until_got(b"done")
    assert found == {"/straight": True, "/waits": False}


@pytest.mark.parametrize(("body", "in_the_hub"), [(b"abc", True), (b"ab", False)], ids=["whole", "in part"])
def test_with_a_body_it_is_asked_in_the_hub_only_if_all_of_that_is_here(
    stage: Stage, body: bytes, in_the_hub: bool
) -> None:
    found: list[object] = []

    def answer(environ: Environ, start_response: Any) -> Iterable[bytes]:
        found.append(gevent.getcurrent() is gevent.get_hub())
        found.append(environ["wsgi.input"].read())
        return says(b"done")(environ, start_response)

    stage.app.answers["/a"] = answer
    stage.app.straight = {"/a"}
    stage.send(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n" + body)
    stage.until(lambda: stage.app.asked)
    stage.send(b"abc"[len(body) :])
    stage.until_got(b"done")
    assert found == [in_the_hub, b"abc"]


def test_an_app_that_waits_where_it_said_that_it_wouldn_t_is_at_fault_and_the_hub_goes_on(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(environ: Environ, start_response: Any) -> Iterable[bytes]:
        gevent.sleep(0.001)
        return says(b"never")(environ, start_response)

    stage.app.answers["/a"] = answer
    stage.app.straight = {"/a"}
    stage.send(GET % b"/a")
    assert b"500 Internal Server Error" in stage.until_got(b"}")
    assert "BlockingSwitchOutError" in caplog.text


@pytest.mark.parametrize("straight", [True, False], ids=["in the hub", "in a greenlet"])
@pytest.mark.parametrize("headers", [None, [("X-A", "b\r\nX-C: d")], [("Content-Length", "3")]])
def test_an_app_that_raises_or_answers_nonsense_is_a_500_and_the_connection_s_end(
    stage: Stage, straight: bool, headers: list[tuple[str, str]] | None
) -> None:
    def answer(environ: Environ, start_response: Any) -> Iterable[bytes]:
        if headers is None:
            raise ZeroDivisionError
        start_response("200 OK", headers)
        return [b"x"]

    stage.app.answers["/a"] = answer
    stage.app.straight = {"/a"} if straight else set()
    stage.send(GET % b"/a" * 2)
    got = stage.until_got(b"}")
    assert got.startswith(b"HTTP/1.1 500 ")
    assert got.count(b"HTTP/1.1 ") == 1
    assert stage.front.busy == 0
    assert stage.observed == [("/a", "500")]


@pytest.mark.parametrize("has_to_wait", [False, True])
def test_a_held_answer_is_given_when_it_is_released(stage: Stage, has_to_wait: bool) -> None:
    stage.app.answers["/held"] = held = Held()
    held.has_to_wait = has_to_wait
    stage.app.straight = {"/held"}
    stage.send(GET % b"/held")
    stage.until(lambda: held.call)
    assert (stage.front.busy, stage.observed) == (1, [])
    gevent.get_hub().loop.run_callback(held.release)
    assert stage.until_got(b"held").startswith(b"HTTP/1.1 200 OK\r\n")
    assert held.waited == has_to_wait
    assert (stage.front.busy, stage.observed) == (0, [("/held", "200 OK")])


def test_a_shortcut_is_asked_before_the_app_and_has_its_say_alone(stage: Stage) -> None:
    stage.app.shortcuts[b"/short?a"] = held = Held()
    stage.send(GET % b"/short?a" + GET % b"/next")
    stage.until(lambda: held.call)
    assert stage.app.asked == []
    held.release()
    assert stage.until_got(b"/next").count(b"HTTP/1.1 200 OK") == 2
    assert stage.app.asked == ["/next"]
    assert stage.observed == [("/short", "200 OK"), ("/next", "200 OK")]


@pytest.mark.parametrize("field", [b"Origin: https://h", b"Content-Length: 3", b"Transfer-Encoding: chunked"])
def test_a_shortcut_is_for_requests_without_a_body_or_an_origin(stage: Stage, field: bytes) -> None:
    stage.send(b"POST /a HTTP/1.1\r\nHost: h\r\n" + field + b"\r\n\r\n")
    stage.until_got(b"/a")
    assert stage.app.shortcuts_asked == []
    assert stage.app.asked == ["/a"]


def test_an_answer_for_one_that_has_left_is_given_to_nobody(stage: Stage) -> None:
    stage.app.answers["/held"] = held = Held()
    stage.send(GET % b"/held")
    stage.until(lambda: held.call)
    stage.client.lost(ConnectionResetError())
    held.release()
    stage.settle()
    assert (stage.client.closed, stage.front.busy, len(stage.connections)) == (True, 0, 0)


def test_one_that_has_shut_its_side_gets_its_answers_still(stage: Stage) -> None:
    stage.app.answers["/held"] = held = Held()
    stage.send(GET % b"/held" + GET % b"/next")
    stage.socket.shutdown(1)
    stage.until(lambda: held.call)
    stage.settle()
    held.release()
    assert stage.until_over().count(b"HTTP/1.1 200") == 2


def test_from_the_moment_that_the_worker_leaves_each_answer_is_the_last(stage: Stage) -> None:
    stage.app.answers["/held"] = held = Held()
    stage.send(GET % b"/held" * 2)
    stage.until(lambda: held.call)
    stage.front.leaving = True
    held.release()
    got = stage.until_got(b"held")
    assert b"Connection: close\r\n" in got
    assert got.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("request_line", "line"),
    [
        (b"GET /a HTTP/1.1", b"keep-alive"),
        (b"GET /a HTTP/1.0", b"close"),
        (b"GET /a HTTP/1.0\r\nConnection: keep-alive", b"keep-alive"),
        (b"GET /a HTTP/1.1\r\nConnection: close", b"close"),
        (b"CONNECT /a HTTP/1.1", b"close"),
    ],
)
def test_what_becomes_of_the_connection_is_said(stage: Stage, request_line: bytes, line: bytes) -> None:
    stage.send(request_line + b"\r\nHost: h\r\n\r\n")
    assert b"\r\nConnection: %b\r\n" % line in stage.until_got(b"/a")


def test_a_head_is_answered_without_the_body_and_pieces_are_one(stage: Stage) -> None:
    closed: list[bool] = []

    class Pieces(list[bytes]):
        def close(self) -> None:
            closed.append(True)

    def answer(environ: Environ, start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", [])
        write(b"a")
        return Pieces([b"b", b"c"])

    stage.app.answers["/a"] = answer
    stage.send(GET % b"/a")
    assert stage.until_got(b"abc").endswith(b"\r\nContent-Length: 3\r\n\r\nabc")
    stage.send(b"HEAD /b HTTP/1.1\r\nHost: h\r\n\r\n")
    assert stage.until_got(b"\r\n\r\n").endswith(b"\r\ncontent-length: 2\r\n\r\n")
    assert closed == [True]


def test_an_app_may_change_its_mind_only_if_it_says_why(stage: Stage) -> None:
    def twice(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return says(b"twice", "503 Later")(environ, start_response)

    def why(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        start_response("503 Later", [], (ValueError, ValueError(), None))
        return [b"why}"]

    stage.app.answers = {"/twice": twice, "/why": why}
    stage.send(GET % b"/why" + GET % b"/twice")
    got = stage.until_got(b"}")
    if b"HTTP/1.1 500" not in got:
        got += stage.until_got(b"}")
    assert re.findall(rb"HTTP/1.1 ([0-9]+)", got) == [b"503", b"500"]
