"""How large a head may be: the same for the balancer and for whoever is behind it. Pure.

What is measured, everywhere: a request line or a field line without its CRLF, as it stands on the wire
(a field line is the name, the colon, the value and the white space around it); a whole head with all
its CRLFs and the blank line. A bound is the largest size that is taken.

Invariant: what the balancer lets in, it passes on in lines that are within the same bounds, with at
most ADDED_FIELDS lines and ADDED_BYTES more. So a server behind it that takes that much takes all.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

LINE_BYTES: Final = 8192  # a request line (414)
FIELDS: Final = 100  # field lines (431)
FIELD_BYTES: Final = 8192  # one of them (431)
HEAD_BYTES: Final = 16_384  # all of it (431)

# What a balancer adds: X-Forwarded-For, -Proto and -Host, Forwarded, Via, X-Request-Id, and Host where there was none.
ADDED_FIELDS: Final = 7
ADDED_BYTES: Final = 2048  # three times the longest name of a host (255), four addresses, and the words around them


class HeadLimits(Struct, frozen=True):
    """What a head may be. Bytes and lines."""

    line_bytes: int = LINE_BYTES
    headers: int = FIELDS
    header_bytes: int = FIELD_BYTES
    head_bytes: int = HEAD_BYTES
