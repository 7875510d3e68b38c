"""An HTTP proxy that fails on purpose, between a client and a real server. Plain threads.

Each fault says which requests it is for, whether the real server gets them, and what the client
sees: a status, a cut connection, or the true answer after a while.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came."""

    method: str
    path: str  # with the query string
    body: bytes


def every(request: Request) -> bool:
    """All requests."""
    return True


def writes(request: Request) -> bool:
    """Consul transactions that write."""
    return request.path.startswith("/v1/txn") and b'"get-tree"' not in request.body


def reads(request: Request) -> bool:
    """Everything but those."""
    return not writes(request)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request."""

    status: int | None = None  # the answer's; None lets the true answer through
    body: bytes = b"rpc error making call: injected"
    headers: tuple[tuple[str, str], ...] = ()  # added to whatever is answered
    cut: bool = False  # close the connection instead of answering
    forward: bool = False  # the real server gets the request all the same
    delay_s: float = 0.0  # before the client gets its answer
    late: bool = False  # the delay comes before the real server gets the request
    when: Callable[[Request], bool] = every
    times: int = 1_000_000


class FaultyProxy:
    """Listens on a free loopback port and passes on to `upstream_port` what no fault is for."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.requests: list[Request] = []
        self._faults: list[tuple[Fault, list[int]]] = []  # with how often each may still happen
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy._handle(self)

            do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - http.server's names

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that gave up is what the tests are about

        self._server = Listener(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def inject(self, fault: Fault) -> None:
        """From now on; the first fault that fits a request is the one that happens."""
        with self._lock:
            self._faults.append((fault, [fault.times]))

    def heal(self) -> None:
        """No faults any more."""
        with self._lock:
            self._faults.clear()

    def close(self) -> None:
        """Stop listening. Connections that are open end with their clients."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def transactions(self) -> list[Request]:
        """The requests for transactions, without the questions for what a token may read."""
        return [request for request in self.requests if request.path.startswith("/v1/txn")]

    def _fault_for(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for fault, left in self._faults:
                if left[0] > 0 and fault.when(request):
                    left[0] -= 1
                    return fault
        return None

    def _handle(self, client: BaseHTTPRequestHandler) -> None:
        body = client.rfile.read(int(client.headers.get("Content-Length", 0)))
        request = Request(client.command, client.path, body)
        fault = self._fault_for(request)
        answer = None
        if fault is not None and fault.late:
            time.sleep(fault.delay_s)
        if fault is None or fault.forward or (fault.status is None and not fault.cut):
            answer = self._forward(client, request)
        if fault is not None:
            if not fault.late:
                time.sleep(fault.delay_s)
            if fault.cut:
                client.close_connection = True
                client.connection.shutdown(socket.SHUT_RDWR)
                return
            if fault.status is not None:
                answer = (fault.status, "text/plain", fault.body)
        assert answer is not None
        status, content_type, content = answer
        client.send_response(status)
        for name, value in fault.headers if fault is not None else ():
            client.send_header(name, value)
        if 300 <= status < 400:
            client.send_header("Location", request.path)  # who follows sends it a second time
        client.send_header("Content-Type", content_type)
        client.send_header("Content-Length", str(len(content)))
        client.end_headers()
        client.wfile.write(content)

    def _forward(self, client: BaseHTTPRequestHandler, request: Request) -> tuple[int, str, bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.upstream_port, timeout=30)
        try:
            kept = {
                k: v for k, v in client.headers.items() if k.lower() not in ("host", "connection", "content-length")
            }
            upstream.request(request.method, request.path, request.body, kept | {"Accept-Encoding": "identity"})
            answer = upstream.getresponse()
            return answer.status, answer.headers.get("Content-Type", ""), answer.read()
        finally:
            upstream.close()
