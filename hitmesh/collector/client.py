"""A client of a worker's WSGI app: each of its requests in the app's words, and what the app says as an answer.

An app that waits for nothing is called where the request came, in the hub; any other in a greenlet of the request's
own; and a HeldAnswer lets go of both until it is released. An app with a `shortcut` is asked that first, for requests
without a body or an Origin, which spares their environment. It must not know what is asked for.

Invariant: nothing in the hub blocks, and no fault of the app's reaches the hub: it is a 500, and the connection's end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_to_bytes

import gevent

from hitmesh.collector.answers import refusal
from hitmesh.collector.body import NO_BODY
from hitmesh.collector.connection import Connection
from hitmesh.collector.front import Front, Shortcut
from hitmesh.http.held_answer import HeldAnswer
from hitmesh.http.requests import Request, RequestFields
from hitmesh.http.wsgi import REQUEST_ID, Environ, field_entries
from hitmesh.hub.link import Stream

_FAULT: Final = HTTPStatus.INTERNAL_SERVER_ERROR
_monotonic = time.monotonic
log = logging.getLogger(__name__)


class Client(Connection):
    """One connection of one."""

    __slots__ = (
        "_began_s", "_entries", "_environ", "_fields", "_headers", "_is_plain", "_request", "_status", "_written",
        "held",
    )  # fmt: skip

    def __init__(self, front: Front, stream: Stream, peer: tuple[str, int]) -> None:
        super().__init__(front, stream, peer)
        self._fields: RequestFields | None = None
        self._entries: Environ = {}  # what all requests with the same field lines have in their environment
        self._is_plain = False  # whether those lines leave a request to the shortcut
        self._environ: Environ | None = None
        self._request: Request | None = None  # the one that is being carried out
        self.held: HeldAnswer | None = None
        """What the app answered it with."""
        self._began_s = 0.0
        self._status = ""
        self._headers: Sequence[tuple[str, str]] = ()
        self._written: list[bytes] | None = None  # by the app's `write`, which hardly any calls

    def begin(self, request: Request) -> None:
        """Ask the app: in the hub, or in a greenlet."""
        front = self.front
        self._request = request
        self._began_s = _monotonic()
        front.began()
        try:
            self._ask(front, request)
        except Exception:
            log.exception("a fault in a request of %s", self.peer[0])
            self._excuse()

    def _ask(self, front: Front, request: Request) -> None:
        if request.fields is not self._fields:
            self._read_fields(request.fields)
        if self._is_plain and front.shortcut is not None and self._is_held(front.shortcut, request):
            return
        path = self.environ()["PATH_INFO"]
        if front.never_waits(path) and 0 <= request.length <= self.reader.pending:
            self._carry_out()
        else:
            gevent.spawn(self._carry_out)

    def _is_held(self, shortcut: Shortcut, request: Request) -> bool:
        held = shortcut(request.method, request.target, self, self._start)
        if held is None:
            return False
        self.held = held
        held.hold(self._released)
        return True

    def _read_fields(self, fields: RequestFields) -> None:
        self._fields = fields
        host, port = self.peer
        peer: Environ = {"REMOTE_ADDR": host, "REMOTE_PORT": str(port)}
        self._entries = entries = {**self.front.base, **peer, **field_entries(fields.pairs)}
        self._is_plain = not fields.length and "HTTP_ORIGIN" not in entries

    def entry(self, name: str) -> str:
        """What the request's field lines, or the worker, put under this name into its environment; nothing else is there."""
        value: str = self._entries.get(name, "")
        if not value and name == REQUEST_ID and self._request is not None:
            return self._request.id.decode("latin-1")
        return value

    def environ(self) -> Environ:
        """The request's environment, made when it is first asked for."""
        if self._environ is not None:
            return self._environ
        request = self._request
        assert request is not None
        self._environ = environ = self._entries.copy()
        target = request.target.decode("latin-1")
        path, _, query = target.partition("?")
        environ["REQUEST_METHOD"] = request.method.decode("latin-1")
        environ["RAW_URI"] = target
        environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
        environ["QUERY_STRING"] = query
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if request.minor else "HTTP/1.0"
        if request.id:
            environ.setdefault(REQUEST_ID, request.id.decode("latin-1"))
        environ["wsgi.input"] = NO_BODY if self.body is None else self.body
        return environ

    def _carry_out(self) -> None:
        try:
            answer = self.front.app(self.environ(), self._start)
            if isinstance(answer, HeldAnswer):
                self.held = answer
                answer.hold(self._released)
                return
            self._answer(answer)
        except Exception:
            log.exception("a fault in a request of %s", self.peer[0])
            self._excuse()
        self.advance()

    def _start(
        self, status: str, headers: Sequence[tuple[str, str]], problem: object = None
    ) -> Callable[[bytes], None]:
        """WSGI's `start_response`. Nothing has gone out yet, so an app may change its mind if it says why."""
        if self._status and problem is None:
            raise AssertionError("the answer has begun already")
        self._status, self._headers = status, headers
        return self._write

    def _write(self, data: bytes) -> None:
        self._written = [*(self._written or ()), data]

    def _released(self) -> None:
        """The held answer's call, from wherever that is: it must not wait, nor raise."""
        assert self.held is not None
        if self.held.waits():
            gevent.spawn(self._give)
        else:
            self._give()

    def _give(self) -> None:
        assert self.held is not None
        try:
            self._answer(self.held)
        except Exception:
            log.exception("a fault in a request of %s", self.peer[0])
            self._excuse()
        self.advance()

    def _answer(self, pieces: Iterable[bytes]) -> None:
        try:
            body = b"".join(pieces)
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
        if self._written is not None:
            body = b"".join((*self._written, body))
        front, request = self.front, self._request
        assert request is not None
        method = request.method
        goes_on = request.keep_alive and not (front.leaving or self.expired or method == b"CONNECT") and self.is_read()
        answer = front.heads.encode(
            self._status, self._headers, body,
            method=method, minor=request.minor, keep_alive=goes_on, date=front.date(),
        )  # fmt: skip
        self._end(self._status)
        self.reply(answer, is_last=not goes_on)

    def _excuse(self) -> None:
        """Answer for an app that raised, or whose answer is none."""
        try:
            if self._request is None:  # it had ended
                self.close_after_bug()
                return
            self._end(str(_FAULT.value))
            self.reply(refusal(_FAULT, "this is a fault of the server's"), is_last=True)
        except Exception:
            log.exception("a fault of the worker's")
            self.close_after_bug()

    def _end(self, status: str) -> None:
        """The request is over."""
        front = self.front
        front.busy -= 1
        front.observe(self, status, self._began_s, _monotonic() - self._began_s)
        self._status, self._headers, self._written = "", (), None
        self._environ = self._request = self.held = None
