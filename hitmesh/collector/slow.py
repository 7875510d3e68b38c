"""Requests that a collector took long to answer, said in the log with their parts; of a storm of them one now and then."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from hitmesh.http.wsgi import REQUEST_ID
from hitmesh.logs import Complaints

NEVER: Final = float("inf")
MAX_TARGET_CHARS: Final = 2048  # of what is said of the request's target
FORMING: Final = "hitmesh.forming"
"""In a WSGI environment: the batch that a request's hits are in, once it is."""

log = logging.getLogger(__name__)


class SlowRequests:
    """The slow ones of one worker."""

    def __init__(self, slow_ms: int) -> None:
        self._complaints = Complaints(log)
        self.set(slow_ms)

    def set(self, slow_ms: int) -> None:
        """From now on a request is slow that takes so long; 0: none is."""
        self.from_s = slow_ms / 1000 if slow_ms else NEVER

    def say(self, environ: Mapping[str, Any], status: str, began_s: float, took_s: float) -> None:
        """A line about one, by its WSGI environment and the status of its answer."""
        self._complaints.warn(
            "slow", "slow request",
            fields={
                "method": environ["REQUEST_METHOD"],
                "host": environ.get("HTTP_HOST", ""),
                "target": environ.get("RAW_URI", "")[:MAX_TARGET_CHARS],
                "status": int(status[:3]),
                "ms": round(took_s * 1000),
                **_parts_ms(environ.get(FORMING), began_s, began_s + took_s),
                "client": environ.get("REMOTE_ADDR", ""),
                "forwarded_for": environ.get("HTTP_X_FORWARDED_FOR", ""),
                "request_id": environ.get(REQUEST_ID, ""),
            },
        )  # fmt: skip


def _parts_ms(forming: Any, began_s: float, end_s: float) -> dict[str, int]:
    """How long it took until its batch went to the spool, the spool, and what came then: its total was read."""
    if forming is None or not forming.done_s:
        return {}
    put_s = max(began_s, forming.put_s)
    parts_s = {"waiting": put_s - began_s, "spool": forming.done_s - put_s, "total": end_s - forming.done_s}
    return {f"{name}_ms": round(part_s * 1000) for name, part_s in parts_s.items()}
