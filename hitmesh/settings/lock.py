"""The lock of a datacenter while somebody works on it, as it stands in the settings store under `deploys/DC/lock`. Pure.

`hitmesh.deploy.memory` takes it and gives it back.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from hitmesh.config.live import DEPLOYS


class Lock(Struct, frozen=True, kw_only=True):
    """Who may change a datacenter."""

    token: str  # of its holder, who made it up
    who: str
    what: str
    since: float  # seconds since 1970
    until: float


def key_of(dc: str) -> str:
    """The setting that has a datacenter's."""
    return f"{DEPLOYS}{dc}/lock"


def held(lock: Lock | None, token: str, now: float) -> str:
    """Why the holder of `token` may not go on; empty when nobody else holds the lock."""
    if lock is None or lock.token == token or lock.until <= now:
        return ""
    return f"{lock.who} is at work: {lock.what}, for {now - lock.since:.0f} s; free in {lock.until - now:.0f} s without a word"


def read_lock(value: bytes | None) -> Lock | None:
    """The lock that stands there; None where there is none, or something else."""
    try:
        return msgspec.json.decode(value or b"null", type=Lock | None)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
