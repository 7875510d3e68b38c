"""What all ways of sending share: what one is, where a name is, and what TLS believes.

Names are looked up by the mesh's own way (`mesh.resolving`): a name server that is silent holds up nobody.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from hitmesh.config import host_port, host_port_text
from hitmesh.dashboard.alerts.memory import Notice
from hitmesh.errors import AlertError, ConfigError, MeshError
from hitmesh.hub.blocking import socket_is_cooperative
from hitmesh.mesh.resolving import resolve
from hitmesh.secrets import read_secret
from hitmesh.visible import visible

if TYPE_CHECKING:
    import ssl

TIMEOUT_S: Final = 10.0  # for each answer of a server; what a whole try may take is the outbox's business
MAX_EXCERPT_CHARS: Final = 120  # of what a server answers, in what is said of it
_WORD: Final = re.compile(rb"[!-~]{1,4096}")


class Way(Protocol):
    """A way in which people are told."""

    name: str
    """Of the way: "webhook 1", "mail"."""

    where: str
    """Where it leads, for people; no part of it is a secret."""

    together: bool
    """Whether several notices are sent, and taken, as one."""

    def send(self, dc: str, notices: Sequence[Notice]) -> str:
        """Send these, one at least, of datacenter `dc`; what was answered. Blocks for TIMEOUT_S and more.

        Raises AlertError; then some of them may have been taken.
        """


def address_of(host: str, port: int) -> tuple[str, int]:
    """Where a host is, as numbers. Raises AlertError."""
    try:
        return host_port(resolve(f"tcp://{host_port_text(host, port)}").removeprefix("tcp://"))
    except MeshError as error:
        raise AlertError(f"{host} can't be looked up: {error.message}") from error


def context() -> ssl.SSLContext:
    """Asks for a certificate that the system's CAs have signed (or those of SSL_CERT_FILE), and for the host in it."""
    import ssl as plain

    made = plain.SSLContext(plain.PROTOCOL_TLS_CLIENT)
    if socket_is_cooperative():  # roles patch all but TLS, which takes none of gevent's sockets
        from gevent.ssl import SSLContext

        made = SSLContext(plain.PROTOCOL_TLS_CLIENT)
    made.load_default_certs()
    return made


def secret_word(file: str) -> str:
    """The one word in a file that is its reader's alone. Raises AlertError, which doesn't have it."""
    try:
        word = read_secret(Path(file)).strip()
    except ConfigError as error:
        raise AlertError(str(error)) from error
    if not _WORD.fullmatch(word):
        raise AlertError(f"{file}: must hold one word of printable ASCII")
    return word.decode("ascii")


def excerpt(answer: bytes | str) -> str:
    """What a server says, as text of a line."""
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return visible(" ".join(text.split()))[:MAX_EXCERPT_CHARS]
