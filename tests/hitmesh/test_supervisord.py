"""supervisord's answers, from a socket that answers as the test says: whatever they are, they end nobody."""

from __future__ import annotations

import socket
import threading
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hitmesh.errors import CommandError
from hitmesh.supervisord import Supervisord, split_name

INFO: dict[str, Any] = {
    "name": "eu-collector-1", "statename": "RUNNING", "pid": 7, "now": 20, "start": 5, "spawnerr": "", "exitstatus": 0,
    "group": "more than is asked for",
}  # fmt: skip


@contextmanager
def answering(folder: Path, body: bytes, length: int | None = None) -> Iterator[Supervisord]:
    """One that answers each request with this body, of which it says that it has `length` bytes."""
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    request = data = b" "
                    # To its end: what isn't read when it is closed would break the answer off.
                    while data and b"</methodCall>" not in request:
                        data = connection.recv(65_536)
                        request += data
                    head = f"HTTP/1.0 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {length or len(body)}\r\n\r\n"
                    connection.sendall(head.encode() + body)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield Supervisord(lambda: path)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def said(value: Any) -> bytes:
    return xmlrpc.client.dumps((value,), methodresponse=True).encode()


def test_the_programs_of_a_mesh_are_told_and_nobody_elses(tmp_path: Path) -> None:
    others = [INFO | {"name": name} for name in ("foo", "my-web-app", "a-1", "")]
    with answering(tmp_path, said([INFO, *others])) as supervisord:
        [program] = supervisord.programs() or []
    assert (program.dc, program.name, program.role, program.pid, program.uptime_s) == (
        "eu", "collector-1", "collector", 7, 15.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", said([INFO])[:-40], said(7), said([7]), said([{"name": "eu-collector-1"}]), said([INFO | {"pid": "x"}])],
    ids=["empty", "not XML-RPC", "cut", "a number", "numbers", "lacking", "a text for a number"],
)  # fmt: skip
def test_an_answer_that_cant_be_read_is_none(tmp_path: Path, body: bytes) -> None:
    with answering(tmp_path, body) as supervisord:
        assert supervisord.programs() is None


@pytest.mark.parametrize("body", [b"", b"<html>", said(True)[:-40]], ids=["empty", "not XML-RPC", "cut"])
def test_a_command_says_that_its_answer_cant_be_read(tmp_path: Path, body: bytes) -> None:
    with (
        answering(tmp_path, body) as supervisord,
        pytest.raises(CommandError, match="supervisord doesn't answer signalProcess"),
    ):
        supervisord.signal("eu-collector-1", "HUP")


def test_a_name_of_somebody_elses_isnt_split() -> None:
    with pytest.raises(ValueError, match="'foo' isn't DATACENTER-ROLE-NUMBER"):
        split_name("foo")
