"""The end of an instance that has the virtual IP: carries out what `balancer.vip.farewell` says, for the master.

Until it is over the sockets of the address are kept, so that nobody is refused there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from balancer.process import listeners
from balancer.process.generation import Generation
from balancer.process.listeners import MOVING, Bound, Kind
from balancer.vip.farewell import Farewell, Step
from balancer.vip.place import is_here
from balancer.vip.word import Stage

LOOK_S: Final = 0.05  # between two looks at where the address is


class Parting:
    """Of one generation, the last one.

    `tell` tells the check; `dismiss` the workers to end, and closes all sockets but those it is given.
    """

    def __init__(
        self,
        generation: Generation,
        tell: Callable[[Stage], None],
        dismiss: Callable[[Mapping[Kind, Bound]], None],
        now: float,
    ) -> None:
        assert generation.plan.vip is not None
        self._vip = generation.plan.vip
        self._tell = tell
        self._dismiss = dismiss
        self._kept = {kind: bound for kind, bound in generation.bounds.items() if kind in MOVING}
        self._farewell = Farewell(generation.plan.drain_s, now)

    def advance(self, now: float, *, has_finished: bool) -> bool:
        """Do what is due; whether that was all. `has_finished`: no worker is left."""
        step = self._farewell.step(now, has_finished=has_finished, is_here=is_here(self._vip.address))
        if step == Step.TELL:
            self._tell(Stage.LEAVES)
        elif step == Step.SHUT:
            listeners.let_nobody_in(self._kept.values())
        elif step == Step.DISMISS:
            self._dismiss(self._kept)
        elif step == Step.GIVE_UP:
            self._tell(Stage.GONE)
        elif step == Step.CLOSE:
            listeners.close(self._kept)
        return self._farewell.has_ended

    def next_at(self, now: float) -> float:
        """When something may be due."""
        return min(self._farewell.due, now + LOOK_S)
