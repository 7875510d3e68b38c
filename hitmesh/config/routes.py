"""Routes: what a balancer does with the requests for a Host. Owns the actions, their settings and
what makes one, or a table of them, wrong; knows nothing of requests. Pure.

A route is told by its `action`, in a datacenter's file and, as JSON, in the live settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from hitmesh.config.addresses import DEFAULT_HOST, host_pattern, host_port
from hitmesh.config.sections import Name
from hitmesh.errors import ConfigError
from hitmesh.mistakes import mistakes, nearest

HostPattern = Annotated[str, Meta(description='an exact Host, "*.example.com", or "default"')]

MAX_BODY_CHARS = 64 * 1024  # in every worker's memory, and far below what Consul takes as one value (512 KiB)
NO_BODY = (204, 205, 304)  # statuses of answers without a body (RFC 9110, section 15)
TEXT = "text/plain; charset=utf-8"
# By the end of a file's name; not the system's table, which differs from machine to machine.
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".gif": "image/gif",
    ".htm": "text/html; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": TEXT,
    ".webp": "image/webp",
    ".xml": "application/xml",
}
UNKNOWN_TYPE = "application/octet-stream"

_LONGEST_S = 86_400.0
_Status = Annotated[int, Meta(ge=200, le=599)]
_Seconds = Annotated[float, Meta(ge=0.05, le=_LONGEST_S)]
_Held = Annotated[int, Meta(ge=0, le=100_000)]
_HELD = 1024  # requests: a second's worth at a rate that a single backend manages


class _Action(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="action", tag=str.lower):
    """One thing that can be done with a request."""


class Proxy(_Action, frozen=True):
    """Pass it on to one of several backends: those of a service, or fixed ones."""

    service: Annotated[str, Meta(description="a role that the Nexus resolves, such as collector")] = ""
    backends: Annotated[tuple[str, ...], Meta(max_length=1000, description="fixed ones, HOST:PORT")] = ()
    sticky: Annotated[
        Literal["", "page", "client"],
        Meta(description="the same backend for the same path or client address"),
    ] = ""
    retry: Annotated[
        Literal["never", "idempotent"],
        Meta(description="whether GET, HEAD, OPTIONS, PUT and DELETE may be sent to a second backend"),
    ] = "never"
    backend_connections: Annotated[int, Meta(ge=1, le=100_000, description="connections to one backend")] = 1024
    queue: Annotated[_Held, Meta(description="requests that wait for a connection")] = _HELD
    queue_s: Annotated[_Seconds, Meta(description="that a request waits for a connection (503)")] = 10.0
    hold: Annotated[_Held, Meta(description="requests that wait while no backend lives")] = _HELD
    hold_s: Annotated[_Seconds, Meta(description="that a request waits for a backend (503)")] = 30.0
    check_path: Annotated[
        str, Meta(pattern=r"^(/[!-~]*)?\Z", description='what an active check asks for; "": no active checks')
    ] = "/health"
    check_s: Annotated[_Seconds, Meta(description="between two checks of a backend")] = 2.0
    check_timeout_s: Annotated[_Seconds, Meta(description="that a check may take")] = 2.0
    rise: Annotated[int, Meta(ge=1, le=1000, description="checks in a row before a backend that was down is up")] = 2
    fall: Annotated[int, Meta(ge=1, le=1000, description="failures in a row before a backend is down")] = 3
    slow_start_s: Annotated[
        float, Meta(ge=0, le=_LONGEST_S, description="in which a newcomer's share grows from a tenth to all")
    ] = 10.0


class Redirect(_Action, frozen=True):
    """Send the client elsewhere."""

    to: Annotated[str, Meta(description="an absolute URL, such as https://www.example.com")]
    status: Annotated[Literal[301, 302, 303, 307, 308], Meta(description="what the client is told")] = 301
    keep_path: Annotated[bool, Meta(description="whether path and query of the request follow the URL")] = True


class Static(_Action, frozen=True):
    """Answer with a file, or a text that stands here."""

    file: Annotated[str, Meta(description="a file, relative to the configuration's folder")] = ""
    body: Annotated[str, Meta(max_length=MAX_BODY_CHARS, description="the text itself")] = ""
    type: Annotated[
        str, Meta(pattern=r"^[ -~]*\Z", description='media type; "": by the file\'s name, of a body plain text')
    ] = ""
    status: Annotated[_Status, Meta(description="of the answer")] = 200

    @property
    def content_type(self) -> str:
        """The answer's Content-Type."""
        if self.type or not self.file:
            return self.type or TEXT
        return CONTENT_TYPES.get(PurePosixPath(self.file).suffix.lower(), UNKNOWN_TYPE)


class Empty(_Action, frozen=True):
    """Answer with a status and nothing else."""

    status: Annotated[_Status, Meta(description="of the answer")] = 204


class Alias(_Action, frozen=True):
    """Do as if another Host had been asked for."""

    of: Annotated[str, Meta(description="the pattern of a route that is no alias")]


class Hold(_Action, frozen=True):
    """Let it wait until the route changes."""

    hold: Annotated[_Held, Meta(description="requests that wait")] = _HELD
    hold_s: Annotated[_Seconds, Meta(description="that a request waits (503)")] = 30.0


Route = Proxy | Redirect | Static | Empty | Alias | Hold
# Of a datacenter whose file has none.
DEFAULT_ROUTES: Mapping[str, Route] = {DEFAULT_HOST: Proxy(service="collector")}


def parse_route(data: dict[str, Any], *, source: str) -> Route:
    """A live route from its JSON object; `source` names it for errors. Raises ConfigError.

    A live route can't name a file: whoever may change routes could read the balancer's files. What
    a whole table of routes must be is said by `route_problems`.
    """
    if not isinstance(data, dict):
        raise ConfigError(f'{source}: must be an object such as {{"action": "empty", "status": 204}}')
    try:
        route = normal_route(msgspec.convert(data, Route))
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {next(mistakes(data, Route), str(error))}") from error
    problems = list(_own_problems(route))
    if isinstance(route, Static) and route.file:
        problems.append("file is for a datacenter's configuration; a live route says its text as body")
    for problem in problems:
        raise ConfigError(f"{source}: {problem}")
    return route


def parse_stored(pattern: str, value: bytes) -> Route:
    """A live route from what the settings store has under `routes/<pattern>`. Raises ConfigError."""
    if _normal(pattern) != pattern:
        raise ConfigError(f"routes/{pattern}: this is no Host as routes have it")
    try:
        data = msgspec.json.decode(value)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{pattern}: not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f'{pattern}: a route is a JSON object, such as {{"action": "empty", "status": 204}}')
    return parse_route(data, source=pattern)


def _normal(pattern: str) -> str | None:
    try:
        return host_pattern(pattern)
    except ValueError:
        return None


def normal_route(route: Route) -> Route:
    """The route with the Hosts that it names in their one way of writing."""
    if isinstance(route, Alias):
        try:
            return Alias(of=host_pattern(route.of))
        except ValueError:
            return route  # told by _own_problems
    return route


def normal_routes(routes: Mapping[str, Route]) -> dict[str, Route]:
    """The table with every Host in its one way of writing. Raises ValueError for a wrong or doubled one."""
    found: dict[str, Route] = {}
    for text, route in routes.items():
        try:
            pattern = host_pattern(text)
        except ValueError as error:
            raise ValueError(f'routes."{text}": a Host {error}') from error
        if pattern in found:
            raise ValueError(f'routes."{text}": {pattern} has two routes')
        found[pattern] = normal_route(route)
    return found


def route_problems(routes: Mapping[str, Route]) -> Iterator[str]:
    """What is wrong with a table of routes whose Hosts are in their one way of writing."""
    for pattern, route in routes.items():
        where = f"routes.{pattern}" if pattern == DEFAULT_HOST else f'routes."{pattern}"'
        yield from (f"{where}.{problem}" for problem in _own_problems(route))
        if not isinstance(route, Alias):
            continue
        others = [name for name, other in routes.items() if not isinstance(other, Alias)]
        if isinstance(routes.get(route.of), Alias):
            yield f"{where}.of: {route.of} is an alias itself; name the route that is meant"
        elif route.of not in routes:
            hint = f"; {nearest(route.of, others)}" if others else ""
            yield f"{where}.of: there is no route {route.of}{hint}"


def _own_problems(route: Route) -> Iterator[str]:
    """What is wrong with a route by itself; each begins with the setting's name."""
    if isinstance(route, Proxy):
        yield from _proxy_problems(route)
    elif isinstance(route, Redirect):
        yield from _redirect_problems(route)
    elif isinstance(route, Static):
        if bool(route.file) == bool(route.body):
            yield 'file and body: exactly one of them must be given; without either say action = "empty"'
        if route.status in NO_BODY:
            yield f'status: an answer {route.status} has no body; say action = "empty"'
    elif isinstance(route, Alias):
        try:
            host_pattern(route.of)
        except ValueError as error:
            yield f"of: {route.of!r} {error}"


def _proxy_problems(route: Proxy) -> Iterator[str]:
    if bool(route.service) == bool(route.backends):
        yield 'service and backends: exactly one of them must be given, such as service = "collector"'
    if route.service:
        try:
            msgspec.convert(route.service, Name)
        except msgspec.ValidationError:
            yield f"service: {route.service!r} can't be a role: small letters, digits, hyphens"
    for text in route.backends:
        try:
            host_port(text)
        except ValueError as error:
            yield f"backends: {text!r} {error}"
    if len(set(route.backends)) < len(route.backends):
        yield "backends names the same backend twice"


def _redirect_problems(route: Redirect) -> Iterator[str]:
    try:
        parts = urlsplit(route.to)
        bad = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:
        bad = True
    # It stands in a header as it is written here.
    if bad or not route.to.isascii() or not route.to.isprintable() or " " in route.to:
        yield f"to: {route.to!r} must be an absolute URL such as https://www.example.com"
    elif route.keep_path and (parts.query or parts.fragment):
        yield f"to: {route.to!r} has a query or fragment, which a path can't follow; or keep_path = false"
