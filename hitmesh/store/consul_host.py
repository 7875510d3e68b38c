"""One Consul agent: where it is, how a connection to it is made, and what its failures mean in words.

Owns addresses; what an agent is shown of us is `consul_access`'s. Knows nothing of what is asked. Shared by all
that speak to Consul.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from hitmesh.config.addresses import host_port_text
from hitmesh.errors import ConfigError
from hitmesh.store.consul_access import Tls, Token, excerpt, refusal

if TYPE_CHECKING:
    import ssl

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024  # of the catalogue and the agent; a mesh's instances take some 5 KiB each
CONNECT_TIMEOUT_S: Final = 1.0  # a host of the same datacenter accepts in a millisecond, or not at all


class NoAnswer(Exception):
    """No usable answer; the request may have been carried out, now or later."""


class NotSent(NoAnswer):
    """No connection: the request can't have been carried out."""


class Host(Struct, frozen=True):
    """One Consul agent, and what it is shown of us."""

    address: str
    port: int
    tls: Tls | None = None
    token: Token = Token()

    def __str__(self) -> str:
        return host_port_text(self.address, self.port)

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection that isn't made yet. Raises NotSent when a file that it needs can't be used."""
        context = self.context()
        if context is None:
            return http.client.HTTPConnection(self.address, self.port, timeout=timeout_s)
        return http.client.HTTPSConnection(self.address, self.port, timeout=timeout_s, context=context)

    def request(
        self, method: str, path: str, body: bytes = b"", *, timeout_s: float, also: Collection[int] = ()
    ) -> tuple[int, bytes]:
        """Status, which is 200 or one of `also`, and body of one request's answer. Raises NoAnswer."""
        connection = self.connection(CONNECT_TIMEOUT_S)
        try:
            connection.connect()
            connection.sock.settimeout(timeout_s)
            connection.request(method, path, body or None, self.headers())
            answer = connection.getresponse()
            content = answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(self.in_short(error)) from error
        finally:
            connection.close()
        if answer.status != http.client.OK and answer.status not in also:
            raise NoAnswer(self.refusal(answer.status, content[:1024].decode("utf-8", "replace")))
        if len(content) > MAX_ANSWER_BYTES:
            raise NoAnswer(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        return answer.status, content

    def context(self) -> ssl.SSLContext | None:
        """What connections are made with now; None for plain HTTP. Raises NotSent."""
        try:
            return None if self.tls is None else self.tls.context()
        except ConfigError as error:
            raise NotSent(str(error)) from error

    def headers(self) -> dict[str, str]:
        """Of every request: the token. Raises NotSent."""
        try:
            return self.token.headers()
        except ConfigError as error:
            raise NotSent(str(error)) from error

    def stamp(self) -> str:
        """Another one when the token is another one, by which nobody can tell what it is. Raises NotSent."""
        return hashlib.sha256(repr(self.headers()).encode()).hexdigest()

    def refusal(self, status: int, body: str) -> str:
        """An answer that is none, in words."""
        return refusal(status, body, self.token)

    def in_short(self, error: Exception) -> str:
        """Why there is no answer, of an error that a connection raised."""
        if isinstance(error, ConnectionRefusedError | socket.gaierror):
            return "connection refused or host unknown"
        if isinstance(error, TimeoutError):
            return "no connection or no answer in time"
        return self.lost(error)

    def lost(self, error: Exception) -> str:
        """The same of one that came after connecting."""
        return (self.tls.trouble(error) if self.tls else "") or excerpt(f"connection lost: {error}")


def url(hosts: Sequence[Host], prefix: str) -> str:
    """The URL of what is below `prefix`, for people."""
    scheme = "consul+https" if any(host.tls for host in hosts) else "consul"
    return f"{scheme}://{','.join(map(str, hosts))}/{prefix}"
