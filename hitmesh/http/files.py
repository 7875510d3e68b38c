"""Files as they are served: what they are, and a tag by which a client knows what it has (RFC 9110, 8.8.3). Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

TYPES: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "woff2": "font/woff2",
    "webmanifest": "application/manifest+json",
}
"""What is served, by how its name ends."""
_TAG_CHARS: Final = 16


class File(Struct, frozen=True):
    """One of them."""

    data: bytes
    type: str
    tag: str  # as it stands in ETag


def file_of(name: str, data: bytes) -> File | None:
    """What is served under a name; None: nothing is."""
    content_type = TYPES.get(name.rpartition(".")[2])
    if content_type is None:
        return None
    return File(data, content_type, f'"{hashlib.sha256(data).hexdigest()[:_TAG_CHARS]}"')


def is_known(tag: str, asked: str) -> bool:
    """Whether a client's If-None-Match says that it has the file of this tag."""
    return any(each.strip().removeprefix("W/") in (tag, "*") for each in asked.split(","))
