"""The script for web pages, as it is served: minified, under its own name and under one with its hash. Owns its files.

A page that names the hash, with `integrity`, has the very bytes that it was written with: so every script that was ever
released stays.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "static"
CURRENT: Final = "count.js"
_DIGITS: Final = 12  # of a hash, in a name


@cache
def scripts() -> Mapping[str, bytes]:
    """All of them, by the names that they are served under."""
    current = (FOLDER / CURRENT).read_bytes()
    earlier = [file.read_bytes() for file in sorted(FOLDER.glob("earlier/*.js"))]
    return {CURRENT: current, **{name_of(script): script for script in (current, *earlier)}}


def name_of(script: bytes) -> str:
    """The name with its hash."""
    return f"count.{hashlib.sha256(script).hexdigest()[:_DIGITS]}.js"


def integrity_of(script: bytes) -> str:
    """What the attribute `integrity` says of it."""
    return f"sha384-{base64.b64encode(hashlib.sha384(script).digest()).decode()}"
