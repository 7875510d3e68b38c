"""The end of an instance that has the virtual IP: carries out what `balancer.vip.farewell` says, for the master.

Until it is over the sockets of the address are kept, so that nobody is refused there. Whatever fails meanwhile is said,
and it goes on: an instance that ends at once would refuse everybody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from balancer.process import listeners
from balancer.process.generation import Generation
from balancer.process.listeners import MOVING, Bound, Kind
from balancer.vip import door
from balancer.vip.farewell import Farewell, Step
from balancer.vip.place import is_here
from balancer.vip.word import Stage

LOOK_S: Final = 0.05  # between two looks at where the address is

log = logging.getLogger(__name__)


def may_be_here(address: str) -> bool:
    """Whether this host has the address; also when the kernel doesn't tell."""
    try:
        return is_here(address)
    except OSError:
        return True


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
        step = self._farewell.step(now, has_finished=has_finished, is_here=may_be_here(self._vip.address))
        if step is not None:
            try:
                self._take(step)
            except Exception as error:  # noqa: BLE001 - whatever it is, the rest is still to be done
                log.error("of giving %s up, %s failed; goes on: %s", self._vip.address, step.name, error)
        return self._farewell.has_ended

    def _take(self, step: Step) -> None:
        if step == Step.TELL:
            self._tell(Stage.LEAVES)
        elif step == Step.SHUT:
            door.shut(sock for bound in self._kept.values() for sock in bound.sockets)
        elif step == Step.DISMISS:
            self._dismiss(self._kept)
        elif step == Step.GIVE_UP:
            self._tell(Stage.GONE)
        elif step == Step.CLOSE:
            listeners.close(self._kept)

    def next_at(self, now: float) -> float:
        """When something may be due."""
        return min(self._farewell.due, now + LOOK_S)
