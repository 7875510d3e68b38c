"""Whether processors own what they claim: looked up in the partition's head when parts go there and no ack comes.

Owns which claims were checked. A heartbeat is a word like any other; a bug, or a stolen key, can claim every
partition, and hits sent there would wait in the spool for as long as it does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Final

import gevent
from gevent.event import Event

from hitmesh.errors import DecodeError, StoreUnknown
from hitmesh.mesh.sockets import COMPLAINT_S
from hitmesh.protocol.messages import MAX_TOTAL, decode_head
from hitmesh.state.view import MeshView, false_upto
from hitmesh.store import TotalsStore

PAUSE_S: Final = 1.0  # after a head that can't be read

log = logging.getLogger(__name__)


class Doubts:
    """The checks of one collector; `run` is a greenlet."""

    def __init__(self, store: TotalsStore) -> None:
        self._store = store
        self._checked: dict[int, tuple[str, int]] = {}  # partition -> the claim that was compared with its head
        self._wanted: dict[int, MeshView] = {}
        self._has_wanted = Event()
        self._complained_s = float("-inf")
        self.refuted = 0
        """Claims that were false."""

    def want(self, view: MeshView, partitions: Iterable[int]) -> None:
        """Nobody acks what goes to these partitions: look whether their owners are."""
        for partition in partitions:
            owner = view.owner(partition)
            if owner is not None and self._checked.get(partition) != (owner.instance.id, owner.epoch):
                self._wanted[partition] = view
                self._has_wanted.set()

    def run(self) -> None:
        """Check what is wanted, one after the other."""
        while True:
            self._has_wanted.wait()
            self._has_wanted.clear()
            while self._wanted:
                partition, view = self._wanted.popitem()
                if not self._check(view, partition):
                    gevent.sleep(PAUSE_S)

    def _check(self, view: MeshView, partition: int) -> bool:
        """Compare a claim with its head; False when that can't be read."""
        owner = view.owner(partition)
        if owner is None:
            return True
        try:
            stored = self._store.read_head(partition)
            head = decode_head(stored.body) if stored is not None else None
        except (StoreUnknown, DecodeError):
            return False
        claim = owner.instance.id, owner.epoch
        self._checked[partition] = claim
        upto = false_upto(owner, head)
        if not upto:
            return True
        if upto == MAX_TOTAL:  # or else out of date: somebody else has taken the partition since
            self.refuted += 1
            if time.monotonic() - self._complained_s >= COMPLAINT_S:
                self._complained_s = time.monotonic()
                log.warning(
                    "%s says that it owns partition %d, and the totals store says otherwise (%d such claims so far)",
                    claim[0], partition, self.refuted,
                    extra={"fields": {"partition": partition, "epoch": claim[1], "claimed_by": claim[0]}},
                )  # fmt: skip
        view.refute(partition, *claim, upto)
        return True
