"""The trail of a datacenter's deploys, as it stands in the settings store under `deploys/DC/trail`. Pure.

What was deployed, scaled, restored, by whom, with which result. `hitmesh.deploy.memory` writes it.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct


class Entry(Struct, frozen=True, kw_only=True):
    """What somebody did."""

    at: float  # when it ended
    who: str
    what: str  # such as deploy
    result: str  # "done", or what went wrong
    release: str = ""
    seconds: float = 0.0


def read_trail(value: bytes | None) -> list[Entry]:
    """The entries, the oldest first; none where it was deleted or isn't a trail."""
    try:
        return msgspec.json.decode(value or b"[]", type=list[Entry])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return []
