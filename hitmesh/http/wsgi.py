"""A request as WSGI wants it (PEP 3333), and what an app answered as bytes. Pure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from hitmesh.http.fields import Pair
from hitmesh.http.requests import Request

Environ = dict[str, Any]
Headers = Sequence[tuple[str, str]]
App = Callable[[Environ, Any], Any]

REQUEST_ID: Final = "HTTP_X_REQUEST_ID"  # a request's id, in an environment
_UNPREFIXED: Final = ("CONTENT_TYPE", "CONTENT_LENGTH")
_BODILESS: Final = ("204", "304")


def environ_of(request: Request, body: bytes, *, peer: str, own: tuple[str, int], scheme: str) -> Environ:
    """The request of `peer` to our address `own`; `body` is whole, or empty where it wasn't read."""
    path, _, query = request.target.partition(b"?")
    environ: Environ = {
        "REQUEST_METHOD": request.method.decode("ascii"),
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "SERVER_NAME": own[0],
        "SERVER_PORT": str(own[1]),
        "SERVER_PROTOCOL": f"HTTP/1.{request.minor}",
        "REMOTE_ADDR": peer,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    environ.update(field_entries(request.pairs))
    environ["CONTENT_LENGTH"] = str(len(body))
    environ["wsgi.input"] = BytesIO(body)
    return environ


def field_entries(pairs: Sequence[Pair]) -> Environ:
    """What the field lines are in a WSGI environment: several of one name joined by commas."""
    entries: Environ = {}
    for name, value in pairs:
        if b"_" in name:  # or it would be taken for the one with a hyphen
            continue
        key = name.decode("ascii").upper().replace("-", "_")
        if key not in _UNPREFIXED:
            key = f"HTTP_{key}"
        text = value.decode("latin-1")
        entries[key] = f"{entries[key]},{text}" if key in entries else text
    return entries


def encoded(
    status: str, headers: Headers, body: bytes, *, environ: Mapping[str, Any], keep_alive: bool, date: bytes
) -> bytes:
    """The whole answer, as it goes out."""
    lines = [f"HTTP/1.1 {status}", f"Date: {date.decode()}", *(f"{name}: {value}" for name, value in headers)]
    is_head = environ["REQUEST_METHOD"] == "HEAD"
    sized = any(name.lower() == "content-length" for name, _ in headers)
    if not sized and not is_head and status[:3] not in _BODILESS:
        lines.append(f"Content-Length: {len(body)}")
    if not keep_alive:
        lines.append("Connection: close")
    elif environ["SERVER_PROTOCOL"] == "HTTP/1.0":
        lines.append("Connection: keep-alive")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if is_head else head + body
