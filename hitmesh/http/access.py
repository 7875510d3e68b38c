"""Who may look at what a role shows of itself. Pure: says why not, or nothing.

With a token, whoever shows it: as a Bearer, or as the password of Basic, which browsers ask people for. Without one
whoever gets here; but a page from elsewhere must not make a browser read this one under a name that was made to point
here (DNS rebinding). So the Host must be an address or a name of ours, unless a proxy passed the request on: a
balancer's route has chosen by the name then, and no script in a browser can set `Via`.

The metrics have a token of their own, which opens nothing else: a Prometheus needn't be trusted with more. What a role
remembers of batches names pages: whoever may look at the dashboards may ask for that, and beyond loopback nobody without
a word of the configuration.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from typing import Final

from hitmesh.http.asking import Refusal, credentials, host_of, is_address

METHODS: Final = ("GET", "HEAD")
HEALTH: Final = "/health"  # whether it is up is asked by balancers, which have no token
METRICS: Final = "/metrics"
TRACE: Final = "/trace"  # page names, and ids of requests
_SHOWN_CHARS: Final = 100  # of what was sent, in the description of what is wrong with it


class MetricsAccess:
    """Who may read one page of any role, such as /metrics, besides those who may do all there."""

    def __init__(self, token: str = "", *, is_open: bool = False) -> None:
        self._token = token.encode()
        self.is_open = is_open
        """Whoever gets there, without a token."""
        self.needs_token = bool(token)

    def admits(self, shown: bytes) -> bool:
        """Whether this is the token."""
        return self.needs_token and hmac.compare_digest(shown, self._token)


class Access:
    """The rules of one listener. `hosts` are the names, besides addresses, by which it may be asked without a token."""

    def __init__(
        self,
        token: str,
        hosts: Collection[str] = (),
        metrics: MetricsAccess | None = None,
        trace: MetricsAccess | None = None,
    ) -> None:
        self._token = token.encode()
        self._hosts = frozenset(host.lower() for host in (*hosts, "localhost"))
        self._metrics = metrics or MetricsAccess()
        self._trace = trace

    def refusal(self, environ: Mapping[str, str]) -> Refusal | None:
        """What is wrong with a request, by its WSGI environment; None when nothing is."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if method not in METHODS:
            return Refusal(405, "Method Not Allowed", f"{method[:_SHOWN_CHARS]} is not possible here; GET and HEAD are")
        if path == HEALTH:
            return None
        needs_token = bool(self._token)
        if path == TRACE and self._trace is not None:
            needs_token = self._trace.needs_token
            if not (needs_token or self._trace.is_open):
                return Refusal(
                    403, "Forbidden", "page names are told here: dashboard.token, or dashboard.open, is needed"
                )
        if path == METRICS:
            needs_token = self._metrics.needs_token or (needs_token and not self._metrics.is_open)
        if needs_token:
            _, shown = credentials(environ)
            if self._token and hmac.compare_digest(shown, self._token):
                return None
            if path == METRICS and self._metrics.admits(shown):
                return None
            if path == TRACE and self._trace is not None and self._trace.admits(shown):
                return None
            problem = "the token is wrong" if shown else "this needs the token, as the password; any user name will do"
            return Refusal(401, "Unauthorized", problem)
        host = host_of(environ.get("HTTP_HOST", ""))
        if host and "HTTP_VIA" not in environ and not is_address(host) and host not in self._hosts:
            return Refusal(
                403, "Forbidden", f"{host[:_SHOWN_CHARS]!a} is no name of this listener's; its address is, or a route's"
            )
        return None
