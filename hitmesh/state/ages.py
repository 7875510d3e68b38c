"""How old what is known here of other datacenters is. Pure: every moment comes in, by one clock.

It keeps, for each partition and other datacenter, the moment at which the copy of its rows in our
own store was current (`as_of`); the age of a count is the time since. It must not know who asks,
nor how rows come here.

Invariants:
- A moment comes from somebody who knows: the partition's owner, in its heartbeat's load, or else
  the partition's head. Nothing else moves it, so that an age grows by itself while the owner is
  away, the Nexus silent, or the owner says nothing of a datacenter.
- A mapping that was given out never changes: it belongs to what was read at the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from hitmesh.protocol.messages import Instance
from hitmesh.state.view import MeshView

AGE_PREFIX: Final = "age_s."
"""Of a processor's load: with a datacenter's name behind it, the age of its copy in seconds, the worst of its
partitions."""

UPTIME: Final = "up_s"
"""Of every instance's load: for how long it has been up, by its own monotonic clock. Nobody's wall clock is needed."""

AsOf = Mapping[str, float]
"""Other datacenter -> the moment at which the copy of its rows was current."""

NOTHING: Final[AsOf] = MappingProxyType({})


class Ages:
    """What one process knows of the age of its datacenter's copies."""

    def __init__(self) -> None:
        self._heard: dict[int, Instance] = {}  # partition -> the heartbeat of its owner that was taken in last
        self._said: dict[int, AsOf] = {}  # partition -> by its owners
        self._head: dict[int, AsOf] = {}  # partition -> by its head
        self._as_of: dict[int, AsOf] = {}  # partition -> both
        self._others: set[str] = set()

    def look(self, view: MeshView) -> None:
        """Take in what the partitions' owners say of themselves; to be called several times per heartbeat."""
        for partition, owner in view.owners().items():
            instance = owner.instance
            if self._heard.get(partition) is instance:
                continue
            self._heard[partition] = instance
            heard = view.heard(instance.id)
            if heard is not None and (said := _said(instance, heard)):
                self._said[partition] = {**self._said.get(partition, NOTHING), **said}
                self._merge(partition)

    def read(self, partition: int, as_of: AsOf) -> None:
        """Take in what the partition's head says, of datacenters of which its owner doesn't."""
        if as_of and as_of != self._head.get(partition):
            self._head[partition] = as_of
            self._merge(partition)

    def of(self, partition: int) -> AsOf:
        """Every other datacenter of which something is known in this partition, and as of when."""
        return self._as_of.get(partition, NOTHING)

    def all(self) -> Mapping[int, AsOf]:
        """The same of every partition, as of now."""
        return dict(self._as_of)

    @property
    def others(self) -> frozenset[str]:
        """Every datacenter of which anything was ever said."""
        return frozenset(self._others)

    def _merge(self, partition: int) -> None:
        known = {**self._head.get(partition, NOTHING), **self._said.get(partition, NOTHING)}
        self._as_of[partition] = dict(sorted(known.items()))
        self._others.update(known)


def _said(processor: Instance, heard: float) -> dict[str, float]:
    return {
        key.removeprefix(AGE_PREFIX): heard - max(0.0, age_s)
        for key, age_s in processor.load.items()
        if key.startswith(AGE_PREFIX)
    }
