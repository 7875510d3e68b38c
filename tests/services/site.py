"""A small web site for real browsers, which passes on to another server what is below one of its paths. Plain threads.

Its pages can tell it something, and can wait until somebody told it something: GET /tell?words, GET /told?words.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, cast
from urllib.parse import unquote

from tests.services import PATIENCE_S

HTML: Final = "text/html; charset=utf-8"
PASSED_ON: Final = ("Content-Type", "Cache-Control")


class Site:
    """Listens on a free loopback port. What is below the path `own` it has from the server `other`, as HOST:PORT."""

    def __init__(self, own: str, other: str, renamed: Mapping[str, str]) -> None:
        """`renamed` are files that have another name there."""
        self.pages: dict[str, tuple[str, Mapping[str, str]]] = {}
        """By path: HTML and headers."""
        self.own, self.other, self.renamed = own, other, renamed
        self._told: set[str] = set()
        self._news = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.site = self
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def tell(self, words: str) -> None:
        """To whoever waits for it."""
        with self._news:
            self._told.add(words)
            self._news.notify_all()

    def wait_until_told(self, words: str) -> None:
        """By a page, or by the test."""
        with self._news:
            if not self._news.wait_for(lambda: words in self._told, PATIENCE_S):
                raise AssertionError(f"waited {PATIENCE_S} s to be told {words!r}, and was told {sorted(self._told)}")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    site: Site

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that has gone is none."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site = cast("_Server", self.server).site
        path, _, query = self.path.partition("?")
        if path == "/tell":
            site.tell(unquote(query))
            self._answer(204)
        elif path == "/told":
            site.wait_until_told(unquote(query))
            self._answer(204)
        elif path.startswith(site.own):
            there = self.path.removeprefix(site.own)
            self._pass_on(site.other, site.renamed.get(there, there))
        elif path in site.pages:
            html, headers = site.pages[path]
            self._answer(200, html.encode(), {"Content-Type": HTML, **headers})
        else:
            self._answer(404)

    do_POST = do_GET  # noqa: N815 - the name is http.server's

    def _pass_on(self, to: str, path: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        with closing(http.client.HTTPConnection(to, timeout=PATIENCE_S)) as connection:
            connection.request(self.command, f"/{path}", body, {"User-Agent": self.headers["User-Agent"]})
            answer = connection.getresponse()
            headers = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
            self._answer(answer.status, answer.read(), headers)

    def _answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        with suppress(OSError):
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""
