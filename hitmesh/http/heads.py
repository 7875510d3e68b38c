"""The heads of a WSGI app's answers, as gunicorn writes them: the same lines in the same order. Pure.

An answer is whole when it goes out, so its length is always told, and is what the body has. Fields that are a
connection's business are the server's to say: an app's are dropped. What would break the framing is a ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

KEPT: Final = 1024  # lines that are remembered: an app says the same few again and again, but for what clients bring in

_STATUS: Final = re.compile(r"[1-5][0-9]{2} [\t \x21-\x7e\x80-\xff]*")
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[\t \x21-\x7e\x80-\xff]*")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_SERVERS: Final = frozenset((
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers", "transfer-encoding",
    "upgrade", "server", "date",
))  # fmt: skip


class Heads:
    """Makes heads. `server` is the value of the Server field."""

    def __init__(self, server: str) -> None:
        self._starts: dict[tuple[int, str], bytes] = {}
        self._lines: dict[tuple[str, str], bytes] = {}
        self._server = server

    def encode(
        self,
        status: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        method: bytes,
        minor: int,
        keep_alive: bool,
        date: bytes,
    ) -> bytes:
        """The whole answer to a request of `method` in HTTP/1.`minor`. `date` is a line. Raises ValueError."""
        start = self._starts.get((minor, status))
        if start is None:
            start = self._start(minor, status)
        pieces = [start, date, b"Connection: keep-alive\r\n" if keep_alive else b"Connection: close\r\n"]
        lines = self._lines
        length = ""
        for pair in headers:
            line = lines.get(pair)
            if line is None:
                name, value = pair
                if name.lower() == "content-length":
                    length = value
                    if status.startswith(("204", "1")):
                        continue  # RFC 9110, 8.6
                    line = b"%b: %b\r\n" % (name.encode("ascii"), value.encode("ascii"))
                else:
                    line = self._line(name, value)
            pieces.append(line)
        bodiless = method == b"HEAD" or status.startswith(("204", "304", "1"))
        if bodiless:
            if length and not _LENGTH.fullmatch(length):
                raise ValueError(f"a length of {length!r}")
            pieces.append(b"\r\n")
        else:
            if not length:
                pieces.append(b"Content-Length: %d\r\n" % len(body))
            elif length != str(len(body)):
                raise ValueError(f"a body of {len(body)} bytes, not {length!r}")
            pieces.append(b"\r\n")
            pieces.append(body)
        return b"".join(pieces)

    def _start(self, minor: int, status: str) -> bytes:
        if not _STATUS.fullmatch(status):
            raise ValueError(f"a status {status!r}")
        start = f"HTTP/1.{minor} {status}\r\nServer: {self._server}\r\n".encode("latin-1")
        if len(self._starts) < KEPT:
            self._starts[minor, status] = start
        return start

    def _line(self, name: str, value: str) -> bytes:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"a field {name!r} that is none")  # without the value, which may be secret
        stripped = value.strip(" \t")
        line = b"" if name.lower() in _SERVERS else f"{name}: {stripped}\r\n".encode("latin-1")
        if len(self._lines) >= KEPT:
            self._lines.clear()  # what clients brought in
        self._lines[name, value] = line
        return line
