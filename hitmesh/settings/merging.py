"""Which editions win when those of two datacenters come together, and how what is known is told in short. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from hitmesh.settings import Edition

PLAUSIBLE_VERSION: Final = 2**40  # a change each millisecond, for 34 years
MAX_AHEAD: Final = 2**20  # changes made elsewhere without ours knowing of one: one a minute, for two years
DIGEST_BYTES: Final = 16  # 32 characters in every message between datacenters; nobody forges it within a mesh


def newer(given: Iterable[Edition], known: Mapping[str, Edition]) -> list[Edition]:
    """Those of `given` that rank above what is known of their keys, one a key, in the order of their ranks."""
    won: dict[str, Edition] = {}
    for each in given:
        held = won.get(each.key) or known.get(each.key)
        if held is None or each.rank > held.rank:
            won[each.key] = each
    return sorted(won.values(), key=lambda each: (each.rank, each.key))


def within_reach(given: Iterable[Edition], known: int) -> tuple[list[Edition], list[Edition]]:
    """Those of `given` whose versions other writers can have come to, where `known` is the highest here; and the others.

    A version is one above all that its writer knew. One that is far ahead of everything would leave no
    room above it, and no later change would rank higher anywhere.
    """
    within: list[Edition] = []
    beyond: list[Edition] = []
    for each in sorted(given, key=lambda one: one.version):
        if each.version <= max(PLAUSIBLE_VERSION, known + MAX_AHEAD):
            within.append(each)
            known = max(known, each.version)
        else:
            beyond.append(each)
    return within, beyond


def highest(editions: Iterable[Edition]) -> Edition:
    """The one that was written last, of one at least."""
    return max(editions, key=lambda each: (each.rank, each.key))


def digest(editions: Mapping[str, Edition]) -> str:
    """The same for the same editions, and only for those."""
    found = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for key in sorted(editions):
        each = editions[key]
        # A list of JSON begins and ends by itself: nothing can be shifted from one into the next.
        value = None if each.value is None else each.value.hex()
        found.update(msgspec.json.encode([key, value, each.version, each.author, each.changed_at]))
    return found.hexdigest()
