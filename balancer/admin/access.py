"""Who may use the admin listener. Pure: says why not, or nothing.

With a token, whoever shows it: as a Bearer, or as the password of Basic, which browsers ask people
for. Without one, this machine only, and nobody who merely makes a browser on it ask: a page from
elsewhere (Origin, Sec-Fetch-Site), a name that was made to point here (DNS rebinding), or a proxy.

/metrics can also be read with a token that is good for nothing else (`metrics.token`), or by anybody (`metrics.open`).
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from typing import Final

from hitmesh.config import is_loopback
from hitmesh.http.access import METRICS, MetricsAccess
from hitmesh.http.asking import Refusal, credentials, host_of, is_address

READS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
# A request with one of these came through a proxy, whose address says nothing of who asks.
_FORWARDED: Final = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP")
_SHOWN_CHARS: Final = 100  # of what was sent, in the description of what is wrong with it


class Access:
    """The rules of one listener. `hosts` are further names by which it may be asked when there is no token."""

    def __init__(self, token: str, hosts: Collection[str] = (), metrics: MetricsAccess | None = None) -> None:
        self._token = token.encode()
        self._metrics = metrics or MetricsAccess()
        self._hosts = frozenset(host.lower() for host in hosts)

    def refusal(self, environ: Mapping[str, str]) -> Refusal | None:
        """What is wrong with a request, by its WSGI environment; None when nothing is."""
        if environ["REQUEST_METHOD"] not in READS and (problem := _cross_site(environ)):
            return Refusal(403, "Cross-site request", problem)
        for_metrics = environ["PATH_INFO"] == METRICS and environ["REQUEST_METHOD"] in READS
        if for_metrics and self._metrics.is_open:
            return None
        if self._token or (for_metrics and self._metrics.needs_token):
            _, shown = credentials(environ)
            if self._token and hmac.compare_digest(shown, self._token):
                return None
            if for_metrics and self._metrics.admits(shown):
                return None
            problem = "the token is wrong" if shown else "this needs the token: Authorization: Bearer ..."
            return Refusal(401, "Unauthorized", problem)
        if problem := self._not_local(environ):
            return Refusal(403, "Forbidden", f"{problem}; with balancer.admin_token set, the token would do")
        return None

    def _not_local(self, environ: Mapping[str, str]) -> str:
        address = environ.get("REMOTE_ADDR", "")
        if not is_loopback(_unmapped(address)):
            return f"without a token only this machine may ask, not {address or 'an unknown address'}"
        for name in _FORWARDED:
            if name in environ:
                return "without a token a request may not come through a proxy"
        host = host_of(environ.get("HTTP_HOST", ""))
        if host and not (is_address(host) or host == "localhost" or host in self._hosts):
            return f"this is no name of the admin listener's: {host[:_SHOWN_CHARS]!r}"
        return ""


def _cross_site(environ: Mapping[str, str]) -> str:
    origin = environ.get("HTTP_ORIGIN")
    host = environ.get("HTTP_HOST", "").lower()
    if origin is not None and (not host or origin.lower().partition("://")[2] != host):
        return f"a page of {origin[:_SHOWN_CHARS]!r} may not change anything here"
    if environ.get("HTTP_SEC_FETCH_SITE", "none").lower() not in ("none", "same-origin"):
        return "a page from elsewhere may not change anything here"
    return ""


def _unmapped(address: str) -> str:
    """An IPv4 address that a socket for both kinds shows as IPv6."""
    return address.lower().removeprefix("::ffff:")
