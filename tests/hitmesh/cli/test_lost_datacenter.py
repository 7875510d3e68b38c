"""What users see of a datacenter that dies, loses its store, is retired, and comes back: real processes."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

import msgspec

from hitmesh.config import dump, load
from tests.hitmesh.cli.meshes import SOON_S, Mesh, hit, meshes
from tests.services import PATIENCE_S, wait_for

PAGE = "lost.example/x"
HERE, THERE = "eu-west", "us-west"


def ask(url: str, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except OSError:
        return 0, None
    finally:
        connection.close()


def total(url: str) -> Any:
    status, found = ask(url, f"/total/{PAGE}")
    return found if status == 200 else None


def known_total(url: str) -> Any:
    return wait_for(lambda: total(url), within_s=SOON_S, what="a total that is known")


def control(mesh: Mesh, verb: str, dc: str) -> None:
    mesh.supervisorctl(verb, *(f"{dc}-{role}-1" for role in ("collector", "processor", "nexus")))


def entry(url: str) -> Any:
    return known_total(url)["dcs"].get(THERE)


def test_a_lost_datacenter_s_hits_are_never_missing_from_a_total(tmp_path: Path) -> None:
    with meshes(tmp_path / "var", nexus=1, processor=1, collector=1, balancer=0) as mesh:
        config = load(mesh.config)
        timing = msgspec.structs.replace(config.timing, wan_heartbeat_s=0.5, wan_missed_heartbeats=4)
        mesh.config.write_text(dump(msgspec.structs.replace(config, timing=timing)))
        mesh.up(f"{HERE},{THERE}")
        here, there = (mesh.urls(dc, "collector")[0] for dc in (HERE, THERE))
        for url, hits in ((here, 3), (there, 2)):
            for _ in range(hits):
                hit(url, PAGE)
        for url in (here, there):
            wait_for(lambda url=url: (total(url) or {}).get("total") == 5, within_s=SOON_S, what="5 in both")  # type: ignore[misc]

        control(mesh, "stop", THERE)
        for path in (mesh.state_dir / THERE).glob("totals.db*"):
            path.unlink()
        found = mesh.json("total", PAGE)
        assert (found["total"], found["dcs"][THERE]["count"]) == (5, 2)
        assert found["dcs"][THERE]["age_s"] >= 0
        wait_for(lambda: entry(here)["age_s"] > 5, within_s=SOON_S, what="its age to grow")

        refused = mesh.run("formats", "finalize")
        assert refused.returncode == 1
        assert f"no Nexus of {THERE} answers; `hitmesh datacenter retire {THERE}` if it is gone" in refused.stderr

        wait_for(
            lambda: mesh.run("datacenter", "retire", THERE).returncode == 0, within_s=SOON_S, what="it to be retired"
        )
        retired = {"count": 2, "age_s": 0.0, "retired": True}
        wait_for(lambda: entry(here) == retired, within_s=SOON_S, what="its retirement in force")
        assert known_total(here)["total"] == 5
        wait_for(lambda: mesh.json("formats")["can_finalize"], within_s=SOON_S, what="nobody to be in the way")

        assert mesh.run("datacenter", "return", THERE).returncode == 0
        wait_for(lambda: "retired" not in entry(here), within_s=SOON_S, what="its return in force")
        control(mesh, "start", THERE)

        def is_back() -> bool:
            found = total(there)
            assert found is None or found["total"] == 5, found  # unknown until all of it is back, never less
            return found is not None

        wait_for(is_back, within_s=SOON_S, what="its rows to be back")
        wait_for(lambda: mesh.json("formats")["can_finalize"], within_s=SOON_S, what="both to be asked")
        assert hit(there, PAGE)["total"] == 6
        wait_for(lambda: known_total(here)["total"] == 6, within_s=SOON_S, what="its hit to be here")

        def settled() -> Any:
            report = mesh.json("audit")
            copy = report["dcs"][THERE]["replicated"][HERE]
            return report if (report["in_flight"], copy["behind"]) == (0, 0) else None

        report = wait_for(settled, within_s=SOON_S, what="quiet books")
        assert (report["balanced"], report["committed"], report["lost"]) == (True, 6, 0)
        assert report["dcs"][THERE]["replicated"][HERE]["hits"] == 3
