"""One Consul agent: where it is, how a connection to it is made, and what its failures mean in words.

Owns addresses, TLS and the token; knows nothing of what is asked. Shared by all that speak to Consul.
"""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from hitmesh.config.addresses import host_port_text
from hitmesh.hub.blocking import socket_is_cooperative

if TYPE_CHECKING:
    import ssl

CONNECT_TIMEOUT_S: Final = 1.0  # a host of the same datacenter accepts in a millisecond, or not at all
EXCERPT_CHARS: Final = 200  # of an answer, in an error
# What Go's server says, and then what OpenSSL says, when one side speaks TLS and the other doesn't.
_SPEAKS_TLS: Final = "Client sent an HTTP request to an HTTPS server"
_SPEAKS_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")


class NoAnswer(Exception):
    """No usable answer; the request may have been carried out, now or later."""


class NotSent(NoAnswer):
    """No connection: the request can't have been carried out."""


class Tls(Struct, frozen=True):
    """HTTPS. `ca` is the file with the certificates of those who may sign; empty: CONSUL_CACERT, else the system's."""

    ca: str = ""

    def context(self) -> ssl.SSLContext:
        """What connections are made with. Raises OSError when the file can't be read or holds no certificate."""
        return _context(self.ca or os.environ.get("CONSUL_CACERT", ""))


class Host(Struct, frozen=True):
    """One Consul agent."""

    address: str
    port: int
    tls: Tls | None = None

    def __str__(self) -> str:
        return host_port_text(self.address, self.port)

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection that isn't made yet."""
        if self.tls is None:
            return http.client.HTTPConnection(self.address, self.port, timeout=timeout_s)
        return http.client.HTTPSConnection(self.address, self.port, timeout=timeout_s, context=self.tls.context())


def url(hosts: Sequence[Host], prefix: str) -> str:
    """The URL of what is below `prefix`, for people."""
    scheme = "consul+https" if any(host.tls for host in hosts) else "consul"
    return f"{scheme}://{','.join(map(str, hosts))}/{prefix}"


@cache
def _context(ca: str) -> ssl.SSLContext:
    import ssl as plain  # not for those who speak HTTP

    context = plain.SSLContext(plain.PROTOCOL_TLS_CLIENT)  # asks for a certificate, and for the host in it
    if socket_is_cooperative():  # roles patch all but TLS, which takes none of gevent's sockets
        from gevent.ssl import SSLContext

        context = SSLContext(plain.PROTOCOL_TLS_CLIENT)
    if ca:
        context.load_verify_locations(ca)
    else:
        context.load_default_certs()
    return context


def headers() -> dict[str, str]:
    """Of every request: the token, from the variable that Consul's own programs take it from."""
    token = os.environ.get("CONSUL_HTTP_TOKEN")
    return {"X-Consul-Token": token} if token else {}


def excerpt(text: str) -> str:
    """The beginning of an answer, for an error."""
    return text if len(text) <= EXCERPT_CHARS else text[:EXCERPT_CHARS] + "..."


def refusal(status: int, body: str) -> str:
    """An answer that is none, in words: what it says, and what would help where that is known."""
    text = excerpt(body.strip())
    if status == http.client.BAD_REQUEST and _SPEAKS_TLS in text:
        return "it speaks HTTPS only: write consul+https://"
    if status == http.client.FORBIDDEN or "Permission denied" in text:
        token = "the ACL token" if headers() else "there is no ACL token (CONSUL_HTTP_TOKEN), and anonymous requests"
        return f"{status}: {text}: {token} may not do this"
    return f"{status}: {text}"


def in_short(error: Exception) -> str:
    """Why there is no answer, of an error that a connection raised."""
    if isinstance(error, ConnectionRefusedError | socket.gaierror):
        return "connection refused or host unknown"
    if isinstance(error, TimeoutError):
        return "no connection or no answer in time"
    return tls_trouble(error) or excerpt(f"connection lost: {error}")


def tls_trouble(error: Exception) -> str:
    """What is wrong between us and an agent's TLS, in words; empty when it isn't that."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        why = (
            text.partition("certificate verify failed: ")[2].partition(" (_ssl.c")[0] or "it isn't signed by a known CA"
        )
        return f"its certificate isn't trusted: {why}; name its CA with ?ca=FILE at the URL's end, or in CONSUL_CACERT"
    if any(sign in text for sign in _SPEAKS_NO_TLS):
        return "it doesn't speak HTTPS there: write consul://, or its HTTPS port"
    return ""
