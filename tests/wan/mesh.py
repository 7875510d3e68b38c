"""A whole mesh on the bed: one datacenter of hitmesh in each of the bed's, which know one another.

    with Bed(HOSTS) as bed, Mesh(bed, tmp_path) as mesh:
        mesh["eu-west"].get("/hit/example.com/front", method="POST")

With `stores="consul"` it is the real thing: three Consul servers a datacenter, joined over the WAN, and a
pair of beanstalkd; the datacenters find each other in Consul's catalogue. With "sqlite" each has its own
files, which its hosts share here, and knows one address of one other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tests.services import wait_for
from tests.wan.bed import Bed
from tests.wan.datacenter import Datacenter, Stores
from tests.wan.networks import Network

# Of the datacenters of HOSTS, for a bed that is to have one of each kind.
NETWORKS: Final[Mapping[str, Network]] = {"eu-west": "dual", "us-west": "ipv6", "ap-south": "translated"}
HOSTS: Final[Mapping[str, int]] = {"eu-west": 3, "us-west": 3, "ap-south": 3}
READY_S: Final = 300.0  # two cores start its 45 processes in 20 s


class Mesh:
    """All datacenters of a bed, by name."""

    def __init__(
        self, bed: Bed, folder: Path, *, stores: Stores = "consul", settings: Mapping[str, Any] | None = None
    ) -> None:
        self.bed = bed
        self.folder = folder
        self._datacenters = {
            name: Datacenter(
                bed,
                name,
                folder,
                others=bed.datacenters[index + 1 :] + bed.datacenters[:index],  # a ring: the next one first
                stores=stores,
                settings=settings,
            )
            for index, name in enumerate(bed.datacenters)
        }

    def __getitem__(self, name: str) -> Datacenter:
        return self._datacenters[name]

    def __iter__(self) -> Iterator[Datacenter]:
        return iter(self._datacenters.values())

    def others(self, name: str) -> list[str]:
        """All datacenters but one."""
        return [other for other in self._datacenters if other != name]

    def __enter__(self) -> Mesh:
        try:
            for each in self:
                each.start()
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL everything: a test that wants to see it drain stops it itself."""
        for each in self:
            each.kill()

    def lacking(self) -> dict[str, list[str]]:
        """What isn't ready, by datacenter."""
        found = {each.name: each.lacking(self.others(each.name)) for each in self}
        return {name: lacking for name, lacking in found.items() if lacking}

    def wait_until_ready(self, within_s: float = READY_S) -> float:
        """Wait until nothing is lacking; how long it took. AssertionError with the logs of what is."""
        begun = time.monotonic()
        try:
            wait_for(lambda: not self.lacking(), within_s=within_s, what="the mesh to be ready")
        except AssertionError as error:
            logs = "\n".join(
                f"--- {each.name} {name}\n{each.log(name)[-1500:]}" for each in self for name in each.names
            )
            raise AssertionError(f"{error}; lacking: {self.lacking()}\n{logs}") from error
        return time.monotonic() - begun
