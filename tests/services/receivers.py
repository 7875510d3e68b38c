"""Whoever is told of alerts: a web server and a mail server, real ones, in threads of this process."""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.services import free_port


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        self._answer(self.rfile.read(length))

    def do_GET(self) -> None:
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        hook = cast("_Server", self.server).hook
        hook.requests.append((self.command, self.path, dict(self.headers), body))
        hook.may_answer.wait()
        with contextlib.suppress(OSError):
            self.send_response(hook.status)
            if 300 <= hook.status < 400:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            for piece in hook.answer:
                self.wfile.write(piece)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    hook: Hook


class Hook:
    """A web server that takes whatever comes, until it is told to answer otherwise."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.requests: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.status = 200
        self.answer: Iterator[bytes] | list[bytes] = []
        self.may_answer = threading.Event()  # else it is silent
        self.may_answer.set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hook = self
        self.port = self._server.server_port
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.port}/"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """What was POSTed, decoded."""
        return [json.loads(body) for method, _, _, body in list(self.requests) if method == "POST"]

    def close(self) -> None:
        """End it."""
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()


class Mailbox:
    """A mail server that keeps what it takes. With a `certificate` it speaks STARTTLS, and wants a login."""

    def __init__(self, certificate: Path | None = None, *, user: str = "", password: str = "", port: int = 0) -> None:
        self.mails: list[EmailMessage] = []
        self.envelopes: list[Envelope] = []
        self.says = ""  # instead of taking a mail
        self.refuses: set[str] = set()
        self.port = port or free_port()
        context = None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)

        def authenticate(_s: SMTP, _session: Session, _e: Envelope, _m: str, data: Any) -> AuthResult:
            good = isinstance(data, LoginPassword) and data == LoginPassword(user.encode(), password.encode())
            return AuthResult(success=good, handled=False)

        extra: dict[str, Any] = {"tls_context": context, "require_starttls": True} if context else {}
        if user:
            extra |= {"authenticator": authenticate, "auth_required": True, "auth_require_tls": bool(context)}
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, ready_timeout=30, **extra)
        self._controller.start()

    async def handle_RCPT(self, _server: SMTP, _s: Session, envelope: Envelope, address: str, _o: object) -> str:  # noqa: N802
        """Whether this one gets mail."""
        if address in self.refuses:
            return "550 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail."""
        if self.says:
            return self.says
        assert isinstance(envelope.content, bytes)
        self.envelopes.append(envelope)
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 taken"

    def close(self) -> None:
        """End it."""
        self._controller.stop()


def texts(box: Mailbox) -> str:
    """All that was mailed, as people read it."""
    return "\n".join(f"{mail['Subject']}\n{mail.get_content()}" for mail in list(box.mails)).replace("\r\n", "\n")


@contextlib.contextmanager
def talker(pieces: Callable[[], Iterator[bytes]]) -> Iterator[int]:
    """Somebody who is no real server, and says what is given to the first who comes; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            try:
                accepted, _ = listener.accept()
                with accepted:
                    for piece in pieces():
                        accepted.sendall(piece)
                    while accepted.recv(65536):
                        pass  # else what we said may be lost with what we didn't read
            except OSError:
                pass

        threading.Thread(target=talk, daemon=True).start()
        yield listener.getsockname()[1]
