"""A mesh that runs without keys gets them, one instance after the other, while hits go on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from hitmesh.config import dump, nexus_endpoints
from hitmesh.errors import MeshError
from hitmesh.mesh.lookup import Lookups
from hitmesh.protocol.names import split_key
from tests.services import wait_for
from tests.services.keys import with_keys
from tests.system.mesh import Mesh

ROUNDS: list[Mapping[str, Any]] = [{"insecure": True}, {"insecure": False, "insecure_until": "2999-01-01"}]
HITS = 8  # between two restarts
SOON_S = 60.0


def test_a_mesh_gets_its_keys_round_by_round_and_no_hit_is_lost(tmp_path: Path) -> None:
    page, hits = "keys/page", 0
    with Mesh(tmp_path, keys=False) as mesh:

        def are_counted() -> bool:
            return mesh.totals().get(page) == hits

        for settings in ROUNDS:
            mesh.config = msgspec.structs.replace(with_keys(mesh.config, tmp_path / "keys"), **settings)
            mesh.file.write_text(dump(mesh.config))
            for name in mesh.names:
                mesh.terminate(name)
                mesh.start(name)
                for _ in range(HITS):
                    assert mesh.hit(page).status == 200
                hits += HITS
                wait_for(are_counted, within_s=SOON_S, what=f"the hits, with {name} anew")
        told = [where for one in mesh.living() for where in one.instance.endpoints.values() if where.startswith("tcp")]
        assert len(told) == 3 + 2 + 1
        assert all(split_key(where)[1] for where in told)
        nexus = nexus_endpoints(mesh.config.instances("nexus")[0])
        with Lookups([nexus.lookups], timeout_s=0.5) as without:
            assert not answers(without), "somebody without a key is heard"


def answers(lookups: Lookups) -> bool:
    try:
        lookups.snapshot()
    except MeshError:
        return False
    return True
