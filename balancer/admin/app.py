"""The admin listener's HTTP side: a Falcon app. Owns URLs and forms of what is told; counts nothing itself.

    GET /stats         the page for people; ?format=json|csv, /stats.json, /stats;csv (as HAProxy), ?refresh=S
    GET /metrics       for Prometheus
    GET /health        200 when this balancer can pass requests on, otherwise 503 and why
    GET /routes        all routes; GET, PUT and DELETE /routes/<pattern>
    PUT, DELETE /pauses/<pattern>
    GET /instances     instances and backends; GET, PUT and DELETE /instances/<name>

Who may ask is said in `balancer.admin.access`. An error is JSON, {"title", "description"}.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

import falcon
import msgspec
from falcon import Request, Response

from balancer.admin.access import Access
from balancer.admin.columns import csv
from balancer.admin.hands import InstanceList, OneInstance
from balancer.admin.metrics import families
from balancer.admin.page import REFRESH_S, page
from balancer.admin.pauses import OnePause
from balancer.admin.routes import OneRoute, RouteList
from balancer.measures.stats import Pause, Picture
from balancer.middle.routes import RouteTable
from hitmesh.config.hands import Hands
from hitmesh.http.access import MetricsAccess
from hitmesh.metrics.text import encoded
from hitmesh.settings import SettingsStore
from hitmesh.state.handling import Known

T = TypeVar("T")

MAX_REFRESH_S: Final = 3600

# The page has styles of its own and nothing else; nobody may put it into a frame.
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_CHALLENGES: Final = ("Bearer", 'Basic realm="hitmesh balancer", charset="UTF-8"')

_encode: Final = msgspec.json.Encoder().encode


class Provider(Protocol):
    """What there is to tell. Its methods may block the calling greenlet."""

    def shown(self, form: Callable[[Picture, Pause], T]) -> T:
        """What `form` makes of the picture of all workers of this balancer; it pauses between pieces of that."""

    def pause(self) -> Pause:
        """The pause of other work that may be long."""

    def table(self) -> RouteTable:
        """The routes in force."""

    def health(self) -> tuple[bool, str]:
        """Whether requests can be passed on, and why not."""

    def known(self) -> Sequence[Known]:
        """Whom the datacenter has."""

    def hands(self) -> Hands:
        """What operators say of single instances and backends."""


class Stats:
    """GET /stats, in one of its forms; `form` is what the URL itself says."""

    def __init__(self, provider: Provider, form: str = "") -> None:
        self._provider = provider
        self._form = form

    def on_get(self, req: Request, resp: Response) -> None:
        """Tell everything."""
        form = self._form or req.get_param("format", default="html")
        if form == "html":
            resp.text = self._page(req)
            resp.content_type = "text/html; charset=utf-8"
        elif form == "json":
            resp.data = self._provider.shown(lambda picture, _: _encode(picture))
            resp.content_type = "application/json"
        elif form == "csv":
            resp.text = self._provider.shown(csv)
            resp.content_type = "text/plain; charset=utf-8"  # as HAProxy: a browser shows it
        else:
            raise falcon.HTTPBadRequest(title="Bad format", description="format is html, json or csv")

    on_head = on_get

    def _page(self, req: Request) -> str:
        refresh_s = REFRESH_S
        if "refresh" in req.params:
            refresh_s = req.get_param_as_int("refresh", required=True, min_value=0, max_value=MAX_REFRESH_S)
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        table = self._provider.table()
        return self._provider.shown(
            lambda picture, pause: page(picture, table, refresh_s=refresh_s, now=now, pause=pause)
        )


class Metrics:
    """GET /metrics."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def on_get(self, req: Request, resp: Response) -> None:
        """Tell Prometheus, or whatever reads OpenMetrics."""
        _, why_not = self._provider.health()
        accept = req.get_header("Accept", default="")
        resp.data, resp.content_type = self._provider.shown(
            lambda picture, pause: encoded(families(picture, why_not=why_not), accept, pause)
        )

    on_head = on_get


class Health:
    """GET /health."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def on_get(self, req: Request, resp: Response) -> None:
        """200, or 503 and the reason."""
        healthy, reason = self._provider.health()
        if not healthy:
            raise falcon.HTTPServiceUnavailable(title="Not healthy", description=reason)
        resp.data = b'{"status":"up"}'
        resp.content_type = "application/json"

    on_head = on_get


class Start:
    """GET /: the page is what people look for."""

    def on_get(self, req: Request, resp: Response) -> None:
        """Go to the page."""
        raise falcon.HTTPFound("/stats")

    on_head = on_get


class _Guard:
    """Looks at every request before anything else does, and says what browsers may do with an answer."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def process_request(self, req: Request, resp: Response) -> None:
        """Refuse whom `Access` refuses."""
        resp.set_header("Cache-Control", "no-store")
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("X-Frame-Options", "DENY")
        resp.set_header("Referrer-Policy", "no-referrer")
        resp.set_header("Content-Security-Policy", _POLICY)
        refusal = self._access.refusal(req.env)
        if refusal is None:
            return
        if refusal.status == 401:
            raise falcon.HTTPUnauthorized(title=refusal.title, description=refusal.description, challenges=_CHALLENGES)
        raise falcon.HTTPForbidden(title=refusal.title, description=refusal.description)


def make_admin(
    provider: Provider,
    settings: SettingsStore | None,
    *,
    dc: str = "",
    token: str = "",
    hosts: Collection[str] = (),
    metrics: MetricsAccess | None = None,
) -> falcon.App[Request, Response]:
    """The WSGI app. `hosts`: names by which the listener may be asked when there is no token."""
    app = falcon.App(middleware=[_Guard(Access(token, hosts, metrics))])
    app.req_options.strip_url_path_trailing_slash = False
    app.req_options.keep_blank_qs_values = True
    app.add_route("/", Start())
    app.add_route("/stats", Stats(provider))
    for form in ("json", "csv"):
        app.add_route(f"/stats.{form}", Stats(provider, form))
        app.add_route(f"/stats;{form}", Stats(provider, form))
    app.add_route("/metrics", Metrics(provider))
    app.add_route("/health", Health(provider))
    app.add_route("/routes", RouteList(provider, settings))
    app.add_route("/routes/{pattern}", OneRoute(provider, settings))
    app.add_route("/pauses/{pattern}", OnePause(provider, settings))
    app.add_route("/instances", InstanceList(provider))
    app.add_route("/instances/{name}", OneInstance(provider, settings, dc))
    app.set_error_serializer(_write_error)
    return app


def _write_error(req: Request, resp: Response, error: falcon.HTTPError) -> None:
    """JSON whatever the client says that it accepts: an empty body would tell it less."""
    description = error.description
    if description is None and error.status_code == 404:
        description = "there is nothing here; see /stats, /metrics, /health, /routes and /instances"
    elif description is None and error.status_code == 405:
        description = f"{req.method} is not possible here; what is: {resp.get_header('Allow')}"
    elif description is None:
        description = "this is a fault of the balancer's; its log says more"
    title = (error.title or "").removeprefix(f"{error.status_code} ")
    resp.data = _encode({"title": title, "description": description})
    resp.content_type = "application/json"
