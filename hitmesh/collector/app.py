"""The collector's HTTP side: a Falcon app. Owns URLs, statuses and JSON; counts nothing itself.

A hit is answered once its batch is on stable storage, with its page's total. Whatever can't be
counted is answered with an error in the form {"title", "description"}, and counted by nobody. An error says
what is wrong, and not where: files and servers are named in the log alone.

A total has an entry for each datacenter whose count is in it: {"count", "age_s"}. One that is gone for
good has {"count", "age_s": 0, "retired": true}: its count is final.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from heapq import nsmallest
from typing import Any, Final

import falcon
from falcon import Request, Response
from falcon.routing import CompiledRouter
from gevent.threadpool import ThreadPool

from hitmesh.collector.answers import FIELDS, encode, error_body, total_entry
from hitmesh.collector.collector import Collector
from hitmesh.collector.forms import JSON, PIXEL, BadgeForm, Form
from hitmesh.collector.held_hit import FAILED, HeldHit
from hitmesh.collector.known import Total
from hitmesh.collector.listed import Listed
from hitmesh.collector.requests import ListQuery, RequestError, badge_of, batch_of, check_text, list_query, page_of
from hitmesh.collector.rules import Rules
from hitmesh.collector.slow import FORMING
from hitmesh.collector.static import add_static
from hitmesh.collector.web_app import BADGE as BADGE_PATH
from hitmesh.collector.web_app import HIT, WebApp
from hitmesh.collector.web_app import PIXEL as PIXEL_PATH
from hitmesh.errors import HitmeshError, SpoolRefused, SpoolUnknown, StoreUnknown
from hitmesh.http.errors import BadMessage
from hitmesh.http.wsgi import REQUEST_ID, Environ
from hitmesh.hub.blocking import call_blocking
from hitmesh.logs import Complaints
from hitmesh.protocol.pages import is_below
from hitmesh.settings.live import Live
from hitmesh.site.badge import Badge
from hitmesh.site.visits import HEAD, Entry

RETRY_AFTER_S: Final = 1
READ_BYTES: Final = 64 * 1024
REPLACEMENT: Final = "\ufffd"

_complaints = Complaints(logging.getLogger(__name__))


class _Page:
    """What the page resources share."""

    def __init__(self, collector: Collector, rules: Rules) -> None:
        self._collector = collector
        self._live = collector.live
        self._rules = rules

    def _page(self, req: Request, matched: str, query: str | None = None) -> str:
        """The page of a URL, of which the router `matched` what follows the route; without a `query`, of its own one."""
        if REPLACEMENT in matched:  # perhaps Falcon's, for bytes that aren't UTF-8
            check_text(req.env["PATH_INFO"])
        return page_of(matched, req.env.get("QUERY_STRING", "") if query is None else query, self._rules.naming)

    def _answer(self, resp: Response, page: str, total: Total) -> None:
        _send(resp, encode(total_entry(page, total, self._live.retired)))


class _Counted(_Page):
    """What counts a hit of a page, however that is answered."""

    form = JSON

    def count(self, page: str, entry: Entry, environ: Callable[[], Environ], form: Form = JSON) -> HeldHit:
        """Count a hit of a page, if it is a visit; its answer, of which nobody knows yet what it will be. Raises SpoolRefused."""
        ignored, counted = self._rules.ignores(entry, page)
        if ignored:
            return self._show(page, environ, form, ignored)
        collector = self._collector
        forming = collector.submit({page: 1}, entry(REQUEST_ID), page)
        if form.needs_total:
            collector.prefetch(page)
        return HeldHit(collector, environ, forming, page, form, counted=counted)

    def on_head(self, req: Request, resp: Response, page: str = "") -> None:
        """Nobody sees it: not counted."""
        self._page(req, page)
        self._rules.ignored[HEAD] += 1
        resp.set_headers(self.form.fields)
        resp.set_header("X-Hitmesh", f"ignored; {HEAD}")

    def _begin(self, req: Request) -> None:
        """Before anything else; raises what came of a hit whose answer is asked for."""
        env = req.env
        if FAILED in env:
            raise env[FAILED]
        if req.content_length or "HTTP_TRANSFER_ENCODING" in env:
            _read_body(req, self._live.config.limits.hit_body_bytes)  # ignored, but bounded

    def _hold(self, req: Request, resp: Response, page: str, form: Form) -> None:
        """Count; the answer is held until that is on stable storage."""
        env = req.env
        resp.stream = self.count(page, lambda name: env.get(name, ""), lambda: env, form)
        resp.set_headers(form.fields)

    def _show(self, page: str, environ: Callable[[], Environ], form: Form, ignored: str = "") -> HeldHit:
        """The same answer, without counting."""
        collector = self._collector
        return HeldHit(collector, environ, collector.nothing(), page, form, ignored)


class Hit(_Counted):
    """POST or GET /hit/<page>: counts one hit, and answers with the total."""

    def on_post(self, req: Request, resp: Response, page: str = "") -> None:
        """JSON."""
        self._begin(req)
        self._hold(req, resp, self._page(req, page), JSON)

    on_get = on_post


class Pixel(_Counted):
    """GET /pixel/<page>: counts one hit, for a page without scripts."""

    form = PIXEL

    def on_get(self, req: Request, resp: Response, page: str = "") -> None:
        """An image that shows nothing."""
        self._begin(req)
        self._hold(req, resp, self._page(req, page), PIXEL)


class BadgeOf(_Counted):
    """GET /badge/<page>: counts one hit, and shows the total. Its query says how, and is no part of the page."""

    form = BadgeForm(Badge())

    def on_get(self, req: Request, resp: Response, page: str = "") -> None:
        """An image. `count=0` only shows."""
        self._begin(req)
        name, form = self._page(req, page, ""), BadgeForm(badge_of(req.params))
        if req.params.get("count") == "0":
            env = req.env
            resp.stream = self._show(name, lambda: env, form)
            resp.set_headers(form.fields)
        else:
            self._hold(req, resp, name, form)


class TotalOf(_Page):
    """GET /total/<page>: the same answer, without counting."""

    def on_get(self, req: Request, resp: Response, page: str = "") -> None:
        """Answer with the total; 503 when it isn't known and can't be read."""
        name = self._page(req, page)
        total = self._collector.total(name)
        if total.total is None:
            raise StoreUnknown(
                "this page's total can't be read now",
                hint="the totals store doesn't answer, or its rows are being brought back from other datacenters",
            )
        self._answer(resp, name, total)

    on_head = on_get


class Hits:
    """POST /hits: a batch, all or nothing."""

    def __init__(self, collector: Collector, rules: Rules) -> None:
        self._collector = collector
        self._rules = rules
        self._namers: ThreadPool | None = None  # one thread: it has the processor for itself half of the time

    def on_post(self, req: Request, resp: Response) -> None:
        """Count all of it, then say how many hits that were."""
        limits = self._collector.live.config.limits
        body = _read_body(req, limits.batch_body_bytes)
        naming = self._rules.naming
        read = partial(batch_of, req.content_type, body, max_pages=limits.batch_pages, naming=naming)
        # By rules of the operator's each page is looked at by itself: of 10,000 that takes a while.
        counts = read() if naming.is_plain else call_blocking(read, self._pool)
        env = req.env
        env[FORMING] = forming = self._collector.submit(counts, env.get(REQUEST_ID, ""))
        forming.wait()
        _send(resp, encode({"accepted": sum(counts.values())}))

    def _pool(self) -> ThreadPool:
        if self._namers is None:
            self._namers = ThreadPool(1)
        return self._namers


class Totals:
    """GET /totals: many pages at once, as committed."""

    def __init__(self, collector: Collector, live: Live) -> None:
        self._collector = collector
        self._live = live

    def on_get(self, req: Request, resp: Response) -> None:
        """Pages by name after `after`, or the largest totals first; those that are unknown come last.

        While partitions are being brought back, `restoring` says how many: pages of theirs are unknown or
        missing. So are those of partitions that can't be read, which `unreadable` lists.
        """
        query = list_query(dict(req.params))
        listed = self._collector.all_totals()
        # Of a million pages this takes a second or more, in which the hits want to be answered.
        found = call_blocking(partial(_chosen, listed, query))
        more = len(found) > query.limit
        found = found[: query.limit]
        retired = self._live.retired
        entries = [total_entry(page, listed.total(page), retired) for page in found]
        answer: dict[str, object] = {"totals": entries, "after": found[-1] if more else None}
        if listed.restoring:
            answer["restoring"] = listed.restoring
        if listed.unreadable:
            answer["unreadable"] = listed.unreadable
        _send(resp, encode(answer))

    on_head = on_get


def _chosen(listed: Listed, query: ListQuery) -> list[str]:
    """The pages that a list begins with; one beyond its limit where there are more by name."""
    found = (page for page in listed if is_below(page, query.prefix))
    if query.by_total:
        return nsmallest(query.limit, found, key=lambda page: (-listed.sum(page), page))
    return nsmallest(query.limit + 1, (page for page in found if page > query.after))


class Health:
    """GET /health: 200 when a hit would be accepted now, otherwise 503 and why. Counts nothing."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def on_get(self, req: Request, resp: Response) -> None:
        """Ask the spool."""
        self._collector.check()
        _send(resp, b'{"status":"up"}')

    on_head = on_get


def make_app(collector: Collector) -> WebApp:
    """The WSGI app."""
    live, rules = collector.live, collector.rules
    app = falcon.App(router=_OneSlash(), middleware=falcon.CORSMiddleware(expose_headers="X-Hitmesh"))
    app.req_options.keep_blank_qs_values = True
    app.req_options.strip_url_path_trailing_slash = False
    hit = Hit(collector, rules)
    for prefix, pages in (
        (HIT, hit),
        (PIXEL_PATH, Pixel(collector, rules)),
        (BADGE_PATH, BadgeOf(collector, rules)),
        ("/total/", TotalOf(collector, rules)),
    ):
        app.add_route(prefix + "{page:path}", pages)
        app.add_route(prefix, pages)
    add_static(app, dc=live.config.name, name=collector.name)
    app.add_route("/hits", Hits(collector, rules))
    app.add_route("/totals", Totals(collector, live))
    app.add_route("/health", Health(collector))
    app.set_error_serializer(_write_error)
    refuse = _Refusals(collector.refusals)
    app.add_error_handler(RequestError, refuse.request)
    app.add_error_handler(BadMessage, refuse.body)
    for error in (SpoolRefused, SpoolUnknown, StoreUnknown):
        app.add_error_handler(error, refuse.for_now)
    return WebApp(app, hit.count, rules)


class _OneSlash(CompiledRouter):
    """Falcon's router takes any number of slashes before a path for one. Here a path has one URL."""

    def find(self, uri: str, req: Request | None = None) -> Any:
        """The route of a decoded path, or None."""
        return super().find(uri, req) if uri.startswith("/") and not uri.startswith("//") else None


def _send(resp: Response, body: bytes) -> None:
    resp.data = body
    resp.set_headers(FIELDS)


def _write_error(req: Request, resp: Response, error: falcon.HTTPError) -> None:
    """JSON whatever the client says that it accepts: an empty body would tell it less."""
    description = error.description
    if description is None and error.status_code == 404:
        description = "there is nothing here; see /hit/<page>, /hits, /pixel/<page>, /badge/<page>, /total/<page>, /totals, /health, /count.js and /"
    elif description is None and error.status_code == 405:
        description = f"{req.method} is not possible here; what is: {resp.get_header('Allow')}"
    elif description is None:
        description = "this is a fault of the server's; its log says more"
    title = (error.title or "").removeprefix(f"{error.status_code} ")
    _send(resp, error_body(title, description))


class _Refusals:
    """The answers to what can't be done, each counted by its reason."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts

    def request(self, req: Request, resp: Response, error: RequestError, params: object) -> None:
        """It asks for what can't be."""
        self._counts["bad_request"] += 1
        status = falcon.code_to_http_status(error.status)
        raise falcon.HTTPError(status, title=error.title, description=error.description)

    def body(self, req: Request, resp: Response, error: BadMessage, params: object) -> None:
        """Its body can't be read."""
        self._counts["bad_request"] += 1
        raise falcon.HTTPError(falcon.code_to_http_status(error.status), description=str(error))

    def for_now(self, req: Request, resp: Response, error: HitmeshError, params: object) -> None:
        """It might be done a moment later."""
        if isinstance(error, SpoolUnknown):
            title = "Perhaps counted"
        elif isinstance(error, SpoolRefused):
            title = "Not counted"
        else:
            title = "Not known"
        self._counts[title.lower().replace(" ", "_")] += 1
        _complaints.warn(title, "%s: %s", title.lower(), error)
        description = error.reason
        if isinstance(error, StoreUnknown) and error.op:  # of the store's own words some name pages
            description = "the totals can't be read now"
        raise falcon.HTTPServiceUnavailable(title=title, description=description, retry_after=RETRY_AFTER_S)


def _read_body(req: Request, limit_bytes: int) -> bytes:
    if (req.content_length or 0) > limit_bytes:
        raise RequestError(413, "Body too large", f"the body has more than {limit_bytes} bytes")
    body = bytearray()
    while chunk := req.stream.read(READ_BYTES):
        body += chunk
        if len(body) > limit_bytes:
            raise RequestError(413, "Body too large", f"the body has more than {limit_bytes} bytes")
    return bytes(body)
