"""What a collector gives away as it is: the script for web pages, the start page, the API's document, a word to crawlers."""

from __future__ import annotations

from typing import Final

import falcon
from falcon import App, Request, Response

from hitmesh.site.script import CURRENT, FOLDER, name_of, scripts

_FRESH_S: Final = 3600  # a mended script is everywhere after that
_FOREVER: Final = "public, max-age=31536000, immutable"
_ROBOTS: Final = b"User-agent: *\nDisallow: /\n"


# Of the start page: nothing from elsewhere, and no frame of anybody's.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


def add_static(app: App[Request, Response], *, dc: str, name: str) -> None:
    """Have an app serve all of it; `name` and `dc` say who answers."""
    for path, script in scripts().items():
        app.add_route(f"/{path}", Script(script, is_current=path == CURRENT))
    start = (FOLDER / "index.html").read_text().replace("INSTANCE", name).replace("DATACENTER", dc)
    app.add_route("/", File("text/html; charset=utf-8", start.encode(), ("Content-Security-Policy", _POLICY)))
    app.add_route("/live.js", File("text/javascript; charset=utf-8", (FOLDER / "live.js").read_bytes()))
    app.add_route("/openapi.json", File("application/json", (FOLDER / "openapi.json").read_bytes()))
    app.add_route("/robots.txt", File("text/plain; charset=utf-8", _ROBOTS))


class File:
    """GET of what changes with the release only."""

    def __init__(self, kind: str, data: bytes, *headers: tuple[str, str]) -> None:
        self._data = data
        self._headers = (
            ("Content-Type", kind),
            ("Cache-Control", "no-cache"),
            ("X-Content-Type-Options", "nosniff"),
            *headers,
        )

    def on_get(self, req: Request, resp: Response) -> None:
        """All of it."""
        resp.set_headers(self._headers)
        resp.data = self._data

    on_head = on_get


class Script:
    """GET /count.js, and the same under a name with its hash, which never changes."""

    def __init__(self, script: bytes, *, is_current: bool) -> None:
        self._script = script
        self._tag = f'"{name_of(script)}"'
        self._headers: Final = (
            ("Content-Type", "text/javascript; charset=utf-8"),
            ("Cache-Control", f"public, max-age={_FRESH_S}" if is_current else _FOREVER),
            ("ETag", self._tag),
            ("X-Content-Type-Options", "nosniff"),
            ("Access-Control-Allow-Origin", "*"),  # also for whoever doesn't ask: a cache keeps one answer for all
            ("Cross-Origin-Resource-Policy", "cross-origin"),
            ("Timing-Allow-Origin", "*"),
        )

    def on_get(self, req: Request, resp: Response) -> None:
        """The script, unless it is known."""
        resp.set_headers(self._headers)
        if req.get_header("If-None-Match") == self._tag:
            resp.status = falcon.HTTP_304
        else:
            resp.data = self._script

    on_head = on_get
