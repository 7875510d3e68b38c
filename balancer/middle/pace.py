"""How slow a peer may be. Pure: one rule for a request's body that comes and for an answer that is taken.

A peer begins with `span_s` of patience. Each byte that moves gives it 1/`rate` s more, and never more than
`span_s` from now. So nothing at all for that long is the end, and so is a trickle below the rate; whoever
is faster may pause, and a long body on a slow line takes as long as it takes.
"""

from __future__ import annotations

from typing import Final

BEHIND_S: Final = 1.0  # behind the rate: from then on it is the peer that is waited for, and nobody else
LOOKS: Final = 4  # in a span, at what a peer has taken: nobody is told of each byte


def paced(due: float, size_bytes: int, now: float, span_s: float, rate: int) -> float:
    """When patience ends, after so many bytes more. A rate of 0: any byte will do."""
    if not rate:
        return now + span_s if size_bytes else due
    return min(due + size_bytes / rate, now + span_s)


def behind_at(due: float, span_s: float) -> float:
    """From when on a peer is behind, if nothing more moves."""
    return min(due, due - span_s + BEHIND_S)
