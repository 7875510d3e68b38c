"""One connection to a beanstalkd: greenstalk's client, and what it lacks.

Owns the socket. Knows nothing of what may be believed: its replies are `BeanstalkSpool`'s to judge. On gevent's hub a put
and its proof go by callbacks (`PutLink`): whoever waits for it is woken once, and two servers are asked at once.
"""

from __future__ import annotations

import _socket
import os
import re
import socket
from collections.abc import Sequence
from typing import Final

import greenstalk
from gevent.event import Event

from hitmesh.hub.link import Link

PIPELINED: Final = 500  # commands that are sent together: neither they nor their replies fill anybody's buffers
MAX_REPLY_BYTES: Final = 64 * 1024  # of a put or its proof; some hundreds are normal

_ESTABLISHED: Final = 1  # the first byte of struct tcp_info, tcpi_state
_RECORDS: Final = re.compile(rb"\nbinlog-records-written: ([0-9]+)\n")
_NOT_LOGGED: Final = b"\nfile: 0\n"
_INSERTED: Final = re.compile(rb"INSERTED ([0-9]+)\r\n")
_OK: Final = re.compile(rb"OK ([0-9]{1,6})\r\n")


class BeanstalkClient(greenstalk.Client[bytes]):
    """One connection, which uses and watches `tube`."""

    def __init__(self, sock: socket.socket, tube: str) -> None:
        self.sock = sock
        self._link: PutLink | None = None
        try:
            super().__init__(sock, encoding=None, use=tube, watch=tube)
            stats = self.stats()
            self.instance = stats["id"]
            self.has_log = stats["binlog-current-index"] > 0
            self.max_job_bytes = stats["max-job-size"]
        except BaseException:
            if hasattr(self, "_reader"):  # it keeps the socket open
                self._reader.close()
            sock.close()
            raise

    def close(self) -> None:
        """Close it; a put that is under way has failed."""
        if self._link is not None:
            self._link.lost(ConnectionAbortedError("closed"))
        super().close()

    def is_logged(self, number: int) -> bool:
        """Whether the job is in a file of the server's log. Reads stats-job's text: parsing it costs 60 us a put."""
        text = self._read_chunk(self._int_cmd(b"stats-job %d" % number, b"OK"))
        return _NOT_LOGGED not in text

    def is_alive(self) -> bool:
        """Whether the peer hasn't closed: spares the next command an outcome that nobody knows."""
        return self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED

    def records_written(self) -> int:
        """How many records the server has written into its log."""
        self.sock.sendall(b"stats\r\n")
        return self._read_records()

    def delete_all(self, numbers: Sequence[int]) -> tuple[int, list[greenstalk.BeanstalkdError | None], int]:
        """Delete jobs, all in one go: what was said of each, None for DELETED, between the records before and after."""
        said: list[greenstalk.BeanstalkdError | None] = []
        before = self.records_written()
        for at in range(0, len(numbers), PIPELINED):
            some = numbers[at : at + PIPELINED]
            self.sock.sendall(b"".join([b"delete %d\r\n" % number for number in some]))
            for _ in some:
                try:
                    self._read_reply(b"DELETED")
                except greenstalk.BeanstalkdError as error:  # the others are said all the same
                    said.append(error)
                else:
                    said.append(None)
        return before, said, self.records_written()

    @property
    def put_link(self) -> PutLink:
        """By which a put goes on hub callbacks, while nothing else is asked."""
        if self._link is None:
            self._link = PutLink(self.sock)
        return self._link

    def _read_records(self) -> int:
        (size,) = self._read_reply(b"OK")
        found = _RECORDS.search(self._read_chunk(int(size)))
        if found is None:
            raise ConnectionError("statistics without a log's")
        return int(found[1])

    def _read_reply(self, expected: bytes) -> list[bytes]:
        return _values(self._reader.readline(), expected)


class PutLink(Link):
    """A client's connection while a put and its proof are under way; else nothing is read here.

    `begin` one, then ask for its `number`, and then whether it `is_logged`: these wait, raise greenstalk's errors as its
    client does, OSError when the connection broke, and TimeoutError.
    """

    __slots__ = ("_buffer", "_error", "_inserted", "_over", "_proof", "_size", "_socket", "_text")

    def __init__(self, sock: socket.socket) -> None:
        # A descriptor of its own for the same connection: the client's is closed by the client.
        stream = _socket.socket(sock.family, sock.type, 0, os.dup(sock.fileno()))
        stream.setblocking(False)
        super().__init__(stream)
        self._socket = sock
        self._over: Event
        self._clear()

    def _clear(self) -> None:
        self._over = Event()
        self._buffer = self._inserted = self._proof = self._text = b""
        self._size = 0
        self._error: OSError | None = None

    def begin(self, command: bytes) -> None:
        """Send it, and ask for its proof once it is answered."""
        self._clear()
        self.start_reading()
        self.send(command)

    def number(self) -> int:
        """The job's."""
        timeout_s = self._socket.gettimeout()
        if not self._over.wait(timeout_s) and not (self._inserted and self._over.wait(timeout_s)):
            raise TimeoutError("timed out")
        if not self._inserted and self._error is not None:
            raise self._error
        (number,) = _values(self._inserted, b"INSERTED")
        return int(number)

    def is_logged(self) -> bool:
        """Whether the job is in a file of the server's log."""
        if self._error is not None:
            raise self._error
        _values(self._proof, b"OK")
        return _NOT_LOGGED not in self._text

    # --- the hub's calls ----------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """A reply, or a piece of one."""
        self._buffer += data
        if len(self._buffer) > MAX_REPLY_BYTES:
            self.lost(ConnectionError("a reply without end"))
            return
        if not self._inserted:
            self._inserted = line = self._line()
            if not line:
                return
            found = _INSERTED.fullmatch(line)
            if found is None:
                self._end()
                return
            self.send(b"stats-job %b\r\n" % found[1])
        if not self._proof:
            self._proof = line = self._line()
            if not line:
                return
            found = _OK.fullmatch(line)
            if found is None:
                self._end()
                return
            self._size = int(found[1])
        if len(self._buffer) >= self._size + 2:
            self._text = self._buffer
            self._end()

    def ended(self) -> None:
        """The server has closed."""
        self.lost(ConnectionError("Unexpected EOF"))

    def lost(self, error: OSError) -> None:
        """The connection broke."""
        self._error = error
        self.close()
        self._over.set()

    def _line(self) -> bytes:
        """The next line with its end; nothing while that hasn't come."""
        end = self._buffer.find(b"\n") + 1
        line, self._buffer = self._buffer[:end], self._buffer[end:]
        return line

    def _end(self) -> None:
        self.stop_reading()
        self._over.set()


def _values(line: bytes, expected: bytes) -> list[bytes]:
    """What a reply says, behind the word that was expected. Raises greenstalk's errors, and ConnectionError."""
    words = line.split()
    if not (words and line.endswith(b"\r\n")):
        raise ConnectionError("Unexpected EOF")
    status, *values = words
    if status == expected:
        return values
    error = greenstalk.ERROR_RESPONSES.get(status)
    raise error(values) if error is not None else greenstalk.UnknownResponseError(status, values)
