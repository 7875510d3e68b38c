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
TOGETHER: Final = 25  # replies to deletes for which whoever waits is woken once: the server syncs before each
MAX_REPLY_BYTES: Final = 64 * 1024  # of a put or its proof; some hundreds are normal

_DELETED: Final = b"DELETED\r\n"  # no reply to a delete is shorter
_SHORTEST: Final = b"BURIED 1\r\nNOT_FOUND\r\n"  # of replies to a put and to the question for its proof
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
            for line in self._read_replies(len(some)):
                try:
                    _values(line, b"DELETED")
                except greenstalk.BeanstalkdError as error:  # the others are said all the same
                    said.append(error)
                else:
                    said.append(None)
        return before, said, self.records_written()

    def _read_replies(self, count: int) -> list[bytes]:
        """So many lines, of which none is shorter than the reply to a delete; nothing else may be under way."""
        lines: list[bytes] = []
        rest = b""
        try:
            while len(lines) < count:
                missing = min(count - len(lines), TOGETHER)
                wanted = missing * len(_DELETED) - len(rest)  # at least these bytes are still to come
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, max(wanted, 1))
                data = self.sock.recv(MAX_REPLY_BYTES)
                if not data or len(rest) > MAX_REPLY_BYTES:
                    raise ConnectionError("Unexpected EOF" if not data else "a reply without end")
                *whole, rest = (rest + data).split(b"\n")
                lines += [line + b"\n" for line in whole]
        finally:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        if rest or len(lines) > count:
            raise ConnectionError("more replies than there were commands")
        return lines

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

    __slots__ = (
        "_buffer", "_error", "_guess", "_inserted", "_last", "_next", "_over", "_proof", "_size", "_skips", "_socket", "_text",
    )  # fmt: skip

    def __init__(self, sock: socket.socket) -> None:
        # A descriptor of its own for the same connection: the client's is closed by the client.
        stream = _socket.socket(sock.family, sock.type, 0, os.dup(sock.fileno()))
        stream.setblocking(False)
        super().__init__(stream)
        self._socket = sock
        self._over: Event
        self._last = self._next = 0  # the last job's number, and the one that is expected; 0: none is
        self._clear()

    def _clear(self) -> None:
        self._over = Event()
        self._buffer = self._inserted = self._proof = self._text = b""
        self._size = 0
        self._guess, self._next = self._next, 0
        self._skips = False  # the next reply is to a question about another job
        self._error: OSError | None = None

    def begin(self, command: bytes) -> None:
        """Send it, and ask for its proof: with it, where its number is known before, or else once it is answered.

        Nobody else has put a job between the last two: so the next number is likely to be ours again. The server answers
        the question after the put, whatever comes of that.
        """
        self._clear()
        self.start_reading()
        if self._guess:
            # Woken once, for both replies: of no put and of no question is there a shorter one.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(_SHORTEST))
            command += b"stats-job %d\r\n" % self._guess
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
            if self._guess:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self._inserted = line = self._line()
            if not line or not self._is_proof_coming(line):
                return
        while self._read_proof():
            # That was of another job. Is there one of ours?
            self._skips, self._proof = False, b""
            if not self._last:
                self._end()
                return

    def _is_proof_coming(self, line: bytes) -> bool:
        """Take the put's reply; False when it was the last one."""
        found = _INSERTED.fullmatch(line)
        number = int(found[1]) if found is not None else 0
        if number and number == self._last + 1:
            self._next = number + 1
        self._last = number
        self._skips = self._guess not in (0, number)
        if number and number != self._guess:
            self.send(b"stats-job %d\r\n" % number)
        elif not self._guess:
            self._end()
            return False
        return True

    def _read_proof(self) -> bool:
        """Whether a proof is here, and isn't ours."""
        if not self._proof:
            self._proof = line = self._line()
            if not line:
                return False
            found = _OK.fullmatch(line)
            self._size = int(found[1]) + 2 if found is not None else 0
        if len(self._buffer) < self._size:
            return False
        self._text, self._buffer = self._buffer[: self._size], self._buffer[self._size :]
        if self._skips:
            return True
        self._end()
        return False

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
