"""Waits until a change of the live settings is in force in every role, as heartbeats tell it.

Owns who is asked and what is said of who lacks it. Each datacenter's Nexus is asked for its own
instances, in a thread each, so that one that is out of reach holds up nobody; datacenters that the
first ones know are asked as well.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hitmesh.config import Config, nexus_endpoints
from hitmesh.errors import MeshError
from hitmesh.protocol.messages import Answer, Seen

LOAD: Final = "settings"  # hitmesh.settings.live.LOAD, whose module needs gevent
LOAD_REFUSED: Final = "settings_refused"  # the same
ASK_S: Final = 0.05  # between two questions to a datacenter
SHOWN: Final = 8  # instances that are named


@dataclass
class Datacenter:
    """What is known of one."""

    name: str
    lookups: tuple[str, ...]
    answered: bool = False
    asked: bool = False  # at least once, in vain or not
    instances: int = 0
    lacking: list[str] = field(default_factory=list)
    refused: int = 0  # settings that some instance there leaves out

    @property
    def done(self) -> bool:
        """Whether everybody there has it."""
        return self.answered and not self.lacking

    def take(self, answer: Answer, version: int) -> None:
        """What its Nexus says of it."""
        here = [seen for seen in answer.seen if seen.instance.dc == self.name and seen.alive]
        counted = [seen.instance for seen in here if seen.instance.state != "draining"]  # who leaves needs it no more
        self.answered = True
        self.instances = len(counted)
        self.refused = int(max((each.load.get(LOAD_REFUSED, 0) for each in counted), default=0))
        self.lacking = sorted(f"{self.name} {each.name}" for each in counted if each.load.get(LOAD, 0) < version)


class Wait:
    """The waiting for `version` in the datacenters `configs` and those that they know, but for the `retired`."""

    def __init__(self, configs: Iterable[Config], version: int, retired: Collection[str] = frozenset()) -> None:
        self._version = version
        self._retired = retired
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._datacenters: dict[str, Datacenter] = {}
        from hitmesh.mesh.network import nexus_keys, operator_keyring  # ZeroMQ is slow to import

        configs = list(configs)
        self._keyring = next((operator_keyring(each) for each in configs if each.keys), None)
        self._keys = [nexus_keys(self._keyring, each) for each in configs]
        for each in configs:
            self._add(each.name, (nexus_endpoints(placement).lookups for placement in each.instances("nexus")))

    def run(self, within_s: float) -> None:
        """Wait until it is in force everywhere within reach, or the time is over."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline and not self._is_over():
            time.sleep(ASK_S / 5)
        self._stopped.set()
        for thread in list(self._threads):
            thread.join()

    @property
    def lacking(self) -> list[str]:
        """Living instances within reach that don't have it, as "datacenter name"."""
        return [name for each in self._datacenters.values() for name in each.lacking]

    def warnings(self) -> Iterator[str]:
        """What an operator must know besides the result."""
        if not any(each.answered for each in self._datacenters.values()):
            return
        for each in self._datacenters.values():
            if not each.answered:
                yield f"no Nexus of {each.name} answers; it follows as soon as it is back"
            if each.refused:
                yield f"{each.refused} live settings don't apply in {each.name}; `hitmesh config list` says why there"

    def result(self, after_s: float) -> str:
        """How it went, in a line."""
        answered = [each for each in self._datacenters.values() if each.answered]
        if not answered:
            return "it is set, and no mesh is running: in force when it starts"
        total = sum(each.instances for each in answered)
        lacking = self.lacking
        words = "datacenter" if len(answered) == 1 else "datacenters"
        where = f"{total - len(lacking)} of {total} instances of {len(answered)} {words}"
        if not lacking:
            return f"in force in {where} after {after_s:.1f} s"
        named = ", ".join(lacking[:SHOWN]) + (f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else "")
        return f"it is set, and in force in {where} after {after_s:.1f} s; not yet in {named}"

    # --- within -------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        with self._lock:
            known = list(self._datacenters.values())
        return all(each.done or (each.asked and not each.answered) for each in known)

    def _keys_at(self, endpoint: str) -> Sequence[str]:
        return [key for keys in self._keys for key in keys(endpoint)]

    def _add(self, name: str, lookups: Iterable[str]) -> None:
        with self._lock:
            if name in self._datacenters or name in self._retired:
                return
            added = self._datacenters[name] = Datacenter(name, tuple(lookups))
            thread = threading.Thread(target=self._ask, args=(added,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _ask(self, datacenter: Datacenter) -> None:
        from hitmesh.mesh.lookup import Lookups

        with Lookups(datacenter.lookups, keyring=self._keyring, keys=self._keys_at) as lookups:
            while not self._stopped.is_set() and not datacenter.done:
                try:
                    answer = lookups.snapshot()
                except MeshError:
                    datacenter.asked = True
                else:
                    if answer.warm:  # a Nexus that has just started may not know everybody
                        for name, endpoints in nexuses_elsewhere(answer).items():
                            self._add(name, endpoints)
                        datacenter.take(answer, self._version)
                        datacenter.asked = True
                self._stopped.wait(ASK_S)


def nexuses_elsewhere(answer: Answer) -> Mapping[str, list[str]]:
    """The lookup endpoints of the Nexuses that an answer names, by datacenter; living ones first."""
    found: dict[str, list[str]] = {}
    seen: Seen
    for seen in sorted(answer.seen, key=lambda each: not each.alive):
        endpoint = seen.instance.endpoints.get("lookups", "")
        if seen.instance.role == "nexus" and endpoint:
            found.setdefault(seen.instance.dc, []).append(endpoint)
    return found
