"""What a collector gives away as it is: the script for web pages, the start page, the API's document, a word to crawlers."""

from __future__ import annotations

from typing import Final

import falcon
from falcon import App, Request, Response

from hitmesh.http.files import TYPES, File, file_of, is_known
from hitmesh.site.script import CURRENT, FOLDER, name_of, scripts

_FOR_AN_HOUR: Final = "public, max-age=3600"  # a mended script is everywhere after that
_FOREVER: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = ("Cache-Control", "no-cache")
_START: Final = "index.html"
_ROBOTS: Final = b"User-agent: *\nDisallow: /\n"
_OF_ANY_SITE: Final = (
    ("Access-Control-Allow-Origin", "*"),  # also for whoever doesn't ask: a cache keeps one answer for all
    ("Cross-Origin-Resource-Policy", "cross-origin"),
    ("Timing-Allow-Origin", "*"),
)
# Of the start page: nothing from elsewhere, and no frame of anybody's.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


def add_static(app: App[Request, Response], *, dc: str, name: str) -> None:
    """Have an app serve all of it; `name` and `dc` say who answers."""
    for path, script in scripts().items():
        cache = _FOR_AN_HOUR if path == CURRENT else _FOREVER
        file = File(script, TYPES["js"], f'"{name_of(script)}"')
        app.add_route(f"/{path}", Static(file, ("Cache-Control", cache), *_OF_ANY_SITE))
    start = (FOLDER / _START).read_text().replace("INSTANCE", name).replace("DATACENTER", dc)
    app.add_route("/", Static(file_of(_START, start.encode()), _ASK_AGAIN, ("Content-Security-Policy", _POLICY)))
    app.add_route("/robots.txt", Static(file_of("robots.txt", _ROBOTS), _ASK_AGAIN))
    for path in ("live.js", "openapi.json"):
        app.add_route(f"/{path}", Static(file_of(path, (FOLDER / path).read_bytes()), _ASK_AGAIN))


class Static:
    """GET of a file, unless the client has it."""

    def __init__(self, file: File | None, *headers: tuple[str, str]) -> None:
        assert file is not None, "its name says what it is"
        self._file = file
        self._headers = (
            ("Content-Type", file.type),
            ("ETag", file.tag),
            ("X-Content-Type-Options", "nosniff"),
            *headers,
        )

    def on_get(self, req: Request, resp: Response) -> None:
        """All of it, or 304."""
        resp.set_headers(self._headers)
        if is_known(self._file.tag, req.get_header("If-None-Match", default="")):
            resp.status = falcon.HTTP_304
        else:
            resp.data = self._file.data

    on_head = on_get
