"""Clients that send, or take, without an end or too slowly, while others hit pages: these never notice."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.hitmesh.collector.conftest import PATIENT
from tests.hitmesh.collector.raw import Raw
from tests.services import PATIENCE_S, wait_for
from tests.system.mesh import Mesh
from tests.system.visitors import Visitor, at_work

SHORT = {"head_s": 1.0, "body_s": 1.0, "write_s": 1.0}
FILES = 160
PLACES = FILES // 2  # for connections
ENDLESS_BYTES = 256 * 1024 * 1024  # that a client sends before it gives up: a reader without a bound would take them
PAUSE_S = 0.1  # of a slow client between two bytes

HEAD = "{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-ndjson\r\n{body}\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"
HUGE = "Content-Length: 1000000000000"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh whose collector is impatient, and has few places."""
    folder = tmp_path_factory.mktemp("mesh")
    few_files = {"collector": ["prlimit", f"--nofile={FILES}:{FILES}"]}
    with Mesh(folder, timing=PATIENT, balancer={"limits": SHORT}, wrappers=few_files) as mesh:
        yield mesh


@pytest.fixture(autouse=True)
def others(mesh: Mesh) -> Iterator[None]:
    """Some clients on connections that they keep: each of their requests is answered and counted."""
    url = "http://{}:{}".format(*mesh.address())
    with at_work(*(Visitor(url, [f"others/{number}"]) for number in range(3))) as visitors:
        wait_for(lambda: all(visitor.accepted for visitor in visitors), what="each to have been answered")
        yield
        before = [visitor.accepted.total() for visitor in visitors]
        wait_for(
            lambda: all(visitor.accepted.total() > old for visitor, old in zip(visitors, before, strict=True)),
            what="each to be answered still",
        )
        for visitor in visitors:
            assert (visitor.failed, visitor.refused) == ({}, {})
    assert "Booting" not in mesh.log("collector-1")
    assert "TIMEOUT" not in mesh.log("collector-1")


@contextlib.contextmanager
def sending(raw: Raw, piece: bytes) -> Iterator[None]:
    """`piece` without end, as fast as it is taken, by a thread."""

    def send() -> None:
        with contextlib.suppress(OSError):
            for _ in range(ENDLESS_BYTES // len(piece)):
                raw.socket.sendall(piece)
            not_ended.append(True)

    not_ended: list[bool] = []
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    yield
    raw.socket.settimeout(PATIENCE_S)
    raw.read_to_end()
    with contextlib.suppress(OSError):
        raw.socket.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert not not_ended, "all that was sent was taken"


def head(method: str, path: str, body: str) -> bytes:
    return HEAD.format(method=method, path=path, body=body).encode()


@pytest.mark.parametrize(
    ("body", "piece"), [(CHUNKED, b"1\r\na\r\n" * 10_000), (HUGE, b"a" * 60_000)], ids=["chunks", "length"]
)
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/nothing", 404),
        ("PUT", "/hit/s/a", 405),
        ("OPTIONS", "/hit/s/a", 200),
        ("POST", "/hit/s/a", 413),
        ("GET", "/hit/s/a", 413),
        ("POST", "/hit/%ff", 413),
        ("GET", "/total/s/%ff", 400),
        ("GET", "/total/s/a", 200),
        ("GET", "/totals", 200),
        ("GET", "/health", 200),
    ],
)  # fmt: skip
def test_a_body_without_end_gets_its_answer_and_ends_the_connection(
    mesh: Mesh, method: str, path: str, status: int, body: str, piece: bytes
) -> None:
    with Raw(mesh.address()) as raw:
        raw.send(head(method, path, body))
        with sending(raw, piece):
            answer = raw.answer()
            assert (answer.status, answer.headers["connection"]) == (status, "close")


@pytest.mark.parametrize(
    ("body", "piece"),
    [(CHUNKED, b"1\r\na\r\n" * 10_000), (CHUNKED, b"400\r\n" + b"a" * 1024 + b"\r\n"), (HUGE, b"a" * 60_000)],
    ids=["small chunks", "chunks", "length"],
)
def test_a_batch_without_end_is_refused(mesh: Mesh, body: str, piece: bytes) -> None:
    with Raw(mesh.address()) as raw:
        raw.send(head("POST", "/hits", body))
        with sending(raw, piece):
            assert raw.answer().status == 413


def test_a_batch_may_come_in_a_chunk_for_each_line(mesh: Mesh) -> None:
    line = b'{"page":"a/b"}\n'
    with Raw(mesh.address()) as raw:
        raw.send(head("POST", "/hits", CHUNKED))
        raw.send(b"%x\r\n%b\r\n" % (len(line), line) * 9_000 + b"0\r\n\r\n")
        assert raw.answer().json() == {"accepted": 9_000}


def test_a_body_that_came_with_its_head_is_dropped_and_the_connection_kept(mesh: Mesh) -> None:
    with Raw(mesh.address()) as raw:
        for body in ("Content-Length: 5\r\n\r\nhello", CHUNKED + "\r\n\r\n5\r\nhello\r\n0"):
            answer = raw.ask(head("GET", "/health", body).removesuffix(b"" if "chunked" in body else b"\r\n\r\n"))
            assert (answer.status, answer.headers["connection"]) == (200, "keep-alive")


@pytest.mark.parametrize("path", ["/hit/s/a", "/nothing"])
def test_an_answer_isn_t_lost_to_what_the_client_sends_on(mesh: Mesh, path: str) -> None:
    with Raw(mesh.address()) as raw:
        raw.send(head("POST", path, "Content-Length: 500000") + b"x" * 200_000)
        assert raw.answer().status in (404, 413)
        raw.socket.sendall(b"x" * 300_000)
        assert raw.socket.recv(1) == b""  # not a reset


def test_many_endless_bodies_at_once_keep_nobody_waiting(mesh: Mesh) -> None:
    with contextlib.ExitStack() as attack:
        for _ in range(10):
            raw = attack.enter_context(Raw(mesh.address()))
            raw.send(head("POST", "/hits", CHUNKED))
            attack.enter_context(sending(raw, b"1\r\na\r\n" * 10_000))
        assert mesh.hit("beside/bodies").status == 200


@pytest.mark.parametrize(
    ("first", "byte"),
    [
        (b"", b"G"),
        (b"GET /hit/s/a HTTP/1.1\r\nHost: h\r\n", b"x"),
        (head("POST", "/hit/s/a", "Content-Length: 16000"), b"x"),
        (head("POST", "/hits", "Content-Length: 16000"), b"x"),
        (head("POST", "/hits", CHUNKED), b"1\r\nx\r\n"),
        (head("POST", "/hits", CHUNKED), b"0"),
    ],
    ids=["line", "fields", "hit's body", "batch", "chunks", "chunk size"],
)
def test_who_sends_slowly_is_told_so_and_ended(mesh: Mesh, first: bytes, byte: bytes) -> None:
    with Raw(mesh.address()) as raw:
        raw.send(first)
        deadline = time.monotonic() + PATIENCE_S
        while not select.select([raw.socket], [], [], PAUSE_S)[0]:
            assert time.monotonic() < deadline
            raw.send(byte)
        answer = raw.answer()
        assert (answer.status, answer.json()["title"], answer.headers["connection"]) == (
            408,
            "Request Timeout",
            "close",
        )
        assert raw.read_to_end() == b""


def test_who_says_nothing_is_ended_in_silence(mesh: Mesh) -> None:
    with Raw(mesh.address()) as raw:
        assert raw.read_to_end() == b""


def test_who_takes_no_answers_is_cut(mesh: Mesh) -> None:
    with Raw(mesh.address()) as raw:
        raw.socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            for _ in range(1000):
                raw.socket.sendall(head("GET", "/total/" + "x" * 1000, "Content-Length: 0") * 10)
        wait_for(lambda: raw.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), what="the connection to be reset")


def test_one_who_pipelines_without_end_keeps_nobody_waiting(mesh: Mesh) -> None:
    with Raw(mesh.address()) as raw:
        enough = threading.Event()

        def send() -> None:
            while not enough.is_set():
                raw.send(head("GET", "/nothing", "Content-Length: 0") * 200)

        threads = [threading.Thread(target=work, daemon=True) for work in (send, raw.read_to_end)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            assert mesh.hit("beside/pipelined").status == 200
        enough.set()
        raw.socket.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    "first",
    [b"", b"GET /hi", head("POST", "/hit/s/a", "Content-Length: 16000"), head("GET", "/health", "Content-Length: 0")],
    ids=["silent", "slow heads", "slow bodies", "idle"],
)
def test_those_who_keep_us_waiting_take_nobody_s_place(mesh: Mesh, first: bytes) -> None:
    with contextlib.ExitStack() as attack:
        for number in range(PLACES * 3):
            raw = attack.enter_context(Raw(mesh.address()))
            raw.send(first)
            if number % 10 == 0:
                assert mesh.hit("beside/waiting").status == 200
        for _ in range(10):
            assert mesh.hit("beside/waiting").status == 200


def test_a_slow_body_that_has_to_make_room_is_told_so(mesh: Mesh) -> None:
    with contextlib.ExitStack() as attack, Raw(mesh.address()) as first:
        first.send(head("POST", "/hit/s/a", "Content-Length: 16000"))
        assert mesh.hit("beside/waiting").status == 200, "by now the body is waited for"
        for _ in range(PLACES):
            attack.enter_context(Raw(mesh.address())).send(b"G")
        answer = first.answer()
    assert (answer.status, "connections" in answer.json()["description"]) == (503, True)


def test_when_all_places_are_taken_the_oldest_of_those_who_wait_goes_first(mesh: Mesh) -> None:
    with contextlib.ExitStack() as attack:
        idle = []
        for _ in range(PLACES + 20):
            idle.append(attack.enter_context(Raw(mesh.address())))
            assert idle[-1].ask(head("GET", "/health", "Content-Length: 0")).status == 200
        ended = [bool(select.select([raw.socket], [], [], 0)[0]) for raw in idle]
        assert ended[0]
        assert not ended[-1]
