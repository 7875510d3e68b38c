r"""The access log: what a line looks like (pure), and getting lines out without being stopped by it.

A line is Apache's combined format, and behind it what a balancer knows:

    CLIENT - - [TIME] "REQUEST" STATUS BYTES "REFERER" "AGENT" "ROUTE" BACKEND "REASON" Q/C/F/T ID

Q/C/F/T are whole milliseconds: in the queue, to connect, to the answer's first byte, in all; -1 for
what was never reached, as HAProxy has it. Time is UTC. What can't stand in a line is written \xNN, as
nginx writes it, so that no request ends its field, or its line.

Traffic never waits for the log, nor fails with it: what can't be written now is kept, up to
MAX_KEPT_BYTES, and what is beyond that is dropped and counted. Only a disk that is slow is waited for.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hitmesh.errors import ConfigError
from hitmesh.output import STDOUT_FD, Output, of_descriptor, of_file

STDOUT: Final = "-"
BUFFER_BYTES: Final = 64 * 1024  # some 300 lines share the cost of a write
FLUSH_S: Final = 1.0  # that a line waits at most: whoever owns the log calls `flush` this often
MAX_KEPT_BYTES: Final = 4 * 1024 * 1024  # while nothing can be written: some 20,000 lines
MAX_QUOTED_BYTES: Final = 8192  # of one quoted part, before it is escaped: a request line is no longer by default

_SAFE: Final = bytes(code for code in range(0x20, 0x7F) if code not in b'"\\')
_ODD: Final = re.compile(rb"[^\x20\x21\x23-\x5b\x5d-\x7e]")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NEVER: Final = (-1.0, -1.0, -1.0, -1.0)

log = logging.getLogger(__name__)


class Stamps:
    """The time of a line: made once a second, however many lines have it."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def at(self, wall_s: float) -> str:
        """`wall_s`, seconds since 1970, as Apache writes it; month names don't follow the locale."""
        second = int(wall_s)
        if second != self._second:
            when = datetime.fromtimestamp(second, UTC)
            self._text = f"{when.day:02d}/{_MONTHS[when.month - 1]}/{when:%Y:%H:%M:%S} +0000"
            self._second = second
        return self._text


def line(
    stamp: str,
    *,
    client: str,
    request: bytes,
    status: int,
    size: int,
    referer: bytes = b"",
    agent: bytes = b"",
    route: str = "",
    backend: str = "",
    reason: str = "",
    times_s: tuple[float, float, float, float] = _NEVER,
    request_id: bytes = b"",
) -> bytes:
    """One line with its end. `request` is the request line, `size` the bytes of the answer's body.

    What comes from the wire is bytes, and may hold anything. `times_s`: in the queue, to connect, to
    the first byte, in all; negative for what was never reached.
    """
    # One look at all that strangers wrote: hardly anybody writes anything odd.
    wire = request + referer + agent + request_id
    if wire.translate(None, _SAFE) or len(wire) > MAX_QUOTED_BYTES:
        request, referer, agent = _quotable(request), _quotable(referer), _quotable(agent)
        request_id = _quotable(request_id)
    queued_s, connect_s, first_s, total_s = times_s
    return (
        f'{client} - - [{stamp}] "{request.decode() or "-"}" {status} {size or "-"} "{referer.decode() or "-"}" '
        f'"{agent.decode() or "-"}" "{route or "-"}" {backend or "-"} '
        f'"{_quotable(reason.encode("utf-8", "replace")).decode() if reason else "-"}" '
        f"{int(queued_s * 1000 + 0.5) if queued_s >= 0 else -1}/{int(connect_s * 1000 + 0.5) if connect_s >= 0 else -1}/"
        f"{int(first_s * 1000 + 0.5) if first_s >= 0 else -1}/{int(total_s * 1000 + 0.5) if total_s >= 0 else -1} "
        f"{request_id.decode() or '-'}\n"
    ).encode("utf-8", "replace")


def _quotable(text: bytes) -> bytes:
    return _ODD.sub(lambda found: b"\\x%02X" % found[0][0], text[:MAX_QUOTED_BYTES])


class AccessLog:
    """Lines on their way to a file, or to standard output. One owner, who calls `flush` every FLUSH_S.

    `dropped` lines found no place; `errors` is how often a write failed.
    """

    def __init__(self, target: str | Path) -> None:
        """Open `target`, "-" for standard output. Raises ConfigError."""
        self.target = str(target)
        self.dropped = 0
        self.errors = 0
        self._buffer = bytearray()
        self._try_at = BUFFER_BYTES  # the size at which a write is tried next
        self._troubled = False
        try:
            self._output = _open(self.target)
        except OSError as error:
            raise ConfigError(str(error.strerror), op="opening the access log", endpoint=self.target) from error

    def add(self, text: bytes) -> None:
        """One line, with its end. Never raises, and waits for nobody."""
        buffer = self._buffer
        if len(buffer) + len(text) > MAX_KEPT_BYTES:
            self.dropped += 1
            return
        buffer += text
        if len(buffer) >= self._try_at:
            self.flush()

    def flush(self) -> None:
        """Write what there is, as far as that can be done now."""
        try:
            while self._buffer:
                del self._buffer[: self._output.write(self._buffer)]
        except BlockingIOError:
            pass  # a pipe whose reader is slow: later
        except OSError as error:
            self.errors += 1
            if not self._troubled:
                log.error("the access log %s can't be written: %s", self.target, error.strerror)
            self._troubled = True
        else:
            if self._troubled:
                log.warning("the access log %s is written again; %d lines are lost so far", self.target, self.dropped)
            self._troubled = False
        self._try_at = len(self._buffer) + BUFFER_BYTES

    def reopen(self) -> None:
        """Go on in a new file of the same name: the old one has been moved away. Keeps the old one when it can't."""
        self.flush()
        try:
            output = _open(self.target)
        except OSError as error:
            self.errors += 1
            log.error("the access log %s can't be opened again: %s", self.target, error.strerror)
            return
        self._output.close()
        self._output = output

    def close(self) -> None:
        """Write what there is, and end."""
        self.flush()
        self._output.close()


def _open(target: str) -> Output:
    return of_descriptor(STDOUT_FD) if target == STDOUT else of_file(target)
