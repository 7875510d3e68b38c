"""The page's files, read once. Anything in their folder that isn't served is nobody's business."""

from __future__ import annotations

from importlib import resources
from typing import Final

from hitmesh.http.files import File, file_of

PAGE: Final = "index.html"


def read() -> dict[str, File]:
    """The files of the package, by name."""
    folder = resources.files("hitmesh.dashboard") / "static"
    if not folder.is_dir():
        return {}
    found = {each.name: file_of(each.name, each.read_bytes()) for each in folder.iterdir() if each.is_file()}
    return {name: file for name, file in found.items() if file is not None}
