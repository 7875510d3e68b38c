"""Two real Nexuses for the tests of a module, which a busy machine doesn't make start over, nor bury anybody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from hitmesh.config import Config
from tests.services.nexus import NexusProcess, mesh_config, two_nexuses

# A process may be kept waiting for 0.6 s, which starts a Nexus over, and an instance be silent for 1.6 s.
HEARTBEAT_S = 0.4
MISSED = 4
MORTAL_S = 0.1  # the interval of those that are to be found dead soon: after MISSED of it


@pytest.fixture(scope="module")
def nexus_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[NexusProcess]]:
    """Two Nexuses for the tests of one module: starting them anew for each takes seconds."""
    config = mesh_config(heartbeat_s=HEARTBEAT_S, missed=MISSED)
    with two_nexuses(tmp_path_factory.mktemp("nexuses"), config) as both:
        yield both


def beating(config: Config, heartbeat_s: float) -> Config:
    """The same datacenter for an instance with another interval, which its heartbeats state."""
    return replace(config, timing=replace(config.timing, heartbeat_s=heartbeat_s))
