"""What is said of requests that are over: the access log's lines, complaints, slow requests, counters. Pure.

Owns which words are said of whom. Where lines go is the concern of whoever gives `add`, who must wait for nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from balancer.measures.accesslog import Stamps, line
from balancer.middle.client_end import ClientEnd
from balancer.middle.passage import Passage
from balancer.middle.service import Service
from hitmesh.http.requests import Request
from hitmesh.logs import Complaints

MOST_TARGET_BYTES: Final = 2048  # of a slow request's target in the log: it may have 8 KiB
NEVER: Final = float("inf")

log = logging.getLogger(__name__)


class Reporter:
    """One worker's. `add` takes a line of the access log, if there is one; `wall` tells seconds since 1970."""

    def __init__(
        self, add: Callable[[bytes], None] | None, *, wall: Callable[[], float], complaints: Complaints | None = None
    ) -> None:
        self._add = add
        self._wall = wall
        self._stamps = Stamps()
        self._complaints = complaints or Complaints(log)
        self._slow_s = NEVER  # from which on a request is said in the log

    def say_slow(self, slow_ms: int) -> None:
        """From now on requests that take longer than this are said in the log; 0: none."""
        self._slow_s = slow_ms / 1000 if slow_ms else NEVER

    def refused(self, client: ClientEnd, request: Request | None, status: int, reason: str) -> None:
        """A request was answered with an error of the client's."""
        client.stats.refused(status)
        log.debug("%s: %s %s", client.address, HTTPStatus(status).value, reason)  # strangers make as many as they like
        if self._add is not None:
            text, referer, agent = _seen(request)
            self._add(
                line(
                    self._stamps.at(self._wall()), client=client.address, request=text, status=status, size=0,
                    referer=referer, agent=agent, reason=reason,
                )
            )  # fmt: skip

    def completed(self, client: ClientEnd, passage: Passage, service: Service, now: float) -> None:
        """An answer went all the way."""
        backend, status = passage.backend, passage.status
        assert backend is not None
        first_byte_s = passage.first_byte_at - passage.connected_at
        total_s = now - passage.began
        stats = backend.stats
        stats.classes[status // 100] += 1
        stats.answered += 1
        stats.bytes_in += passage.bytes_in
        stats.bytes_out += passage.bytes_out
        stats.last_used = now
        stats.queue_s += passage.assigned_at - passage.ready_at
        stats.connect_s += passage.connected_at - passage.assigned_at
        stats.first_byte_s += first_byte_s
        stats.total_s += total_s
        of_service = service.stats
        of_service.first_bytes.observe(first_byte_s)
        of_service.requests.observe(total_s)
        front = client.stats
        front.classes[status // 100] += 1
        front.bytes_out += passage.bytes_out
        if self._add is not None:
            self._log(client, passage, service, "", total_s)
        if total_s >= self._slow_s:
            self._slow(client, passage, service, total_s)

    def failed(
        self, client: ClientEnd, passage: Passage, service: Service, now: float, word: str = "", reason: str = ""
    ) -> None:
        """One ended other than by an answer that went all the way; `reason` says how, `word` of what kind."""
        status = passage.status
        if passage.bytes_out or status == HTTPStatus.SWITCHING_PROTOCOLS:
            client.stats.classes[status // 100] += 1
            client.stats.bytes_out += passage.bytes_out
        if reason:
            request_id = passage.request_id.decode("latin-1")
            self._complaints.warn(
                word, "%s %s: %s %s", client.address, request_id, status, reason,
                fields={"client": client.address, "request_id": request_id, "status": status},
            )  # fmt: skip
        total_s = now - passage.began
        if self._add is not None:
            self._log(client, passage, service, reason, total_s)
        # An upgraded connection lasts for as long as both like, and who has left waits for nothing.
        if total_s >= self._slow_s and status not in (0, HTTPStatus.SWITCHING_PROTOCOLS):
            self._slow(client, passage, service, total_s)

    # --- its own ----------------------------------------------------------------------------

    def _log(self, client: ClientEnd, passage: Passage, service: Service, reason: str, total_s: float) -> None:
        assert self._add is not None
        text, referer, agent = _seen(passage.request)
        self._add(
            line(
                self._stamps.at(self._wall()), client=client.address, request=text, status=passage.status,
                size=passage.bytes_out, referer=referer, agent=agent, route=service.name, backend=passage.with_whom,
                reason=reason, times_s=(*passage.parts_s(), total_s), request_id=passage.request_id,
            )
        )  # fmt: skip

    def _slow(self, client: ClientEnd, passage: Passage, service: Service, total_s: float) -> None:
        """A line about a request that took long, with its parts; of a storm of them one now and then."""
        request = passage.request
        body_s = passage.ready_at - passage.began
        queued_s, connect_s, first_s = passage.parts_s()
        over_s = total_s - body_s - sum(part for part in (queued_s, connect_s, first_s) if part >= 0)
        self._complaints.warn(
            "slow", "slow request",
            fields={
                "method": request.method.decode("latin-1"),
                "host": request.host.decode("latin-1"),
                "target": request.target[:MOST_TARGET_BYTES].decode("latin-1"),
                "status": passage.status,
                "ms": round(total_s * 1000),
                "body_ms": round(body_s * 1000),
                **_times_ms({"waiting": queued_s, "connect": connect_s, "backend": first_s, "answer": over_s}),
                "route": service.name,
                "backend": passage.with_whom,
                "client": client.address,
                "request_id": passage.request_id.decode("latin-1"),
            },
        )  # fmt: skip


def _times_ms(parts_s: Mapping[str, float]) -> dict[str, int]:
    """Those that there were."""
    return {f"{name}_ms": round(part_s * 1000) for name, part_s in parts_s.items() if part_s >= 0}


def _seen(request: Request | None) -> tuple[bytes, bytes, bytes]:
    """The request line, Referer and User-Agent, as far as there was a request."""
    if request is None:
        return b"", b"", b""
    found = {name.lower(): value for name, value in request.fields.pairs if name.lower() in (b"referer", b"user-agent")}
    text = b"%b %b HTTP/1.%d" % (request.method, request.target, request.minor)
    return text, found.get(b"referer", b""), found.get(b"user-agent", b"")
