"""How schemathesis writes a body that isn't JSON; it loads this by SCHEMATHESIS_HOOKS."""

from __future__ import annotations

from typing import Any

import msgspec
import schemathesis


@schemathesis.serializer("application/msgpack")
def msgpack(context: Any, value: object) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, TypeError):  # more than msgpack has
        return b"\xc1"


@schemathesis.serializer("application/x-ndjson")
def lines(context: Any, value: object) -> bytes:
    return str(value).encode("utf-8", "surrogatepass")
