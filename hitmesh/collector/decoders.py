"""What a batch of hits is decoded by, line by line or as one map. Pure.

By itself: msgspec makes its checks of a class's annotations, which mypyc leaves out of what it compiles.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

MAX_HITS: Final = 1_000_000  # of one page in one line

Count = Annotated[int, Meta(ge=1, le=MAX_HITS)]


class Line(Struct, frozen=True, forbid_unknown_fields=True):
    """One page's hits."""

    page: str
    count: Count = 1


line: Final = msgspec.json.Decoder(Line)
pages: Final = msgspec.msgpack.Decoder(dict[str, Count])
