"""What a role's admin listener answers, as a WSGI app: GET and HEAD of /metrics and /health, and nothing else.

    GET /metrics       for Prometheus, or whatever reads OpenMetrics
    GET /health        200 when the role does its work, otherwise 503 and why

An error is JSON, {"title", "description"}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from hitmesh.http.access import HEALTH, METHODS, METRICS, Access
from hitmesh.http.wsgi import App, Environ
from hitmesh.metrics.text import Answer

HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
_MORE: Final = {401: ("WWW-Authenticate", "Bearer"), 405: ("Allow", ", ".join(METHODS))}

_encode = msgspec.json.Encoder().encode


def make_app(answer: Callable[[str], Answer], late: Callable[[], str], access: Access) -> App:
    """The WSGI app. `answer` makes what is told of an `Accept` field; `late` says why the role fails, or nothing."""

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
        else:
            body = _error("Not Found", f"there is nothing here; see {METRICS} and {HEALTH}")
            status, more = "404 Not Found", []
        start_response(status, [*HEADERS, *more, ("Content-Type", "application/json")])
        return [body]

    return app


def _error(title: str, description: str) -> bytes:
    return _encode({"title": title, "description": description})
