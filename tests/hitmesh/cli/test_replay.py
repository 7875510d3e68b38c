"""`hitmesh replay` against servers that answer, refuse, break off and aren't there."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hitmesh.cli.logs import LINES, access_log
from tests.services import PATIENCE_S, START_S, free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
REFUSED = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 53\r\n\r\n"
    b'{"title": "503", "description": "the spool is full"}\n'
)


class Target:
    """An HTTP server that records the path of each request and answers what `answer` says.

    An answer of None ends the connection without one; a "!" in front of one ends it afterwards,
    without having said so.
    """

    def __init__(self, answer: Callable[[int], bytes | None] = lambda _: OK, *, port: int = 0) -> None:
        self.paths: list[str] = []
        self.connections = 0
        self._answer = answer
        self._lock = threading.Lock()
        self.ended = threading.Semaphore(0)  # released for each connection that is closed
        self._server = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._exchange(connection)
        finally:
            self.ended.release()

    def _exchange(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    more = connection.recv(65_536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                with self._lock:
                    self.paths.append(head.split(b" ")[1].decode())
                    answer = self._answer(len(self.paths))
                if answer is None:
                    return
                connection.sendall(answer.removeprefix(b"!"))
                if answer.startswith(b"!"):
                    return

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(PATIENCE_S)


@pytest.fixture
def target() -> Iterator[Callable[..., Target]]:
    targets: list[Target] = []

    def make(*answer: Callable[[int], bytes | None], port: int = 0) -> Target:
        targets.append(Target(*answer, port=port))
        return targets[-1]

    yield make
    for each in targets:
        each.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_text("".join(f'1.2.3.4 - - [x] "GET /p{n}?q HTTP/1.1" 200 1\n' for n in range(20)))
    return path


def replay(*arguments: str | Path, stdin: bytes | None = None) -> tuple[int, dict[str, Any], str]:
    """Exit status, the JSON it printed, and stderr."""
    answer = subprocess.run(
        [sys.executable, "-m", "hitmesh", "replay", *map(str, arguments), "--json"],
        input=stdin,
        capture_output=True,
        timeout=2 * START_S,
        check=False,
    )
    return answer.returncode, json.loads(answer.stdout or "{}"), answer.stderr.decode()


def numbers(report: dict[str, Any]) -> tuple[int, ...]:
    return tuple(report[key] for key in ("sent", "accepted", "failed", "refused", "unanswered", "ignored"))


def test_each_hit_is_sent_once_and_to_the_urls_in_turn(target: Callable[..., Target], log: Path) -> None:
    one, two = target(), target()
    status, report, _ = replay(log, "--to", one.url, "--to", two.url, "--site", "a.example", "--concurrency", "1")
    assert (status, numbers(report)) == (0, (20, 20, 0, 0, 0, 0))
    assert sorted(one.paths + two.paths) == sorted(f"/hit/a.example/p{n}" for n in range(20))
    assert (len(one.paths), len(two.paths)) == (10, 10)


def test_connections_are_kept(target: Callable[..., Target], log: Path) -> None:
    one = target()
    assert replay(log, "--to", one.url, "--concurrency", "3")[0] == 0
    assert one.connections <= 3


def test_a_refused_hit_has_failed_and_goes_nowhere_else(target: Callable[..., Target], log: Path) -> None:
    one, two = target(lambda _: REFUSED), target()
    status, report, _ = replay(log, "--to", one.url, "--to", two.url)
    assert (status, numbers(report)) == (1, (20, 10, 10, 10, 0, 0))
    assert (len(one.paths), len(two.paths)) == (10, 10)
    assert report["reasons"] == {f"503 from {one.url.removeprefix('http://')}: the spool is full": 10}


@pytest.mark.parametrize("status_line", ["502 Bad Gateway", "504 Gateway Timeout"])
def test_a_hit_that_a_balancer_has_no_answer_to_is_unanswered(
    target: Callable[..., Target], log: Path, status_line: str
) -> None:
    head = f"HTTP/1.1 {status_line}\r\nContent-Length: 2\r\n\r\n{{}}"
    one = target(lambda count: head.encode() if count == 1 else OK)
    status, report, _ = replay(log, "--to", one.url, "--concurrency", "1")
    assert (status, numbers(report)) == (1, (20, 19, 1, 0, 1, 0))
    assert len(one.paths) == 20


def test_a_hit_without_an_answer_is_never_sent_again(target: Callable[..., Target], log: Path) -> None:
    one, two = target(lambda _: None), target()
    status, report, _ = replay(log, "--to", one.url, "--to", two.url)
    assert (status, numbers(report)) == (1, (20, 10, 10, 0, 10, 0))
    assert len(set(one.paths + two.paths)) == len(one.paths + two.paths) == 20


def test_a_hit_that_could_not_be_sent_goes_to_the_next_url(target: Callable[..., Target], log: Path) -> None:
    one = target()
    nobody = f"http://127.0.0.1:{free_port()}"
    status, report, _ = replay(log, "--to", nobody, "--to", one.url)
    assert (status, numbers(report)) == (0, (20, 20, 0, 0, 0, 0))
    assert len(one.paths) == 20


def test_hits_that_nobody_takes_are_unanswered(log: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    status, report, told = replay(log, "--to", nobody, "--wait", "1")
    assert (status, numbers(report)) == (1, (20, 0, 20, 0, 20, 0))
    assert list(report["reasons"]) == [f"no connection to {nobody.removeprefix('http://')}: Connection refused"]
    assert report["seconds"] >= 1
    assert told.count("Connection refused; waiting") == 1


def test_hits_wait_while_nobody_takes_connections_and_then_go_out_once(
    target: Callable[..., Target], log: Path
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "hitmesh", "replay", str(log), "--to", f"http://127.0.0.1:{port}", "--wait", "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        try:
            assert process.stderr.readline().startswith(f"no connection to 127.0.0.1:{port}: Connection refused; wait")
            one = target(port=port)
            assert process.stderr.readline() == f"127.0.0.1:{port} takes connections again\n"
            assert process.stdout.read().startswith("sent 20, accepted 20, failed 0; ")
        finally:
            process.kill()
    assert len(one.paths) == len(set(one.paths)) == 20


def test_a_connection_that_ends_between_two_hits_costs_none(target: Callable[..., Target], log: Path) -> None:
    one = target(lambda _: b"!" + OK)
    # One sender and two URLs: the other one answers once the first connection is closed.
    two = target(lambda _: OK if one.ended.acquire(timeout=PATIENCE_S) else REFUSED)
    status, report, _ = replay(log, "--to", one.url, "--to", two.url, "--concurrency", "1")
    assert (status, numbers(report)) == (0, (20, 20, 0, 0, 0, 0))
    assert (one.connections, two.connections) == (10, 1)


def test_a_log_comes_from_standard_input(target: Callable[..., Target], log: Path) -> None:
    one = target()
    status, report, _ = replay("-", "--to", one.url, stdin=log.read_bytes() + b"\nno request\n")
    assert (status, numbers(report)) == (0, (20, 20, 0, 0, 0, 1))


def test_a_limit_ends_it_early(target: Callable[..., Target], log: Path) -> None:
    one = target()
    assert numbers(replay(log, "--to", one.url, "--limit", "7")[1]) == (7, 7, 0, 0, 0, 0)
    assert len(one.paths) == 7


def test_json_lines_are_hits(target: Callable[..., Target], tmp_path: Path) -> None:
    one = target()
    log = tmp_path / "log.json"
    log.write_text('{"page": "a.example/x y"}\n{"host": "b.example", "path": "/z?q"}\n{}\n')
    status, report, _ = replay(log, "--to", one.url, "--format", "json")
    assert (status, numbers(report)) == (0, (2, 2, 0, 0, 0, 1))
    assert sorted(one.paths) == ["/hit/a.example/x%20y", "/hit/b.example/z"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_like(target: Callable[..., Target], log: Path, end: str) -> None:
    one = target()
    log.write_text(log.read_text().replace("\n", end), newline="")
    status, report, _ = replay(log, "--to", one.url)
    assert (status, numbers(report)) == (0, (20, 20, 0, 0, 0, 0))


def test_a_byte_order_mark_belongs_to_no_line(target: Callable[..., Target], tmp_path: Path) -> None:
    one = target()
    log = tmp_path / "log"
    log.write_bytes(b'\xef\xbb\xbfa.example:80 192.0.2.1 - - [x] "GET /a HTTP/1.1" 200 5\n')
    assert replay(log, "--to", one.url)[0] == 0
    log.write_bytes(b'\xef\xbb\xbf{"host": "b.example", "path": "/b"}\n')
    assert replay(log, "--to", one.url, "--format", "json")[0] == 0
    assert one.paths == ["/hit/a.example/a", "/hit/b.example/b"]


def test_a_compressed_log_is_read_as_it_is(target: Callable[..., Target], log: Path) -> None:
    one = target()
    packed = log.with_suffix(".gz")
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert numbers(replay(packed, "--to", one.url)[1]) == (20, 20, 0, 0, 0, 0)
    assert numbers(replay("-", "--to", one.url, stdin=packed.read_bytes())[1]) == (20, 20, 0, 0, 0, 0)


def test_a_compressed_log_that_breaks_off_is_sent_as_far_as_it_goes(target: Callable[..., Target], log: Path) -> None:
    one = target()
    log.write_bytes(gzip.compress(log.read_bytes(), compresslevel=0)[:400])
    status, report, error = replay(log, "--to", one.url)
    assert status == 1
    assert 0 < report["accepted"] < 20
    assert "the log breaks off: Compressed file ended" in error


def test_a_line_without_an_end_is_not_held(target: Callable[..., Target], log: Path) -> None:
    one = target()
    log.write_text("x" * 200_000 + "\n" + log.read_text() + "y" * 65_536)
    status, report, _ = replay(log, "--to", one.url)
    assert (status, numbers(report)) == (0, (20, 20, 0, 0, 0, 2))
    assert report["ignored_because"]["more than 65536 characters"]["count"] == 2


def test_what_is_ignored_is_shown_with_its_reason_and_harmlessly(target: Callable[..., Target], log: Path) -> None:
    one = target()
    log.write_text(log.read_text() + '1.2.3.4 - - [x] "\x1b[31m\u202e" 400\n' * 3)
    status, report, _ = replay(log, "--to", one.url)
    why = {"count": 3, "line": 21, "example": '1.2.3.4 - - [x] "\\x1b[31m\\u202e" 400'}
    assert (status, report["ignored_because"]) == (0, {"its request isn't METHOD TARGET": why})


@pytest.mark.parametrize(
    ("log_format", "text", "other"),
    [("combined", '{"path": "/a"}', "json"), ("json", 'x "GET /a HTTP/1.1"', "combined")],
)
def test_a_log_of_which_nothing_is_understood_has_failed(
    target: Callable[..., Target], log: Path, log_format: str, text: str, other: str
) -> None:
    one = target()
    log.write_text(f"{text}\n" * 3)
    status, report, error = replay(log, "--to", one.url, "--format", log_format)
    assert (status, numbers(report)) == (1, (0, 0, 0, 0, 0, 3))
    assert error == (
        f"hitmesh: {log}: nothing in it is understood as a log of the format {log_format}; is it --format {other}?\n"
    )


def test_an_empty_log_is_done(target: Callable[..., Target]) -> None:
    assert numbers(replay("/dev/null", "--to", target().url)[1]) == (0, 0, 0, 0, 0, 0)


def test_a_whole_log_arrives_page_by_page(target: Callable[..., Target], tmp_path: Path) -> None:
    one = target()
    status, report, _ = replay(access_log(tmp_path), "--to", one.url + "/", "--concurrency", "16")
    assert (status, numbers(report)) == (0, (LINES, LINES, 0, 0, 0, 0))
    assert sum(Counter(one.paths).values()) == LINES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nope/access.log", "--to", "http://127.0.0.1:1"], "hitmesh: /nope/access.log: can't be read: No such file"),
        (["/dev/null", "--to", "127.0.0.1:8000"], "hitmesh: --to '127.0.0.1:8000' is not a URL such as http://"),
        (["/dev/null", "--to", "https://a.example"], "hitmesh: --to 'https://a.example' is not a URL such as http://"),
        (["/dev/null", "--to", "http://a.example:x"], "hitmesh: --to 'http://a.example:x': "),
        (["/dev/null", "--to", "http://127.0.0.1:1", "--site", "a/../b"], "hitmesh: a page holds the path segment"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], message: str) -> None:
    status, report, error = replay(*arguments)
    assert (status, report) == (1, {})
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_people_get_a_summary_and_the_reasons(target: Callable[..., Target], log: Path) -> None:
    one = target(lambda count: REFUSED if count == 1 else OK)
    answer = subprocess.run(
        [sys.executable, "-m", "hitmesh", "replay", str(log), "--to", one.url],
        capture_output=True,
        text=True,
        timeout=2 * START_S,
        check=False,
    )
    assert answer.stdout.startswith("sent 20, accepted 19, failed 1 (1 refused, 0 unanswered); 0 lines ignored; ")
    assert answer.stderr == f"  1 x 503 from {one.url.removeprefix('http://')}: the spool is full\n"
