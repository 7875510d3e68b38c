"""Certificates for the tests, made by the openssl command, and connections that show them."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from pathlib import Path

from balancer.accept.tls_socket import TlsSocket
from tests.services import PATIENCE_S, require

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def openssl(*arguments: str | Path) -> None:
    """Run the openssl command."""
    subprocess.run([require("openssl"), *arguments], check=True, capture_output=True, timeout=60)


def make_certificate(
    folder: Path, *names: str, file: str = "", days: int = 30, key: tuple[str, ...] = EC, extension: str = ""
) -> Path:
    """A PEM file with a certificate of its own for `names`, and its key. `days` may be negative, without names then."""
    file = file or f"{names[0].replace('*', 'any')}"
    made, secret, request = folder / f"{file}.crt", folder / f"{file}.key", folder / f"{file}.csr"
    subject = ("-subj", f"/CN={file}", "-nodes", "-keyout", secret)
    if days < 0:
        openssl("req", "-new", *key, *subject, "-out", request)
        openssl("x509", "-req", "-in", request, "-signkey", secret, "-days", str(days), "-out", made)
    else:
        extensions = ["-addext", f"subjectAltName={','.join(f'DNS:{name}' for name in names)}"] if names else []
        extensions += ["-addext", extension] if extension else []
        openssl("req", "-x509", *key, *subject, "-days", str(days), *extensions, "-out", made)
    pem = folder / f"{file}.pem"
    pem.write_bytes(made.read_bytes() + secret.read_bytes())
    return pem


def client_context(*trusted: Path) -> ssl.SSLContext:
    """A client that takes any certificate, or, with `trusted`, those alone and only for the name that it asks for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trusted:
        for pem in trusted:
            context.load_verify_locations(cadata=pem.read_text())
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def shaken(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLSocket, TlsSocket]:
    """Both ends of a connection over loopback after their handshake; what fails there is raised."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connecting = socket.create_connection(listener.getsockname(), timeout=PATIENCE_S)
        accepted, _ = listener.accept()
    accepted.setblocking(False)
    connecting.setblocking(False)
    tls = TlsSocket(accepted, server)
    asking = client.wrap_socket(
        connecting, server_hostname=name, session=session, do_handshake_on_connect=False, suppress_ragged_eofs=False
    )
    done = False
    deadline = time.monotonic() + PATIENCE_S
    while not (done and tls.shaken):
        assert time.monotonic() < deadline
        try:
            asking.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        except OSError:
            tls.close()
            asking.close()
            raise
        try:
            tls.recv(1)
        except BlockingIOError:
            pass
        except ssl.SSLError:
            asking.setblocking(True)  # the client has been told why
            continue
    asking.settimeout(PATIENCE_S)
    return asking, tls
