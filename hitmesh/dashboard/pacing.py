"""How often something is looked at, so that looking costs little. Pure."""

from __future__ import annotations

from typing import Final

SHARE: Final = 20  # times as long as a look took, nothing is looked at: 5% of the time at most
LEAST_S: Final = 1.0  # between two looks, however short they are
MOST_S: Final = 600.0  # however long one took: a page that is ten minutes old is no news


def pause_s(took_s: float) -> float:
    """For how long to wait after a look that took so long."""
    return min(max(LEAST_S, SHARE * took_s), MOST_S)
