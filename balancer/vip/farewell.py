"""How a balancer that has the virtual IP ends without a failed request. Pure: says what is due, and when.

    TELL     every answer is the last one of its connection; new clients are taken as ever
    SHUT     the kernel answers nobody new at the address: they try again after a second, and find the next host
    DISMISS  the workers take who is on the way, let all finish, and end
    GIVE_UP  nobody is left, or only who is slow: keepalived is told, and the next host takes the address
    CLOSE    the address has gone, or nobody wants it

Were the address given up first, who is being served would be cut: the next host knows nothing of their connections.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Final

# A client that is silent for as long is closed (`balancer.middle.traffic`), and then a worker's beat to notice.
TELL_S: Final = 1.2
SHUT_S: Final = 0.05  # handshakes that had begun are over
FINISH_S: Final = 0.5  # with SHUT_S and the move together well below the second after which a client tries again
MOVE_S: Final = 2.0  # without another host the address stays: nobody would take it


class Step(IntEnum):
    """In this order."""

    TELL = 0
    SHUT = 1
    DISMISS = 2
    GIVE_UP = 3
    CLOSE = 4


class Farewell:
    """Of one balancer, which has `drain_s` in all."""

    def __init__(self, drain_s: float, now: float) -> None:
        self._next = Step.TELL
        self._tell_s = min(TELL_S, drain_s / 2)
        self.due = now

    @property
    def has_ended(self) -> bool:
        """Whether every step has been taken."""
        return self.due == math.inf

    def step(self, now: float, *, has_finished: bool, is_here: bool) -> Step | None:
        """The step that is to be taken now. `has_finished`: no worker is left; `is_here`: the address is."""
        is_early = (self._next == Step.GIVE_UP and has_finished) or (self._next == Step.CLOSE and not is_here)
        if now < self.due and not is_early:
            return None
        step = self._next
        waits = {Step.TELL: self._tell_s, Step.SHUT: SHUT_S, Step.DISMISS: FINISH_S, Step.GIVE_UP: MOVE_S}
        self.due = now + waits[step] if step in waits else math.inf
        if step != Step.CLOSE:
            self._next = Step(step + 1)
        return step
