"""Which route a Host has: exact name, then the longest suffix, then the default. Pure, but for `read_static`.

Owns the table of what is configured and what is live, and where a redirect leads; knows nothing
of requests beyond their Host and target, and nothing of what is done with a route.

A table is built anew when a route changes, never changed in place. Live wins over configured.
Hosts are as the request reader gives them: lower-case, without port and trailing dot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from balancer.middle.answers import Answer
from hitmesh.config import DEFAULT_HOST, Alias, Redirect, Route, Static
from hitmesh.config.pauses import RoutePause
from hitmesh.errors import ConfigError

Origin = Literal["config", "live"]

KEYS: Final = "routes/"  # of live routes in the settings store; what follows is the pattern
# Hosts come from strangers: past this many the memo begins anew, which costs each a search.
MEMO_HOSTS: Final = 4096
MAX_HOST_BYTES: Final = 253  # of a name in the DNS; what is longer has no route of its own, and no place in the memo
MAX_STATIC_BYTES: Final = 1024 * 1024  # held in every worker's memory, and written at once

# All that a URI may hold (RFC 3986, section 2); the rest is percent-encoded.
_NOT_URI: Final = re.compile(rb"[^!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]")
_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://[^/?#]*")


class Match:
    """What a Host's requests get. One object for each pattern, so `made` is found again with the route.

    `name` is the pattern, an alias's own; `target` the pattern whose route it is. Without a `route`
    the answer is 404, and `problem` says why. `made` is for whoever carries the route out.
    """

    __slots__ = ("made", "name", "origin", "problem", "route", "target")

    def __init__(self, name: str, route: Route | None, origin: Origin, target: str = "", problem: str = "") -> None:
        self.name = name
        self.route = route
        self.origin = origin
        self.target = target or name
        self.problem = problem
        self.made: Any = None


class RouteTable:
    """All routes in force, those that are paused by what stands in for them.

    `memo` has the matches of Hosts that were asked for, as they came.
    """

    def __init__(
        self, configured: Mapping[str, Route], live: Mapping[str, Route], paused: Mapping[str, RoutePause] = {}
    ) -> None:
        self.configured = dict(configured)
        self.live = dict(live)
        self.paused = {name: pause for name, pause in paused.items() if name in live or name in configured}
        self.memo: dict[bytes, Match] = {}
        stand_ins = {name: pause.stand_in() for name, pause in self.paused.items()}
        self._routes: dict[str, Route] = {**self.configured, **self.live, **stand_ins}
        self._none = Match("", None, "config", problem="there is no route for this Host")
        self._matches = {name: self._match(name) for name in self._routes}
        self._exact = {name.encode(): match for name, match in self._matches.items() if not name.startswith("*.")}
        self._suffixes = {name[1:].encode(): match for name, match in self._matches.items() if name.startswith("*.")}
        self._depth = max((suffix.count(b".") for suffix in self._suffixes), default=0)
        self._default = self._exact.pop(DEFAULT_HOST.encode(), self._none)

    def find(self, host: str | bytes) -> Match:
        """What a Host gets; a match without a route when nothing. Who is in a hurry asks the `memo` first."""
        if isinstance(host, str):
            host = host.encode("utf-8", "surrogatepass")
        match = self.memo.get(host)
        if match is None:
            if len(host) > MAX_HOST_BYTES:
                return self._default
            match = self._search(host)
            if len(self.memo) >= MEMO_HOSTS:
                self.memo.clear()
            self.memo[host] = match
        return match

    def get(self, name: str) -> Match | None:
        """The match of a pattern itself, if it has a route."""
        return self._matches.get(name)

    def __iter__(self) -> Iterator[Match]:
        return iter(self._matches.values())

    def __len__(self) -> int:
        return len(self._matches)

    def route(self, name: str) -> Route:
        """A pattern's own route: an alias where `find` has what it stands for."""
        return self._routes[name]

    def _search(self, host: bytes) -> Match:
        if found := self._exact.get(host):
            return found
        if self._suffixes:
            # Where the longest suffix there is could begin: a name may have a hundred labels. Something is before it.
            dot = host.find(b".", max(1, len(host.rsplit(b".", self._depth)[0])))
            while dot > 0:
                if found := self._suffixes.get(host[dot:]):
                    return found
                dot = host.find(b".", dot + 1)
        return self._default

    def _match(self, name: str) -> Match:
        route = self._routes[name]
        origin: Origin = "live" if name in self.live else "config"
        if not isinstance(route, Alias):
            return Match(name, route, origin)
        target = self._routes.get(route.of)
        if target is None:
            problem = f"{name} is an alias of {route.of}, which has no route"
        elif isinstance(target, Alias):
            problem = f"{name} is an alias of {route.of}, which is an alias itself"
        else:
            return Match(name, target, origin, target=route.of)
        return Match(name, None, origin, target=route.of, problem=problem)


def location(route: Redirect, target: bytes) -> bytes:
    """Where a redirect sends the request for `target`, origin form or absolute.

    The path is put behind the route's URL, never where it could become another host.
    """
    to = route.to.encode()
    if not route.keep_path:
        return to
    if not target.startswith(b"/"):
        found = _ABSOLUTE.match(target)
        target = target[found.end() :] if found else b""  # "*" names no path
        if not target.startswith(b"/"):
            target = b"/" + target if target.startswith(b"?") else b""
    # A path behind a URL that ends with one: the slash in between once.
    joined = to.removesuffix(b"/") + target if target else to
    return _NOT_URI.sub(lambda found: b"%%%02X" % found[0][0], joined)


def read_static(route: Static, base: Path) -> Answer:
    """The answer of a static route; its file is read, relative to `base`. Raises ConfigError."""
    content_type = route.content_type.encode()
    if not route.file:
        return Answer(route.status, route.body.encode(), content_type)
    path = base / route.file
    try:
        if not path.is_file():
            raise ConfigError("it is no file", op="reading a static route's file", endpoint=str(path))
        with path.open("rb") as file:
            body = file.read(MAX_STATIC_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(error.strerror), op="reading a static route's file", endpoint=str(path)) from error
    if len(body) > MAX_STATIC_BYTES:
        raise ConfigError(
            f"it has more than {MAX_STATIC_BYTES} bytes", op="reading a static route's file", endpoint=str(path)
        )
    return Answer(route.status, body, content_type)
