"""A file that is rendered for a host, and who has to be told when it changes. Pure."""

from __future__ import annotations

import hashlib
from typing import Literal

from msgspec import Struct

Then = Literal["", "supervisor", "keepalived", "consul", "nftables", "sysctl"]


class File(Struct, frozen=True, kw_only=True):
    """What a file on a host is to be."""

    path: str  # whole
    text: str
    owner: str = "root"  # and group of that name
    mode: int = 0o644
    then: Then = ""
    """Who reads it, and is told when it has changed."""

    @property
    def digest(self) -> str:
        """The SHA-256 of its text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()
