"""When an answer is whole, and that what isn't a good one is no answer."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from bench import lockstep

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize("end", range(len(ANSWER)))
def test_a_part_of_an_answer_is_not_whole(end: int) -> None:
    assert not lockstep.is_whole(ANSWER[:end])


@pytest.mark.parametrize("answer", [ANSWER, b"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n"])
def test_a_whole_answer_has_as_many_bytes_as_it_says(answer: bytes) -> None:
    assert lockstep.is_whole(answer)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_another_answer_than_a_200_with_a_length_is_an_error(answer: bytes) -> None:
    with pytest.raises(ConnectionError, match="not a 200"):
        lockstep.is_whole(answer)


def test_the_next_step_begins_when_all_connections_have_their_answers() -> None:
    most: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, 4, 3, most))
        thread.start()
        with lockstep.connections(server.getsockname()[1], 4) as opened:
            assert lockstep.run(opened, lambda: b"x", 3) == 12
        thread.join(20)
    assert most == [1, 1, 1], "bytes of a request on each connection, before any of a step is answered"


def _serve(server: socket.socket, connections: int, steps: int, most: list[int]) -> None:
    """Answers a step only when all of it has come, and notes how much a connection has sent by then."""
    links = [server.accept()[0] for _ in range(connections)]
    for _ in range(steps):
        got = [len(link.recv(100)) for link in links]
        most.append(max(got))
        for link in links:
            link.sendall(ANSWER)
    for link in links:
        link.close()


def test_a_connection_that_ends_after_its_answer_disturbs_none_that_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_end_early, args=(server,))
        thread.start()
        with lockstep.connections(server.getsockname()[1], 2) as opened:
            assert lockstep.run(opened, lambda: b"x", 1) == 2
        thread.join(20)


def _end_early(server: socket.socket) -> None:
    first, second = (server.accept()[0] for _ in range(2))
    with first, second:
        first.sendall(ANSWER)
        first.shutdown(socket.SHUT_WR)
        second.recv(100)
        time.sleep(0.1)  # in which the first one's end is seen
        second.sendall(ANSWER)
