"""One request on its way through a backend, and its answer on the way back.

Owns the order of things between a client and an upstream: when a backend is asked for, when the head
goes out, when a body waits for a slow receiver, when a failure may still be tried elsewhere. Both ends
call it; it knows neither sockets nor how a backend is chosen.

A small body is gathered before a backend is asked for, and the beginning of a large one: how slowly it
comes is nobody's affair but its client's. Of a large one the rest streams; while its client is behind,
the exchange rests, which means that its backend may have another request in its place.

Invariant, *never twice*: once the kernel has taken a byte of the request for one backend, it goes
to no other, unless the route says `retry = "idempotent"` and the method is. The answer is then 502
or 504.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from balancer.answers import refusal, retry_after
from balancer.pace import behind_at, paced
from hitmesh.http.chunks import encode_chunk, encode_last
from hitmesh.http.errors import BadMessage
from hitmesh.http.requests import CHUNKED, Request, unexpecting
from hitmesh.http.responses import UNTIL_CLOSE, Response, ResponseReader
from hitmesh.hub.link import BULK_READ_BYTES, READ_BYTES

if TYPE_CHECKING:
    from balancer.backend import Backend
    from balancer.client import Client
    from balancer.service import Service
    from balancer.upstream import Upstream

NEVER: Final = float("inf")
IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))  # RFC 9110, 9.2.2, but TRACE
INTERIM_RESPONSES: Final = 16  # 1xx before an answer; more is a backend that has lost its way
GO_ON: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_monotonic = time.monotonic


class Exchange:
    """`request` of `client`, for `service`."""

    one_way = True  # what is sent, and then what is received
    # Where most exchanges begin; only what differs is set for each (it is made once a request).
    assigned_at = connected_at = first_byte_at = 0.0
    bytes_in = bytes_out = 0  # to the backend, to the client
    body_bytes = 0  # of the request, without its coding
    backend: Backend | None = None
    backend_name = ""  # of the last one that it was with
    upstream: Upstream | None = None
    response: Response | None = None
    request_id = b""
    request_done = False  # all of it is on the way to the backend
    sent = False  # the kernel took a byte of it
    taken = b""  # of its body, read but not sent yet, without its coding
    gathering = False  # its body, before a backend is asked for
    body_due = 0.0  # when patience with its body ends
    resting = False  # its client is behind, and its backend has nothing to do for it
    waiting = False
    wait_reason = ""
    tries = 0
    refused_by: tuple[Backend, ...] = ()
    last_error = last_detail = ""
    interim = 0
    status = 0
    sticky_key: bytes | None = None

    def __init__(self, client: Client, request: Request, service: Service, now: float) -> None:
        self.client = client
        self.request = request
        self.service = service
        self.began = self.ready_at = now  # when its head was here, and when a backend was asked for
        if service.sticky:
            self._stick(service.sticky)

    def gather(self) -> None:
        """Take what there is of the body; ask for a backend once it is whole, or too large for that."""
        client = self.client
        limits = client.traffic.limits
        try:
            size = self._take_body()
        except BadMessage as error:
            self._bad_body(error)
            return
        enough = client.reader.body_done or len(self.taken) >= limits.small_body_bytes
        if enough or self._is_asked_for_by_the_backend() or not client.traffic.gathered(client, len(self.taken)):
            if self.gathering:
                self.gathering = False
                self.ready_at = _monotonic()
            self.service.assign(self)
            return
        now = _monotonic()
        if not self.gathering:
            self.gathering = True
            self.body_due = now + limits.body_s
            if self.request.fields.expects and self.request.minor and not self.taken:
                self.request.fields = unexpecting(self.request.fields)
                client.send(GO_ON)
        else:
            self.body_due = paced(self.body_due, size, now, limits.body_s, limits.least_rate)
        client.deadline = self.body_due

    # --- the service's calls ----------------------------------------------------------------

    def wait(self, wait_s: float, reason: str) -> None:
        """No backend yet. The client's deadline is what ends it."""
        self.waiting = True
        self.wait_reason = reason
        self.client.deadline = self.ready_at + wait_s

    def begin_anew(self) -> None:
        """What was waited for is no more: find the route again."""
        self.waiting = False
        self.client.reroute(self)

    def move(self, service: Service) -> None:
        """Go on at another service, with what was read already."""
        self.service = service
        self.sticky_key = None
        if service.sticky:
            self._stick(service.sticky)
        service.assign(self)

    def connect(self, backend: Backend, upstream: Upstream) -> None:
        """Go to `backend` on a connection that has still to be made."""
        self.assigned_at = now = _monotonic()
        self.backend = backend
        self.upstream = upstream
        self.client.deadline = NEVER
        upstream.deadline = now + self.client.traffic.limits.connect_s
        upstream.open(self)

    def begin(self, backend: Backend, upstream: Upstream) -> None:
        """Go to `backend` on an open connection."""
        self.assigned_at = self.connected_at = _monotonic()
        self.backend = backend
        self.upstream = upstream
        upstream.exchange = self
        self._send_head(self.client, upstream)

    def refuse(self, status: int, word: str, reason: str, detail: str = "", *, retry_s: float = 0.0) -> None:
        """Answer an error, or break off when the answer has begun. `word` is for counting, one of a few.

        `reason` is for the client, which may be anybody, with when to come again; `detail` says for the log where and of
        whom.
        """
        self._leave()
        self.status = status
        client = self.client
        client.exchange = None
        self.service.stats.failed(status, word)
        client.traffic.exchange_over(client, self, word, detail or reason)
        if self.bytes_out:
            client.abort()
        else:
            headers = retry_after(retry_s) if retry_s else ()
            client.answer(refusal(status, reason, headers), self.request, whole=client.reader.body_done)

    def give_up(self) -> None:
        """It has rested for longer than others, and there are too many."""
        self.refuse(408, "slow client", "the client is slow, and too many are")

    # --- the upstream's calls ---------------------------------------------------------------

    def connected(self) -> None:
        """The connection that was waited for is there."""
        self.connected_at = _monotonic()
        assert self.upstream is not None
        self._send_head(self.client, self.upstream)

    def not_connected(self, error: OSError) -> None:
        """Nothing was sent: another backend may have it."""
        backend = self.backend
        assert backend is not None
        backend.stats.connect_errors += 1
        self.last_error = "can't connect to a backend"
        self.last_detail = f"{backend.name}: can't connect: {error.strerror or error}"
        self.client.traffic.connect_failed(backend, str(error.strerror or error))
        self._elsewhere(backend)

    def answered(self, data: bytes) -> None:
        """Bytes from the backend."""
        upstream = self.upstream
        assert upstream is not None
        client = self.client
        reader = upstream.reader
        reader.feed(data)
        response = self.response
        try:
            if response is None:
                request = self.request
                response = reader.next(request.method)
                if response is None:
                    return
                self.first_byte_at = _monotonic()
                if response.status < 200:
                    self._interim(upstream, response)
                    return
                self.response = response
                self.status = response.status
                client.keep_alive = keep_alive = (
                    request.keep_alive
                    and self.request_done
                    and response.length != UNTIL_CLOSE
                    and (request.minor == 1 or response.length != CHUNKED)
                    and not client.traffic.draining
                )
                out = upstream.forwarder.head(response, request.minor, keep_alive) + reader.first
                if response.length < 0:
                    out += self._rest(reader, response)
            else:
                out = self._rest(reader, response)
        except BadMessage as error:
            self._bad_backend(502, "bad answer", "a bad answer", f"a bad answer: {error.message}")
            return
        if out:
            self.bytes_out += len(out)
            if not client.send(out):
                if client.closed:
                    return
                client.await_taker(_monotonic())
                if not reader.body_done:
                    upstream.stop_reading()
                    upstream.deadline = NEVER  # it is the client that is waited for
                    return
        if reader.body_done:
            self._complete(client, upstream, response)
        else:
            upstream.read_bytes = BULK_READ_BYTES
            upstream.deadline = _monotonic() + client.traffic.limits.between_bytes_s

    def backend_ended(self) -> None:
        """The backend sent its last byte."""
        response = self.response
        upstream = self.upstream
        assert upstream is not None
        if response is not None and response.length == UNTIL_CLOSE:
            upstream.reader.body_done = True
            self._complete(self.client, upstream, response)
        else:
            self.backend_lost(ConnectionResetError("closed its connection"))

    def backend_lost(self, error: OSError) -> None:
        """The connection broke with a request on it: whether it was handled, nobody can say."""
        self._bad_backend(502, "no whole answer", f"no whole answer: {error.strerror or error}")

    def backend_drained(self) -> None:
        """The backend is ready for more of the request's body."""
        if not self.request_done:
            self.body_due = _monotonic() + self.client.traffic.limits.body_s  # it had to wait, too
            self.client.start_reading()
            self.more_body()

    # --- the client's calls -----------------------------------------------------------------

    def more_body(self) -> None:
        """There may be more of the request's body."""
        if self.gathering:
            self.gather()
            return
        upstream = self.upstream
        if upstream is None or not self.sent or self.request_done:
            if self.client.reader.pending >= READ_BYTES:
                self.client.stop_reading()
            return
        try:
            size = self._take_body()
        except BadMessage as error:
            self._bad_body(error)
            return
        client, now = self.client, _monotonic()
        limits = client.traffic.limits
        self.body_due = paced(self.body_due, size, now, limits.body_s, limits.least_rate)
        if (
            self.resting and not client.reader.body_done and len(self.taken) < READ_BYTES
            and behind_at(self.body_due, limits.body_s) <= now
        ):  # fmt: skip
            client.deadline = self.body_due  # still behind: its drops are work for the backend, and of no use to it
            return
        out = self._coded_body()
        if out:
            self.bytes_in += len(out)
            upstream.send(out)
            if self.upstream is not upstream or upstream.closed:
                return
        self._await_body(upstream, now)

    def client_drained(self) -> None:
        """The client is ready for more of the answer."""
        upstream = self.upstream
        if upstream is not None and self.response is not None:
            self.go_on()
            client = self.client
            client.deadline = NEVER if self.request_done else self.body_due
            upstream.deadline = _monotonic() + client.traffic.limits.between_bytes_s
            upstream.read_bytes = BULK_READ_BYTES
            upstream.start_reading()

    def rest(self) -> None:
        """The client is behind: meanwhile the backend has nothing to do for it."""
        if not self.resting and self.backend is not None:
            self.resting = True
            self.service.rest(self.backend, self)

    def go_on(self) -> None:
        """The client isn't behind any more."""
        if self.resting and self.backend is not None:
            self.resting = False
            self.service.resume(self.backend, self)

    def abandon(self) -> None:
        """The client is gone."""
        if self.waiting:
            self.waiting = False
            self.service.abandon(self)
        self.client.stats.client_aborts += 1
        if self.backend is not None:
            self.backend.stats.client_aborts += 1
        self._leave()
        self.client.traffic.exchange_over(self.client, self, "gone", "the client went away")

    def timed_out(self) -> None:
        """A deadline of the client's side passed."""
        client = self.client
        if self.waiting:
            self.waiting = False
            self.service.abandon(self)
            service, reason = self.service, self.wait_reason
            retry_s = service.retry_s(time.time())
            self.refuse(503, "waited too long", reason, f"{service.name}: {reason}", retry_s=retry_s)
        elif self.response is not None and client.kept:
            self.refuse(408, "slow client", "the client took nothing of its answer, or too little")
        elif _monotonic() < self.body_due:
            self.rest()
            client.deadline = self.body_due
        else:
            self.refuse(408, "slow client", f"too little of the request's body for {client.traffic.limits.body_s:g} s")

    def tunnel_over(self) -> None:
        """The upgraded connection ended."""
        self._leave()

    def backend_timed_out(self) -> None:
        """A deadline of the backend's side passed."""
        upstream = self.upstream
        assert upstream is not None
        limits = self.client.traffic.limits
        if upstream.connecting:
            self.not_connected(TimeoutError(f"no connection within {limits.connect_s:g} s"))
        elif self.response is None:
            self._bad_backend(504, "time-out", f"no answer within {limits.first_byte_s:g} s")
        else:
            self._bad_backend(504, "time-out", f"nothing more of the answer for {limits.between_bytes_s:g} s")

    # --- its own ----------------------------------------------------------------------------

    def _stick(self, sticky: str) -> None:
        self.sticky_key = self.request.target.partition(b"?")[0] if sticky == "page" else self.client.address.encode()

    def _send_head(self, client: Client, upstream: Upstream) -> None:
        request = self.request
        traffic = client.traffic
        if not self.request_id:
            given = client.trusted and request.fields.known.get(b"x-request-id")
            self.request_id = given[0] if given else traffic.next_id()
        try:
            out = client.forwarder.head(request, self.request_id)
        except BadMessage as error:
            self.refuse(error.status, "bad head", error.message)
            return
        if not request.length:
            self.request_done = True
        else:
            try:
                self._take_body()
            except BadMessage as error:
                self._bad_body(error)
                return
            taken = self.taken
            out += self._coded_body()
        if not upstream.first_send(out):  # no byte was taken
            assert self.backend is not None
            if request.length:
                self.taken = taken
            if not upstream.served:
                self.not_connected(ConnectionResetError("closed its connection at once"))
                return
            self.backend.forget()  # it had gone stale, and so, likely, have the others
            self._elsewhere(None)
            return
        self.bytes_in = len(out)
        self.sent = True
        upstream.served += 1
        if self.request_done:
            upstream.deadline = self.connected_at + traffic.limits.first_byte_s
            client.deadline = NEVER
        else:
            client.read_bytes = BULK_READ_BYTES
            self.body_due = self.connected_at + traffic.limits.body_s
            self._await_body(upstream, self.connected_at)
        if client.gathered:
            traffic.gathered(client, 0)

    def _is_asked_for_by_the_backend(self) -> bool:
        """A client waits to be told that a large body is wanted, which is for the backend to say."""
        request = self.request
        return (
            bool(request.minor)
            and request.fields.expects
            and request.length > self.client.traffic.limits.small_body_bytes
        )

    def _await_body(self, upstream: Upstream, now: float) -> None:
        """What is here of the body is on its way: who is waited for now, and how long?"""
        client = self.client
        limits = client.traffic.limits
        if self.request_done:
            self.go_on()
            upstream.deadline = now + limits.first_byte_s
            client.deadline = NEVER
        elif upstream.kept:
            self.go_on()
            client.stop_reading()
            client.deadline = NEVER
            upstream.deadline = now + limits.between_bytes_s
        else:
            if self.response is None:
                upstream.deadline = NEVER
            client.deadline = behind_at(self.body_due, limits.body_s)
            if client.deadline > now:
                self.go_on()
            else:
                client.deadline = self.body_due
            client.start_reading()

    def _take_body(self) -> int:
        """Take what there is of the body: how many bytes more. Raises BadMessage."""
        reader = self.client.reader
        if reader.body_done:
            return 0
        data = reader.body()
        self.taken = self.taken + data if self.taken else data
        self.body_bytes += len(data)
        most = self.client.traffic.limits.body_bytes
        if most and self.body_bytes > most:
            raise BadMessage(f"more than {most} bytes", status=413)
        return len(data)

    def _coded_body(self) -> bytes:
        """What was taken, as the backend gets it."""
        data, self.taken = self.taken, b""
        reader = self.client.reader
        self.request_done = reader.body_done
        if self.request.length != CHUNKED:
            return data
        out = encode_chunk(data) if data else b""
        if reader.body_done:
            out += encode_last(reader.trailers)
        return out

    def _bad_body(self, error: BadMessage) -> None:
        self.refuse(error.status, "bad body", f"the request's body: {error.message}")

    def _interim(self, upstream: Upstream, response: Response) -> None:
        """The head of an interim answer: pass it on, and look at what is behind it. Raises BadMessage."""
        if response.status == 101:
            self._tunnel(upstream, response)
            return
        self.interim += 1
        if self.interim > INTERIM_RESPONSES:
            raise BadMessage("too many interim responses")
        if self.request.minor:  # RFC 9110, 15.2: not for HTTP/1.0
            self.client.send(upstream.forwarder.head(response, 1, True))
        if upstream.exchange is self:
            self.answered(b"")

    def _rest(self, reader: ResponseReader, response: Response) -> bytes:
        """What there is of the answer's body, as the client gets it. Raises BadMessage."""
        data = reader.body()
        if response.length != CHUNKED or not self.request.minor:
            return data  # to HTTP/1.0 the end of the connection is its end
        out = encode_chunk(data) if data else b""
        if reader.body_done:
            out += encode_last(reader.trailers)
        return out

    def _tunnel(self, upstream: Upstream, response: Response) -> None:
        asked = self.request.fields.upgrade
        if not asked or not self.request.minor or response.fields.upgrade != asked:
            raise BadMessage("a protocol that nobody asked for")
        client = self.client
        self.status = 101
        self.response = response
        client.send(upstream.forwarder.head(response, 1, True, upgrade=asked))
        if not client.closed:
            client.tunnel(upstream, self)

    def _complete(self, client: Client, upstream: Upstream, response: Response) -> None:
        now = _monotonic()
        if self.resting:
            self.go_on()
        backend = upstream.backend
        stats = backend.stats
        stats.classes[self.status // 100] += 1
        stats.answered += 1
        stats.bytes_in += self.bytes_in
        stats.bytes_out += self.bytes_out
        stats.last_used = now
        stats.queue_s += self.assigned_at - self.ready_at
        stats.connect_s += self.connected_at - self.assigned_at
        first_byte_s = self.first_byte_at - self.connected_at
        total_s = now - self.began
        stats.first_byte_s += first_byte_s
        stats.total_s += total_s
        of_service = self.service.stats
        of_service.first_bytes.observe(first_byte_s)
        of_service.requests.observe(total_s)
        self.upstream = None
        if (
            response.keep_alive and self.request_done and upstream.reading
            and not (upstream.reader.pending or upstream.kept)
        ):  # fmt: skip
            upstream.read_bytes = READ_BYTES
            self.service.done(backend, upstream, now)
        else:
            upstream.drop()
            self.service.done(backend, None, now)
        client.exchange = None
        front = client.stats
        front.classes[self.status // 100] += 1
        front.bytes_out += self.bytes_out
        if client.traffic.logs:
            client.traffic.log_exchange(client, self, "")
        if total_s >= client.traffic.slow_s:
            client.traffic.slow(client, self, total_s)
        client.finished(now)

    def _bad_backend(self, status: int, word: str, reason: str, detail: str = "") -> None:
        """The backend failed with the request at it."""
        backend = self.backend
        assert backend is not None
        backend.stats.response_errors += 1
        backend.stats.server_aborts += bool(self.bytes_out)
        self.client.traffic.answer_failed(backend, detail or reason)
        request = self.request
        if (
            self.service.route.retry == "idempotent"
            and request.method in IDEMPOTENT
            and not request.length
            and not self.bytes_out
            and self.tries + 1 < self.client.traffic.limits.tries  # or one that breaks backends would break them all
        ):
            self.last_error, self.last_detail = reason, f"{backend.name}: {detail or reason}"
            self.response = None
            self._elsewhere(backend)
            return
        self.refuse(status, word, reason, f"{backend.name}: {detail or reason}")

    def _elsewhere(self, refused_by: Backend | None) -> None:
        """Not a byte is with the backend, or the route allows it: try another, or the same one anew."""
        self._leave()
        self.sent = False
        if refused_by is None:
            self.service.assign(self)
            return
        self.tries += 1
        self.refused_by = (*self.refused_by, refused_by)
        refused_by.stats.retries += 1
        if self.tries >= self.client.traffic.limits.tries and not self.service.route.hold:
            self.refuse(502, "can't connect", self.last_error, self.last_detail)
        else:
            self.service.assign_again(self)

    def _leave(self) -> None:
        """Give the backend back; its connection is of no use any more."""
        self.go_on()
        mine, backend = self.upstream, self.backend
        self.upstream = self.backend = None
        if backend is not None:
            self.backend_name = backend.name
        if mine is not None:
            mine.drop()
        if backend is not None:
            self.service.done(backend, None, 0.0)
