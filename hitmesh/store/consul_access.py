"""What a Consul agent is shown of us: a client certificate and the ACL token; and what it says when that won't do.

Owns the files that they are in, which URLs name, or the variables that Consul's own programs take. It must not
know hosts, nor what is asked.

Invariants:
- A secret is read from its file where it is used, and is part of no object, text or error.
- A file that is replaced counts from the next request, or the next connection for TLS.
"""

from __future__ import annotations

import http.client
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from hitmesh.errors import ConfigError
from hitmesh.hub.blocking import socket_is_cooperative
from hitmesh.secrets import read_secret

if TYPE_CHECKING:
    import ssl

EXCERPT_CHARS: Final = 200  # of an answer, in an error
CONTEXTS: Final = 8  # totals and settings may have files of their own, and these may be replaced
_TOKEN: Final = re.compile(rb"[!-~]{1,1024}")  # as a header can have it; Consul's own are UUIDs
# What Go's server says, and then what OpenSSL says, when one side speaks TLS and the other doesn't.
_SPEAKS_TLS: Final = "Client sent an HTTP request to an HTTPS server"
_SPEAKS_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")
# OpenSSL's names of the alerts with which a server refuses the client's certificate, or that there is none.
_WANTS_CERTIFICATE: Final = (
    "ALERT_CERTIFICATE_REQUIRED",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNKNOWN_CA",
    "ALERT_CERTIFICATE_EXPIRED",
    "ALERT_CERTIFICATE_UNKNOWN",
    "ALERT_UNSUPPORTED_CERTIFICATE",
)


# Of TLS 1.3 a client takes its handshake for done before the server has seen its certificate, and may find the
# connection closed when it asks something; the alert is behind that.
_ENDED: Final = ("EOF occurred", "Broken pipe", "Connection reset")


class Token(Struct, frozen=True):
    """The ACL token in `file`; empty: that of CONSUL_HTTP_TOKEN_FILE, or else CONSUL_HTTP_TOKEN itself, or none."""

    file: str = ""

    def headers(self) -> dict[str, str]:
        """Of a request. Raises ConfigError."""
        file = self._file()
        content = read_secret(Path(file)).strip() if file else os.environb.get(b"CONSUL_HTTP_TOKEN", b"")
        if not (content or file):
            return {}
        if not _TOKEN.fullmatch(content):
            raise ConfigError(f"{file or 'CONSUL_HTTP_TOKEN'}: holds no ACL token, which is one word")
        return {"X-Consul-Token": content.decode("ascii")}

    def refused(self, text: str) -> str:
        """Why a request was, whose answer says `text`."""
        file = self._file()
        if not (file or os.environ.get("CONSUL_HTTP_TOKEN")):
            return (
                "there is no ACL token (?token=FILE at the URL's end, or CONSUL_HTTP_TOKEN), "
                "and anonymous requests may not do this"
            )
        mine = f"the ACL token {'in' if file else 'of'} {file or 'CONSUL_HTTP_TOKEN'}"
        return f"{mine} is unknown there" if "ACL not found" in text else f"{mine} may not do this"

    def _file(self) -> str:
        return self.file or os.environ.get("CONSUL_HTTP_TOKEN_FILE", "")


class Tls(Struct, frozen=True):
    """HTTPS, by files in PEM. One that is empty is that of CONSUL_CACERT, CONSUL_CLIENT_CERT or CONSUL_CLIENT_KEY.

    `ca`: certificates of those who may sign the agents'; none at all: the system's. `cert` and `key`: what the
    agents are shown, if they ask; the key may be in the certificate's file.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""

    def context(self) -> ssl.SSLContext:
        """What connections are made with now. Raises ConfigError."""
        ca, cert = self.ca or os.environ.get("CONSUL_CACERT", ""), self._cert()
        key = "" if not cert else (self.key if self.cert else os.environ.get("CONSUL_CLIENT_KEY", "")) or cert
        return _context(ca, cert, key, tuple(_stamp(file) for file in (ca, cert, key) if file))

    def trouble(self, error: Exception) -> str:
        """What is wrong between us and an agent's TLS, in words; empty when it isn't that."""
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            found = text.partition("certificate verify failed: ")[2].partition(" (_ssl.c")[0]
            return (
                f"its certificate isn't trusted: {found or 'it is not signed by a known CA'}; "
                "name its CA with ?ca=FILE at the URL's end, or in CONSUL_CACERT"
            )
        if any(sign in text for sign in _SPEAKS_NO_TLS):
            return "it doesn't speak HTTPS there: write consul://, or its HTTPS port"
        certificate = (
            f"it doesn't take the client certificate in {cert}: is it valid, and signed by its CA?"
            if (cert := self._cert())
            else "it wants a client certificate: name one with cert=FILE&key=FILE at the URL's end"
        )
        if any(sign in text for sign in _WANTS_CERTIFICATE):
            return certificate
        if any(sign in text for sign in _ENDED):
            return f"connection lost: it stops, or {certificate}"
        return ""

    def _cert(self) -> str:
        return self.cert or os.environ.get("CONSUL_CLIENT_CERT", "")


def excerpt(text: str) -> str:
    """The beginning of an answer, for an error."""
    return text if len(text) <= EXCERPT_CHARS else text[:EXCERPT_CHARS] + "..."


def refusal(status: int, body: str, token: Token) -> str:
    """An answer that is none, in words: what it says, and what would help where that is known."""
    text = excerpt(body.strip())
    if status == http.client.BAD_REQUEST and _SPEAKS_TLS in text:
        return "it speaks HTTPS only: write consul+https://"
    if status == http.client.FORBIDDEN or "Permission denied" in text:
        return f"{status}: {text}: {token.refused(text)}"
    return f"{status}: {text}"


def _stamp(file: str) -> tuple[int, ...]:
    """Another one when the file is another one."""
    try:
        found = Path(file).stat()
    except OSError:
        return ()  # whoever reads it says so
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


@lru_cache(maxsize=CONTEXTS)
def _context(ca: str, cert: str, key: str, stamps: Sequence[object]) -> ssl.SSLContext:
    del stamps
    import ssl as plain  # not for those who speak HTTP

    context = plain.SSLContext(plain.PROTOCOL_TLS_CLIENT)  # asks for a certificate, and for the host in it
    if socket_is_cooperative():  # roles patch all but TLS, which takes none of gevent's sockets
        from gevent.ssl import SSLContext

        context = SSLContext(plain.PROTOCOL_TLS_CLIENT)
    if ca:
        try:
            context.load_verify_locations(ca)
        except OSError as error:  # OpenSSL's too
            raise ConfigError(f"{ca} can't be read as certificates: {error.strerror or error}") from error
    else:
        context.load_default_certs()
    if cert:
        read_secret(Path(key))  # or it says what is wrong
        try:
            context.load_cert_chain(cert, key, password=_no_password)
        except (OSError, ValueError) as error:
            why = str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error).replace("_", " ").lower()
            raise ConfigError(f"{cert} and {key} can't be read as a certificate and its key: {why}") from error
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # OpenSSL would ask the terminal
