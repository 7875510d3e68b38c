"""What a dashboard answers, as a WSGI app: GET and HEAD only, nothing that changes anything.

It asks `Provider` for all that it shows, and knows nothing of where that comes from, nor of sockets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import falcon
import msgspec
from falcon import Request, Response

from hitmesh.dashboard.shelf import PAGE
from hitmesh.http.access import HEALTH, METHODS, METRICS, Access
from hitmesh.http.files import File, is_known
from hitmesh.metrics.text import Answer
from hitmesh.protocol.names import is_name
from hitmesh.protocol.pages import MAX_PAGE_BYTES

HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    # Scripts and styles are files of ours; nothing inline, nothing from elsewhere.
    (
        "Content-Security-Policy",
        (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    ),
)
CHALLENGE: Final = 'Basic realm="hitmesh dashboard", charset="UTF-8"'
SOON_S: Final = "5"  # that whoever finds all seats taken should wait
_MAX_QUERY_CHARS: Final = 3 * MAX_PAGE_BYTES + 100  # a page, percent-encoded

_encode = msgspec.json.Encoder().encode


class Provider(Protocol):
    """What is shown."""

    def health(self) -> str:
        """Why it can't do its work; empty when it can."""

    def status(self) -> bytes:
        """The status as JSON; empty while there is none yet."""

    def events(self) -> Iterable[bytes] | None:
        """The stream, with `close` at its end; None: all seats are taken."""

    def history(self, dc: str, name: str) -> Any | None:
        """The reasons behind an instance's bars, or in words who else knows them; None: nobody knows it."""

    def page(self, page: str) -> Any | None:
        """One page; None: nobody knows it."""

    def metrics(self, accept: str) -> Answer:
        """For Prometheus, in the form that the field `Accept` asks for."""


class _Guard:
    def __init__(self, access: Access) -> None:
        self._access = access

    def process_request(self, req: Request, resp: Response) -> None:
        """Refuse whom `Access` refuses."""
        resp.set_header("Cache-Control", "no-store")
        resp.set_headers(HEADERS)
        refusal = self._access.refusal(req.env)
        if refusal is not None:
            headers = {401: {"WWW-Authenticate": CHALLENGE}, 405: {"Allow": ", ".join(METHODS)}}
            raise falcon.HTTPError(
                refusal.status,
                title=refusal.title,
                description=refusal.description,
                headers=headers.get(refusal.status, {}),
            )
        if len(req.query_string) > _MAX_QUERY_CHARS:
            raise falcon.HTTPError(414, title="URI Too Long", description="what follows the question mark is too long")


class _Health:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def on_get(self, req: Request, resp: Response) -> None:
        """200, or 503 and the reason."""
        reason = self._provider.health()
        resp.status = falcon.HTTP_503 if reason else falcon.HTTP_200
        _say(resp, {"status": "failing", "reason": reason} if reason else {"status": "up"})


class _Status:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def on_get(self, req: Request, resp: Response) -> None:
        """All of it."""
        resp.data = self._provider.status()
        resp.content_type = falcon.MEDIA_JSON
        if not resp.data:
            raise _unavailable("nothing is known yet: it has just started")


class _Events:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def on_get(self, req: Request, resp: Response) -> None:
        """All of it, and then what changes."""
        _as_stream(resp)
        stream = self._provider.events()
        if stream is None:
            raise _unavailable("as many listen as may; /status.json can be asked all the same")
        resp.stream = stream

    def on_head(self, req: Request, resp: Response) -> None:
        """What it would be."""
        _as_stream(resp)


class _History:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def on_get(self, req: Request, resp: Response) -> None:
        """The reasons behind one instance's bars."""
        dc, name = (req.get_param(key, required=True) for key in ("dc", "name"))
        if not (is_name(dc) and is_name(name)):
            raise falcon.HTTPBadRequest(
                title="Bad name", description="dc and name are a datacenter's and an instance's"
            )
        found = self._provider.history(dc, name)
        if found is None or isinstance(found, str):
            raise falcon.HTTPNotFound(title="Not Found", description=found or f"nobody here knows {name} of {dc}")
        _say(resp, found)


class _Page:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def on_get(self, req: Request, resp: Response) -> None:
        """One page."""
        page = req.get_param("page", required=True)
        if len(page.encode("utf-8", "surrogatepass")) > MAX_PAGE_BYTES:
            raise falcon.HTTPBadRequest(title="Bad page", description=f"a page has {MAX_PAGE_BYTES} bytes at most")
        found = self._provider.page(page)
        if found is None:
            raise falcon.HTTPNotFound(title="Not Found", description="nobody here knows this page")
        _say(resp, found)


class _Metrics:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def on_get(self, req: Request, resp: Response) -> None:
        """For Prometheus."""
        resp.data, resp.content_type = self._provider.metrics(req.get_header("Accept", default=""))


class _Files:
    def __init__(self, files: Mapping[str, File]) -> None:
        self._files = files

    def on_get(self, req: Request, resp: Response, name: str = PAGE) -> None:
        """One of the page's files."""
        file = self._files.get(name)
        if file is None:
            raise falcon.HTTPNotFound(title="Not Found", description="there is no such file")
        resp.set_header("Cache-Control", "no-cache")
        resp.set_header("ETag", file.tag)
        if is_known(file.tag, req.get_header("If-None-Match", default="")):
            resp.status = falcon.HTTP_304
            return
        resp.data = file.data
        resp.content_type = file.type


def make_app(provider: Provider, files: Mapping[str, File], access: Access) -> falcon.App[Request, Response]:
    """The WSGI app."""
    app = falcon.App(middleware=[_Guard(access)])
    app.req_options.keep_blank_qs_values = True
    app.add_route("/", _Files(files))
    app.add_route("/static/{name}", _Files(files))
    app.add_route("/status.json", _Status(provider))
    app.add_route("/events", _Events(provider))
    app.add_route("/history.json", _History(provider))
    app.add_route("/page.json", _Page(provider))
    app.add_route(METRICS, _Metrics(provider))
    app.add_route(HEALTH, _Health(provider))
    app.set_error_serializer(_write_error)
    return app


def _write_error(req: Request, resp: Response, error: falcon.HTTPError) -> None:
    """JSON, whatever the client says that it accepts."""
    description = error.description
    if description is None and error.status_code == 404:
        description = "there is nothing here; see /, /status.json and /events"
    _say(resp, {"title": error.title, "description": description})


def _say(resp: Response, value: object) -> None:
    resp.data = _encode(value)
    resp.content_type = falcon.MEDIA_JSON


def _as_stream(resp: Response) -> None:
    resp.content_type = "text/event-stream"
    resp.set_header("X-Accel-Buffering", "no")  # of a proxy in front, which would wait for more


def _unavailable(description: str) -> falcon.HTTPServiceUnavailable:
    return falcon.HTTPServiceUnavailable(
        title="Service Unavailable", description=description, headers={"Retry-After": SOON_S}
    )
