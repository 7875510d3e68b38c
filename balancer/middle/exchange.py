"""One request on its way through a backend, and its answer on the way back. Pure.

Owns the order of things between a client and an upstream: when a backend is asked for, when the head
goes out, when a body waits for a slow receiver, when a failure may still be tried elsewhere, and until when
either side has time. Both ends call it; it knows neither sockets nor how a backend is chosen.

    gathering ──> waiting ──> connecting ──> sending ──> awaiting ──> answering ──> over
     its body      for a         to it       its body      the          and
                  backend                                 answer     tunnelling
        └────────────┴───────────┴──────────────┴───────────┴────────────┴──> refused, or abandoned

A small body is gathered before a backend is asked for, and the beginning of a large one: how slowly it
comes is nobody's affair but its client's. Of a large one the rest streams; while its client is behind,
the exchange rests, which means that its backend may have another request in its place.

Invariant, *never twice*: once the kernel has taken a byte of the request for one backend, it goes
to no other, unless the route says `retry = "idempotent"` and the method is. The answer is then 502
or 504.
"""

from __future__ import annotations

from typing import Final

from balancer.middle.answers import refusal, retry_after
from balancer.middle.backend import Backend
from balancer.middle.body import Body
from balancer.middle.client_end import ClientEnd
from balancer.middle.forward import response_head
from balancer.middle.passage import Passage
from balancer.middle.service import Service
from balancer.middle.traffic import Traffic
from balancer.middle.upstream import NEVER, Upstream
from hitmesh.http.chunks import encode_chunk, encode_last
from hitmesh.http.errors import BadMessage
from hitmesh.http.requests import CHUNKED, Request, unexpecting
from hitmesh.http.responses import UNTIL_CLOSE, Response, ResponseReader
from hitmesh.http.wire import BULK_READ_BYTES, READ_BYTES

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))  # RFC 9110, 9.2.2, but TRACE
INTERIM_RESPONSES: Final = 16  # 1xx before an answer; more is a backend that has lost its way
GO_ON: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange(Passage):
    """`request` of `client`, for `service`. `now` is monotonic, everywhere."""

    upstream: Upstream | None = None
    response: Response | None = None
    body: Body | None = None  # of a request that has one
    gathering: bool = False  # its body, before a backend is asked for
    request_done: bool = False  # all of it is on the way to the backend
    sent: bool = False  # the kernel took a byte of it
    resting: bool = False  # its client is behind, and its backend has nothing to do for it
    wait_reason: str = ""
    tries: int = 0
    interim: int = 0

    def __init__(self, client: ClientEnd, request: Request, service: Service, traffic: Traffic, now: float) -> None:
        self.client = client
        self.request = request
        self.service = service
        self.traffic = traffic
        self.began = now
        self.ready_at = now
        if service.sticky:
            self._stick(service.sticky)

    def gather(self, now: float) -> None:
        """Of a request with a body: ask for a backend after as much of it as is waited for."""
        self.body = Body(self.client.reader, self.request.length)
        self._gather(self.body, now)

    # --- the service's calls ----------------------------------------------------------------

    def wait(self, wait_s: float, reason: str) -> None:
        """No backend yet."""
        self.wait_reason = reason
        self._until(self.ready_at + wait_s, NEVER)

    def begin_anew(self, now: float) -> None:
        """What was waited for is no more: find the route again."""
        self.client.reroute(now)

    def move(self, service: Service, now: float) -> None:
        """Go on at another service, with what was read already."""
        self.service = service
        self.sticky_key = None
        if service.sticky:
            self._stick(service.sticky)
        service.assign(self, now)

    def connect(self, backend: Backend, upstream: Upstream, now: float) -> None:
        """Go to `backend` on a connection that is being made."""
        self.assigned_at = now
        self.backend = backend
        self.upstream = upstream
        upstream.carried = self
        self._until(NEVER, now + self.traffic.limits.connect_s)

    def begin(self, backend: Backend, upstream: Upstream, now: float) -> None:
        """Go to `backend` on an open connection."""
        self.assigned_at = now
        self.connected_at = now
        self.backend = backend
        self.upstream = upstream
        upstream.carried = self
        self._send_head(upstream, now)

    def refuse(
        self, status: int, word: str, reason: str, now: float, detail: str = "", *, retry_s: float = 0.0
    ) -> None:
        """Answer an error, or break off when the answer has begun."""
        self._leave(now)
        self.status = status
        client = self.client
        self.service.stats.failed(status, word)
        self.traffic.reporter.failed(client, self, self.service, now, word, detail or reason)
        if self.bytes_out:
            client.abort()
        else:
            headers = retry_after(retry_s) if retry_s else ()
            client.answer(refusal(status, reason, headers), self.request, whole=client.reader.body_done, now=now)

    def give_up(self, now: float) -> None:
        """It has rested for longer than others, and there are too many."""
        self.refuse(408, "slow client", "the client is slow, and too many are", now)

    def close_after_bug(self, now: float) -> None:
        """It raised in the middle of somebody else's affairs."""
        self.client.close_after_bug(now)

    # --- the upstream's calls ---------------------------------------------------------------

    def connected(self, now: float) -> None:
        """The connection that was waited for is there."""
        self.connected_at = now
        assert self.upstream is not None
        self._send_head(self.upstream, now)

    def not_connected(self, error: OSError, now: float) -> None:
        """Nothing was sent: another backend may have it."""
        backend = self.backend
        assert backend is not None
        said = str(error.strerror or error)
        backend.stats.connect_errors += 1
        self.last_error = "can't connect to a backend"
        self.last_detail = f"{backend.name}: can't connect: {said}"
        backend.suspicion.unreachable(said)
        self._elsewhere(backend, now)

    def answered(self, data: bytes, now: float) -> None:
        """Bytes from the backend."""
        upstream = self.upstream
        assert upstream is not None
        reader = upstream.reader
        reader.feed(data)
        response = self.response
        try:
            if response is None:
                request = self.request
                response = reader.next(request.method)
                if response is None:
                    return
                self.first_byte_at = now
                if response.status < 200:
                    self._interim(upstream, response, now)
                    return
                self.response = response
                self.status = response.status
                client = self.client
                client.keep_alive = keep_alive = (
                    request.keep_alive
                    and self.request_done
                    and response.length != UNTIL_CLOSE
                    and (request.minor == 1 or response.length != CHUNKED)
                    and not self.traffic.draining
                )
                out = response_head(response, request.minor, keep_alive) + reader.first
                if response.length < 0:
                    out += self._rest(reader, response)
            else:
                out = self._rest(reader, response)
        except BadMessage as error:
            self._bad_backend(502, "bad answer", "a bad answer", now, f"a bad answer: {error.message}")
            return
        if out:
            self.bytes_out += len(out)
            client = self.client
            if not client.wire.send(out):
                if client.wire.closed:
                    return
                if not reader.body_done:
                    upstream.wire.stop_reading()
                    self._until(client.taker_deadline(now), NEVER)  # it is the client that is waited for
                    return
        if reader.body_done:
            self._complete(upstream, response, now)
        else:
            upstream.wire.read_bytes = BULK_READ_BYTES
            self._until(self.client.deadline, now + self.traffic.limits.between_bytes_s)

    def backend_ended(self, now: float) -> None:
        """The backend sent its last byte."""
        response, upstream = self.response, self.upstream
        assert upstream is not None
        if response is not None and response.length == UNTIL_CLOSE:
            upstream.reader.body_done = True
            self._complete(upstream, response, now)
        else:
            self.backend_lost(ConnectionResetError("closed its connection"), now)

    def backend_lost(self, error: OSError, now: float) -> None:
        """The connection broke with a request on it: whether it was handled, nobody can say."""
        self._bad_backend(502, "no whole answer", f"no whole answer: {error.strerror or error}", now)

    def backend_drained(self, now: float) -> None:
        """The backend is ready for more of the request's body."""
        if not self.request_done:
            assert self.body is not None
            self.body.await_anew(now, self.traffic.limits)  # it had to wait, too
            self.client.wire.start_reading()
            self.more_body(now)

    def backend_timed_out(self, now: float) -> None:
        """A deadline of the backend's side passed."""
        upstream = self.upstream
        assert upstream is not None
        limits = self.traffic.limits
        if upstream.connecting:
            self.not_connected(TimeoutError(f"no connection within {limits.connect_s:g} s"), now)
        elif self.response is None:
            self._bad_backend(504, "time-out", f"no answer within {limits.first_byte_s:g} s", now)
        else:
            self._bad_backend(504, "time-out", f"nothing more of the answer for {limits.between_bytes_s:g} s", now)

    # --- the client's calls -----------------------------------------------------------------

    def more_body(self, now: float) -> None:
        """There may be more of the request's body."""
        body = self.body
        assert body is not None
        if self.gathering:
            self._gather(body, now)
            return
        client, upstream = self.client, self.upstream
        if upstream is None or not self.sent or self.request_done:
            if client.reader.pending >= READ_BYTES:
                client.wire.stop_reading()
            return
        limits = self.traffic.limits
        try:
            size = body.take(limits.body_bytes)
        except BadMessage as error:
            self._bad_body(error, now)
            return
        body.came(size, now, limits)
        if self.resting and not body.is_whole and len(body.taken) < READ_BYTES and body.behind_at(limits) <= now:
            # Still behind: its drops are work for the backend, and of no use to it.
            self._until(body.due, upstream.deadline)
            return
        self.request_done = body.is_whole
        out = body.coded()
        if out:
            self.bytes_in += len(out)
            upstream.wire.send(out)
            if self.upstream is not upstream or upstream.wire.closed:
                return
        self._await_body(upstream, body, now)

    def client_drained(self, now: float) -> None:
        """The client is ready for more of the answer."""
        upstream = self.upstream
        if upstream is not None and self.response is not None:
            self.go_on()
            until = NEVER if self.request_done or self.body is None else self.body.due
            self._until(until, now + self.traffic.limits.between_bytes_s)
            upstream.wire.read_bytes = BULK_READ_BYTES
            upstream.wire.start_reading()

    def rest(self, now: float) -> None:
        """The client is behind: meanwhile the backend has nothing to do for it."""
        if not self.resting and self.backend is not None:
            self.resting = True
            self.service.rest(self.backend, self, now)

    def go_on(self) -> None:
        """The client isn't behind any more."""
        if self.resting and self.backend is not None:
            self.resting = False
            self.service.resume(self.backend, self)

    def abandon(self, now: float) -> None:
        """The client is gone."""
        if self.waiting:
            self.service.abandon(self)
        self.client.stats.client_aborts += 1
        if self.backend is not None:
            self.backend.stats.client_aborts += 1
        self._leave(now)
        self.traffic.reporter.failed(self.client, self, self.service, now, "gone", "the client went away")

    def timed_out(self, now: float) -> None:
        """A deadline of the client's side passed."""
        body, service = self.body, self.service
        if self.waiting:
            service.abandon(self)
            reason = self.wait_reason
            detail = f"{service.name}: {reason}"
            self.refuse(503, "waited too long", reason, now, detail, retry_s=service.retry_s())
        elif self.response is not None and self.client.wire.kept:
            self.refuse(408, "slow client", "the client took nothing of its answer, or too little", now)
        elif body is not None and now < body.due:
            self._until(body.due, self.upstream.deadline if self.upstream is not None else NEVER)
            self.rest(now)
        else:
            reason = f"too little of the request's body for {self.traffic.limits.body_s:g} s"
            self.refuse(408, "slow client", reason, now)

    def tunnel_over(self, now: float) -> None:
        """The upgraded connection ended."""
        self._leave(now)
        self.traffic.reporter.failed(self.client, self, self.service, now)

    # --- its own: the request ---------------------------------------------------------------

    def _until(self, client_until: float, backend_until: float) -> None:
        """Until when either side has time; NEVER for one that isn't waited for. All deadlines of an exchange are set here."""
        self.client.deadline = client_until
        if self.upstream is not None:
            self.upstream.deadline = backend_until

    def _stick(self, sticky: str) -> None:
        self.sticky_key = self.request.target.partition(b"?")[0] if sticky == "page" else self.client.address.encode()

    def _gather(self, body: Body, now: float) -> None:
        """Take what there is of the body; ask for a backend once it is whole, or too large for that."""
        client, request = self.client, self.request
        limits = self.traffic.limits
        try:
            size = body.take(limits.body_bytes)
        except BadMessage as error:
            self._bad_body(error, now)
            return
        # A client waits to be told that a large body is wanted: that is for the backend to say.
        is_asked_for = request.minor and request.fields.expects and request.length > limits.small_body_bytes
        enough = body.is_whole or len(body.taken) >= limits.small_body_bytes
        if enough or is_asked_for or not self.traffic.gathered(client, len(body.taken)):
            if self.gathering:
                self.gathering = False
                self.ready_at = now
            self.service.assign(self, now)
            return
        if not self.gathering:
            self.gathering = True
            body.await_anew(now, limits)
            if request.fields.expects and request.minor and not body.taken:
                request.fields = unexpecting(request.fields)
                client.wire.send(GO_ON)
                if client.wire.closed:
                    return
        else:
            body.came(size, now, limits)
        self._until(body.due, NEVER)

    def _send_head(self, upstream: Upstream, now: float) -> None:
        client, request, body = self.client, self.request, self.body
        if not self.request_id:
            self.request_id = (request.id if client.trusted else b"") or self.traffic.next_id()
        try:
            out = client.forwarder.head(request, self.request_id)
        except BadMessage as error:
            self.refuse(error.status, "bad head", error.message, now)
            return
        if body is None:
            self.request_done = True
            taken = b""
        else:
            try:
                body.take(self.traffic.limits.body_bytes)
            except BadMessage as error:
                self._bad_body(error, now)
                return
            taken = body.taken
            self.request_done = body.is_whole
            out += body.coded()
        if not upstream.wire.first_send(out):  # no byte was taken
            if body is not None:
                body.taken = taken
            if not upstream.served:
                self.not_connected(ConnectionResetError("closed its connection at once"), now)
                return
            assert self.backend is not None
            self.backend.forget()  # it had gone stale, and so, likely, have the others
            self._elsewhere(None, now)
            return
        self.bytes_in = len(out)
        self.sent = True
        upstream.served += 1
        if body is None or self.request_done:
            self._until(NEVER, now + self.traffic.limits.first_byte_s)
        else:
            client.wire.read_bytes = BULK_READ_BYTES
            body.await_anew(now, self.traffic.limits)
            self._await_body(upstream, body, now)
        if client.gathered:
            self.traffic.gathered(client, 0)

    def _await_body(self, upstream: Upstream, body: Body, now: float) -> None:
        """What is here of the body is on its way: who is waited for now, and how long?"""
        client, limits = self.client, self.traffic.limits
        if self.request_done:
            self.go_on()
            self._until(NEVER, now + limits.first_byte_s)
        elif upstream.wire.kept:
            self.go_on()
            client.wire.stop_reading()
            self._until(NEVER, now + limits.between_bytes_s)
        else:
            until = body.behind_at(limits)
            if until > now:
                self.go_on()
            else:
                until = body.due
            self._until(until, NEVER if self.response is None else upstream.deadline)
            client.wire.start_reading()

    def _bad_body(self, error: BadMessage, now: float) -> None:
        self.refuse(error.status, "bad body", f"the request's body: {error.message}", now)

    # --- its own: the answer ----------------------------------------------------------------

    def _interim(self, upstream: Upstream, response: Response, now: float) -> None:
        """The head of an interim answer: pass it on, and look at what is behind it. Raises BadMessage."""
        if response.status == 101:
            self._tunnel(upstream, response, now)
            return
        self.interim += 1
        if self.interim > INTERIM_RESPONSES:
            raise BadMessage("too many interim responses")
        if self.request.minor:  # RFC 9110, 15.2: not for HTTP/1.0
            self.client.wire.send(response_head(response, 1, True))
        if upstream.carried is self:
            self.answered(b"", now)

    def _rest(self, reader: ResponseReader, response: Response) -> bytes:
        """What there is of the answer's body, as the client gets it. Raises BadMessage."""
        data = reader.body()
        if response.length != CHUNKED or not self.request.minor:
            return data  # to HTTP/1.0 the end of the connection is its end
        out = encode_chunk(data) if data else b""
        if reader.body_done:
            out += encode_last(reader.trailers)
        return out

    def _tunnel(self, upstream: Upstream, response: Response, now: float) -> None:
        asked = self.request.fields.upgrade
        if not asked or not self.request.minor or response.fields.upgrade != asked:
            raise BadMessage("a protocol that nobody asked for")
        client = self.client
        self.status = 101
        self.response = response
        client.wire.send(response_head(response, 1, True, upgrade=asked))
        if not client.wire.closed:
            client.tunnel(upstream, now)

    def _complete(self, upstream: Upstream, response: Response, now: float) -> None:
        client, backend = self.client, self.backend
        assert backend is not None
        if self.resting:
            self.go_on()
        self.traffic.reporter.completed(client, self, self.service, now)
        self.upstream = None
        wire = upstream.wire
        if response.keep_alive and self.request_done and wire.reading and not (upstream.reader.pending or wire.kept):
            wire.read_bytes = READ_BYTES
            self.service.done(backend, upstream, now)
        else:
            backend.drop(upstream)
            self.service.done(backend, None, now)
        client.finished(now)

    # --- its own: failures ------------------------------------------------------------------

    def _bad_backend(self, status: int, word: str, reason: str, now: float, detail: str = "") -> None:
        """The backend failed with the request at it."""
        backend = self.backend
        assert backend is not None
        detail = detail or reason
        backend.stats.response_errors += 1
        backend.stats.server_aborts += bool(self.bytes_out)
        backend.suspicion.suspect(detail)
        request = self.request
        if (
            self.service.route.retry == "idempotent"
            and request.method in IDEMPOTENT
            and not request.length
            and not self.bytes_out
            and self.tries + 1 < self.traffic.limits.tries  # or one that breaks backends would break them all
        ):
            self.last_error, self.last_detail = reason, f"{backend.name}: {detail}"
            self.response = None
            self._elsewhere(backend, now)
            return
        self.refuse(status, word, reason, now, f"{backend.name}: {detail}")

    def _elsewhere(self, refused_by: Backend | None, now: float) -> None:
        """Not a byte is with the backend, or the route allows it: try another, or the same one anew."""
        self._leave(now)
        self.sent = False
        if refused_by is None:
            self.service.assign(self, now)
            return
        self.tries += 1
        self.refused_by = (*self.refused_by, refused_by)
        refused_by.stats.retries += 1
        if self.tries >= self.traffic.limits.tries and not self.service.route.hold:
            self.refuse(502, "can't connect", self.last_error, now, self.last_detail)
        else:
            self.service.assign_again(self, now)

    def _leave(self, now: float) -> None:
        """Give the backend back; its connection is of no use any more."""
        self.go_on()
        mine, backend = self.upstream, self.backend
        self.upstream = self.backend = None
        if backend is not None:
            self.backend_name = backend.name
            if mine is not None:
                backend.drop(mine)
            self.service.done(backend, None, now)
