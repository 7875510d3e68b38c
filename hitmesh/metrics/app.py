"""What a role's admin listener answers, as a WSGI app: GET and HEAD of /metrics, /health and /trace, and nothing else.

    GET /metrics       for Prometheus, or whatever reads OpenMetrics
    GET /health        200 when the role does its work, otherwise 503 and why
    GET /trace?id=     what it remembers of a page, a request or a batch: `id` up to 40 times, and `last`

An error is JSON, {"title", "description"}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from hitmesh.http.access import HEALTH, METHODS, METRICS, TRACE, Access
from hitmesh.http.wsgi import App, Environ
from hitmesh.metrics.text import Answer
from hitmesh.protocol.stations import MAX_ID_CHARS, MAX_IDS, MAX_LAST, Told

HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
_MORE: Final = {401: ("WWW-Authenticate", "Bearer"), 405: ("Allow", ", ".join(METHODS))}

TraceAnswer = Callable[[Sequence[str], int], Told]

_encode = msgspec.json.Encoder().encode


def make_app(
    answer: Callable[[str], Answer], late: Callable[[], str], access: Access, trace: TraceAnswer | None = None
) -> App:
    """The WSGI app. `answer` makes what is told of an `Accept` field; `late` says why the role fails, or nothing.

    `trace` tells what is known of ids, the last so many of each; None: the role handles no batches.
    """

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        refusal = access.refusal(environ)
        if refusal is not None:
            body = _error(refusal.title, refusal.description)
            more = [_MORE[refusal.status]] if refusal.status in _MORE else []
            status = f"{refusal.status} {refusal.title}"
        elif environ["PATH_INFO"] == METRICS:
            body, content_type = answer(environ.get("HTTP_ACCEPT", ""))
            start_response("200 OK", [*HEADERS, ("Content-Type", content_type)])
            return [body]
        elif environ["PATH_INFO"] == HEALTH:
            why = late()
            body = _error("Not healthy", why) if why else b'{"status":"up"}'
            status, more = ("503 Service Unavailable" if why else "200 OK"), []
        elif environ["PATH_INFO"] == TRACE and trace is not None:
            body, status, more = *_traced(trace, environ["QUERY_STRING"]), []
        else:
            body = _error("Not Found", f"there is nothing here; see {METRICS} and {HEALTH}")
            status, more = "404 Not Found", []
        start_response(status, [*HEADERS, *more, ("Content-Type", "application/json")])
        return [body]

    return app


def _traced(trace: TraceAnswer, query: str) -> tuple[bytes, str]:
    """What is told of it, and the answer's status."""
    try:
        ids, last = _asked(query)
    except ValueError as error:
        return _error("Bad Request", str(error)), "400 Bad Request"
    return _encode(trace(ids, last)), "200 OK"


def _asked(query: str) -> tuple[list[str], int]:
    """The ids that are asked for, and how many of each. Raises ValueError, in words."""
    try:
        fields = parse_qs(query, encoding="utf-8", errors="strict", max_num_fields=MAX_IDS + 1)
    except ValueError as error:  # bad UTF-8 too
        raise ValueError(f"at most {MAX_IDS} times id, and last; each in UTF-8, percent-encoded") from error
    ids, last = fields.pop("id", []), fields.pop("last", ["1"])
    if not ids or len(ids) > MAX_IDS or fields:
        raise ValueError(
            f"it takes id, a page, a request's id or a batch's, at most {MAX_IDS} times, and last, a number"
        )
    if any(len(each) > MAX_ID_CHARS for each in ids):
        raise ValueError(f"an id has at most {MAX_ID_CHARS} characters")
    if len(last) > 1 or not re.fullmatch("[0-9]{1,3}", last[0], re.ASCII) or not 1 <= int(last[0]) <= MAX_LAST:
        raise ValueError(f"last is a number from 1 to {MAX_LAST}")
    return ids, int(last[0])


def _error(title: str, description: str) -> bytes:
    return _encode({"title": title, "description": description})
