"""What is wrong with a peer's bytes, and the status that says so."""

from __future__ import annotations

from hitmesh.errors import HitmeshError


class BadMessage(HitmeshError):
    """Bytes that aren't HTTP/1.1 as we take it.

    `status` answers a client whose request it was. The connection's framing is lost in any case:
    nothing more may be read from it.
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
