"""Which backend gets a request. Pure; the place to change it.

`choose` is asked once a request, for 1 to some 64 backends: one loop, nothing allocated.

Least outstanding requests, in relation to the weight: a slow backend keeps its requests longer,
so it gets fewer. Ties are broken at random, or several balancers, all idle, would all begin with
the same backend.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

LEAST_WEIGHT: Final = 0.1  # of a newcomer, and of the slowest: enough to see how it gets on
LAG_S: Final = 0.05  # of a hub that halves its weight: ten times what a busy worker shows


class Candidate:
    """What is looked at of a backend. `name` is for sticky choice: stable over restarts."""

    __slots__ = ("limit", "name", "outstanding", "usable", "weight")

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.outstanding = 0  # requests that are with it, or on their way, but for those that rest
        self.weight = 1.0  # its share, above 0
        self.usable = True  # requests may be sent to it


C = TypeVar("C", bound=Candidate)


def choose(backends: Sequence[C], draw: Callable[[], float]) -> C | None:
    """The backend for a request, or None when none may have it. `draw` gives numbers in [0, 1)."""
    best: C | None = None
    least = math.inf
    ties = 1
    for backend in backends:
        if backend.usable and backend.outstanding < backend.limit:
            score = (backend.outstanding + 1) / backend.weight
            if score < least:
                best, least, ties = backend, score, 1
            elif score == least:
                ties += 1
                if draw() * ties < 1:  # each of n equal ones ends up chosen with 1/n
                    best = backend
    return best


def choose_sticky(backends: Sequence[C], key: bytes) -> C | None:
    """The same backend for the same key, as long as it may have requests; else the next in the key's own order.

    Rendezvous hashing: when a backend goes, only its keys move, and they spread over all others.
    Weights don't count: each change of a load would move keys.
    """
    best: C | None = None
    highest = b""
    for backend in backends:
        if backend.usable and backend.outstanding < backend.limit:
            score = hashlib.blake2b(key, digest_size=8, key=backend.name.encode()[:64]).digest()
            if score > highest or best is None:
                best, highest = backend, score
    return best


def weight_of(load: Mapping[str, float], age_s: float, slow_start_s: float) -> float:
    """A backend's weight between LEAST_WEIGHT and 1, from what its heartbeats say and how long it has been there.

    `hub_lag_s` of LAG_S halves it, three times that leaves a quarter: a process whose hub is late has
    more than it can do. For `slow_start_s` a newcomer's share grows from a tenth to all.
    """
    lag_s = max(0.0, load.get("hub_lag_s", 0.0))
    weight = LAG_S / (LAG_S + lag_s)
    if slow_start_s and age_s < slow_start_s:
        weight *= LEAST_WEIGHT + (1 - LEAST_WEIGHT) * max(0.0, age_s) / slow_start_s
    return max(LEAST_WEIGHT, weight)
