"""A live setting, set in one datacenter and followed in all roles of all."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

from hitmesh.config import ROLES
from hitmesh.settings.open import open_settings
from tests.wan.clients import HITMESH
from tests.wan.datacenter import Datacenter
from tests.wan.mesh import Mesh

FIGURE: Final = "settings"  # the load figure that says which version is in force
POLL_S: Final = 0.02


def time_in_force(mesh: Mesh, dc: str, key: str, value: str, *, within_s: float) -> float:
    """`hitmesh config set` in one datacenter; seconds from the change until every role everywhere says it has it.

    As the heartbeats that each datacenter's Nexus hears say; both times are of this machine's clock.
    """
    before = max(version for each in mesh for version in each.loads(FIGURE).values())
    where = ["--config", str(mesh[dc].file), "--state-dir", str(mesh.folder)]
    with ThreadPoolExecutor(len(mesh.bed.datacenters)) as threads:
        followed = [threads.submit(_in_force_at, each, before, within_s) for each in mesh]
        done = mesh[dc].client.run([*HITMESH, "config", "set", key, value, "--no-wait", *where])
        assert done.returncode == 0, done.stderr
        at = max(each.result() for each in followed)
    return at - _changed_at(mesh[dc], key)


def _changed_at(dc: Datacenter, key: str) -> float:
    with dc.client.inside(), closing(open_settings(dc.config.stores.settings, dc.folder)) as store:
        setting = store.get(key)
    assert setting is not None
    return setting.changed_at


def _in_force_at(dc: Datacenter, before: float, within_s: float) -> float:
    deadline = time.monotonic() + within_s
    names = [placement.name for role in ROLES for placement in dc.config.instances(role)]
    while True:
        loads = dc.loads(FIGURE)
        lacking = [name for name in names if loads.get(name, -1) <= before]
        if not lacking:
            return time.time()
        assert time.monotonic() < deadline, f"not in force in {dc.name} after {within_s:g} s: {lacking}"
        time.sleep(POLL_S)
