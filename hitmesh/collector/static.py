"""What a collector gives away as it is: the script for web pages, and a word to crawlers."""

from __future__ import annotations

from typing import Final

import falcon
from falcon import Request, Response

from hitmesh.site.script import name_of

_FRESH_S: Final = 3600  # a mended script is everywhere after that
_FOREVER: Final = "public, max-age=31536000, immutable"
_ROBOTS: Final = b"User-agent: *\nDisallow: /\n"


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


class Robots:
    """GET /robots.txt: nothing here is a page, and each visit of a crawler would count one."""

    def on_get(self, req: Request, resp: Response) -> None:
        """All of it is to be left alone."""
        resp.content_type = "text/plain; charset=utf-8"
        resp.data = _ROBOTS

    on_head = on_get
