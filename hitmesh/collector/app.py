"""The collector's HTTP side: a Falcon app. Owns URLs, statuses and JSON; counts nothing itself.

A hit is answered once its batch is on stable storage, with its page's total. Whatever can't be
counted is answered with an error in the form {"title", "description"}, and counted by nobody.
"""

from __future__ import annotations

from typing import Final

import falcon
import msgspec
from falcon import Request, Response

from hitmesh.collector.collector import Collector
from hitmesh.collector.known import Total
from hitmesh.collector.requests import RequestError, batch_of, list_query, page_of
from hitmesh.config import Limits
from hitmesh.errors import HitmeshError, SpoolRefused, SpoolUnknown, StoreUnknown

RETRY_AFTER_S: Final = 1
READ_BYTES: Final = 64 * 1024

_encode = msgspec.json.Encoder().encode


class _Page:
    """What the page resources share."""

    def __init__(self, collector: Collector, limits: Limits, prefix: str) -> None:
        self._collector = collector
        self._limits = limits
        self._skip = len(prefix)

    def _page(self, req: Request) -> str:
        return page_of(req.env["PATH_INFO"][self._skip :])

    def _answer(self, resp: Response, page: str, total: Total) -> None:
        resp.data = _encode(_total(page, total))
        resp.content_type = "application/json"
        resp.set_header("Cache-Control", "no-store")


class Hit(_Page):
    """POST or GET /hit/<page>: counts one hit."""

    def on_post(self, req: Request, resp: Response, page: str = "") -> None:
        """Count, then answer with the total."""
        if req.content_length or "HTTP_TRANSFER_ENCODING" in req.env:
            _read_body(req, self._limits.hit_body_bytes)  # ignored, but bounded
        name = self._page(req)
        collector = self._collector
        forming = collector.submit({name: 1})
        collector.prefetch(name)
        forming.wait()
        self._answer(resp, name, collector.total(name))

    on_get = on_post


class TotalOf(_Page):
    """GET /total/<page>: the same answer, without counting."""

    def on_get(self, req: Request, resp: Response, page: str = "") -> None:
        """Answer with the total; 503 when it isn't known and can't be read."""
        name = self._page(req)
        total = self._collector.total(name)
        if total.total is None:
            raise StoreUnknown("this page's total can't be read now", hint="the totals store doesn't answer")
        self._answer(resp, name, total)

    on_head = on_get


class Hits:
    """POST /hits: a batch, all or nothing."""

    def __init__(self, collector: Collector, limits: Limits) -> None:
        self._collector = collector
        self._limits = limits

    def on_post(self, req: Request, resp: Response) -> None:
        """Count all of it, then say how many hits that were."""
        body = _read_body(req, self._limits.batch_body_bytes)
        counts = batch_of(req.content_type, body, max_pages=self._limits.batch_pages)
        self._collector.submit(counts).wait()
        resp.data = _encode({"accepted": sum(counts.values())})
        resp.content_type = "application/json"
        resp.set_header("Cache-Control", "no-store")


class Totals:
    """GET /totals: many pages at once, as committed."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def on_get(self, req: Request, resp: Response) -> None:
        """Pages by name after `after`, or the largest totals first."""
        query = list_query(dict(req.params))
        totals, age_s = self._collector.all_totals()
        found = [page for page in totals if page.startswith(query.prefix)]
        if query.by_total:
            found.sort(key=lambda page: (-sum(totals[page].values()), page))
        else:
            found = sorted(page for page in found if page > query.after)
        more = len(found) > query.limit and not query.by_total
        found = found[: query.limit]
        entries = [_total(page, Total(sum(totals[page].values()), totals[page], age_s)) for page in found]
        resp.data = _encode({"totals": entries, "after": found[-1] if more else None})
        resp.content_type = "application/json"
        resp.set_header("Cache-Control", "no-store")

    on_head = on_get


class Health:
    """GET /health: 200 when a hit would be accepted now, otherwise 503 and why. Counts nothing."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def on_get(self, req: Request, resp: Response) -> None:
        """Ask the spool."""
        self._collector.check()
        resp.data = b'{"status":"up"}'
        resp.content_type = "application/json"
        resp.set_header("Cache-Control", "no-store")

    on_head = on_get


def make_app(collector: Collector, limits: Limits) -> falcon.App[Request, Response]:
    """The WSGI app."""
    app = falcon.App(cors_enable=True)
    app.req_options.keep_blank_qs_values = True
    app.req_options.strip_url_path_trailing_slash = False
    for prefix, resource in (("/hit/", Hit), ("/total/", TotalOf)):
        pages = resource(collector, limits, prefix)
        app.add_route(prefix + "{page:path}", pages)
        app.add_route(prefix, pages)
    app.add_route("/hits", Hits(collector, limits))
    app.add_route("/totals", Totals(collector))
    app.add_route("/health", Health(collector))
    app.set_error_serializer(_write_error)
    app.add_error_handler(RequestError, _refuse_request)
    for error in (SpoolRefused, SpoolUnknown, StoreUnknown):
        app.add_error_handler(error, _refuse_for_now)
    return app


def _write_error(req: Request, resp: Response, error: falcon.HTTPError) -> None:
    """JSON whatever the client says that it accepts: an empty body would tell it less."""
    description = error.description
    if description is None and error.status_code == 404:
        description = "there is nothing here; see /hit/<page>, /hits, /total/<page>, /totals and /health"
    elif description is None and error.status_code == 405:
        description = f"{req.method} is not possible here; what is: {resp.get_header('Allow')}"
    elif description is None:
        description = "this is a fault of the server's; its log says more"
    title = (error.title or "").removeprefix(f"{error.status_code} ")
    resp.data = _encode({"title": title, "description": description})
    resp.content_type = "application/json"


def _total(page: str, total: Total) -> dict[str, object]:
    age_s = round(total.age_s, 3)
    dcs = {dc: {"count": count, "age_s": age_s} for dc, count in total.counts.items()}
    return {"page": page, "total": total.total, "dcs": dcs}


def _refuse_request(req: Request, resp: Response, error: RequestError, params: object) -> None:
    raise falcon.HTTPError(falcon.code_to_http_status(error.status), title=error.title, description=error.description)


def _refuse_for_now(req: Request, resp: Response, error: HitmeshError, params: object) -> None:
    if isinstance(error, SpoolUnknown):
        title = "Perhaps counted"
    elif isinstance(error, SpoolRefused):
        title = "Not counted"
    else:
        title = "Not known"
    raise falcon.HTTPServiceUnavailable(title=title, description=str(error), retry_after=RETRY_AFTER_S)


def _read_body(req: Request, limit_bytes: int) -> bytes:
    if (req.content_length or 0) > limit_bytes:
        raise RequestError(413, "Body too large", f"the body has more than {limit_bytes} bytes")
    stream = req.bounded_stream if req.content_length is not None else req.stream
    body = bytearray()
    while chunk := stream.read(min(READ_BYTES, limit_bytes + 1 - len(body))):
        body += chunk
        if len(body) > limit_bytes:
            raise RequestError(413, "Body too large", f"the body has more than {limit_bytes} bytes")
    if req.content_length is not None and len(body) < req.content_length:
        raise RequestError(400, "Body cut short", f"{len(body)} of {req.content_length} bytes came")
    return bytes(body)
