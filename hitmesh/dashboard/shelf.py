"""The page's files, read once: small, with tags by which a browser knows what it has. Pure, but for `read`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Final

from msgspec import Struct

PAGE: Final = "index.html"
TYPES: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "woff2": "font/woff2",
    "webmanifest": "application/manifest+json",
}
"""What is served, by how its name ends; anything else in the folder is nobody's business."""
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
    """Whether a browser's If-None-Match says that it has the file of this tag."""
    return any(each.strip().removeprefix("W/") in (tag, "*") for each in asked.split(","))


def read() -> dict[str, File]:
    """The files of the package, by name."""
    folder = resources.files("hitmesh.dashboard") / "static"
    if not folder.is_dir():
        return {}
    found = {each.name: file_of(each.name, each.read_bytes()) for each in folder.iterdir() if each.is_file()}
    return {name: file for name, file in found.items() if file is not None}
