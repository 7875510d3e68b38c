"""TLS on the clients' side: which protocols and ciphers are spoken, and whose certificate is shown.

Owns the certificates of a listener. It must not know HTTP, nor what is done with a connection
(`balancer.accept.tls_socket`).

Invariant: a certificate that is loaded has been shown to a client of our own, so it works. The
names in it come from that handshake: the standard library shows a certificate to the other side
only. That is cheaper than a dependency for it, and tries the key besides.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from balancer.accept.tls_socket import Carrier, TlsSocket
from hitmesh.errors import ConfigError

# Of TLS 1.2: with forward secrecy and authenticated encryption only (RFC 9325, 4.2). 1.3 has no others.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
PROTOCOLS: Final = ["http/1.1"]

_NO_CHECK_TIME: Final = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the ssl module doesn't name
_SHAKES: Final = 4  # turns of a handshake between two objects in memory; it takes two
_WARN_BEFORE_S: Final = 7 * 86400.0  # a certificate that ends so soon: its renewal should have come by now


@dataclass(frozen=True, slots=True)
class Certificate:
    """One that is served: its file, its names in lower case, and when it begins and ends to be valid."""

    path: Path
    names: tuple[str, ...]
    begins_s: float
    ends_s: float


class TlsContexts:
    """The certificates of a listener. `server` is for every connection: it shows the one that SNI asks for.

    A name is served by the first certificate that has it; `*.example.com` is for one label more
    than example.com. Without a name, or with one that nobody has, it is the first certificate.
    To reload, make another one: connections keep what they have begun with.

    Raises ConfigError for a file that can't be served. `warnings`: certificates that aren't valid
    at `now_s` (wall time), or not for long.
    """

    def __init__(self, certificates: Sequence[Path], *, now_s: float | None = None) -> None:
        if not certificates:
            raise ConfigError("no certificate is given", op="TLS", hint="balancer.tls.certificates")
        self._exact: dict[str, ssl.SSLContext] = {}
        self._wild: dict[str, ssl.SSLContext] = {}  # by what is behind "*."
        contexts, loaded = zip(*(_load(path) for path in certificates), strict=True)
        self.server: ssl.SSLContext = contexts[0]
        self.certificates: tuple[Certificate, ...] = loaded
        for context, certificate in zip(contexts, loaded, strict=True):
            for name in certificate.names:
                wild, name = name.startswith("*."), name.removeprefix("*.")
                (self._wild if wild else self._exact).setdefault(name, context)
        if len(contexts) > 1:
            self.server.sslobject_class = _Connection
            self.server.sni_callback = self._show
        self.warnings = tuple(_warnings(loaded, time.time() if now_s is None else now_s))

    def wrap(self, carrier: Carrier, received: bytes = b"") -> TlsSocket:
        """A TlsSocket over an accepted, non-blocking socket, of which `received` was read already."""
        return TlsSocket(carrier, self.server, received)

    def _show(self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> None:
        name = (name or "").lower()
        context = self._exact.get(name) or self._wild.get(name.partition(".")[2])
        if context is not None:
            tls.context = context


class _Connection(ssl.SSLObject):
    """Works as what SNI calls back with where gevent has patched: it calls this, as it expects a socket of its own."""

    def _sslsock(self) -> _Connection:
        return self


def _load(path: Path) -> tuple[ssl.SSLContext, Certificate]:
    context = _context()
    try:
        pem = path.read_text(encoding="ascii", errors="ignore")  # comments may be in any letters
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    for part in ("CERTIFICATE", "PRIVATE KEY"):
        if f"{part}-----" not in pem:
            raise _unusable(path, f"it has no {part.lower()} in PEM")
    try:
        context.load_cert_chain(path, password=_no_password)
        shown = _shown(context, pem)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _unusable(path, "the private key is not the first certificate's") from error
        why = getattr(error, "verify_message", "") or error.reason or str(error)
        raise _unusable(path, why.replace("_", " ").lower()) from error
    except ValueError as error:
        raise _unusable(path, str(error)) from error
    names = [name for kind, name in shown.get("subjectAltName", ()) if kind == "DNS"]
    if not names:  # no longer what clients look at (RFC 9525), but better than nothing to choose by
        names = [value for part in shown.get("subject", ()) for key, value in part if key == "commonName"]
    return context, Certificate(
        path,
        tuple(name.lower() for name in names),
        ssl.cert_time_to_seconds(shown["notBefore"]),
        ssl.cert_time_to_seconds(shown["notAfter"]),
    )


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client may not make us begin again (CVE-2011-1473; OpenSSL 3 lets none by itself), nor compress (CRIME).
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(PROTOCOLS)
    return context


def _no_password() -> str:
    raise ValueError("its private key is encrypted")  # OpenSSL would ask the terminal


def _shown(server: ssl.SSLContext, pem: str) -> dict[str, Any]:
    """What a client that trusts `pem` alone, whatever the time, reads in the certificate that it is shown."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cadata=pem)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking, answering = client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)
    for _ in range(_SHAKES):
        for end in (asking, answering):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return asking.getpeercert() or {}


def _unusable(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"this certificate can't be used: {why}",
        op="TLS",
        endpoint=str(path),
        hint="a PEM file with the certificate, its chain and its private key",
    )


def _warnings(certificates: Sequence[Certificate], now_s: float) -> Iterator[str]:
    for one in certificates:
        day = time.strftime("%Y-%m-%d", time.gmtime(one.ends_s))
        if one.begins_s > now_s:
            yield f"{one.path}: this certificate isn't valid yet"
        elif one.ends_s < now_s:
            yield f"{one.path}: this certificate expired on {day}"
        elif one.ends_s < now_s + _WARN_BEFORE_S:
            yield f"{one.path}: this certificate expires on {day}"
