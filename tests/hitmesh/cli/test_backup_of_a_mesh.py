"""A mesh that loses every totals store, and is restored from a backup that was taken while it ran: real processes."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

from hitmesh.cli.backup_file import BackupFile, Rows
from hitmesh.config import load
from hitmesh.spool.open import open_spool
from hitmesh.store.open import open_store
from hitmesh.store.totals import read_totals
from tests.hitmesh.cli.meshes import HITMESH, SOON_S, Mesh, finished, hit, meshes
from tests.services import wait_for

EAST, WEST = "eu-west", "us-west"
PAGES = [f"restored.example/{number}" for number in range(20)]


def control(mesh: Mesh, verb: str, dc: str, *roles: str) -> None:
    mesh.supervisorctl(verb, *(f"{dc}-{role}-1" for role in roles))


def totals(mesh: Mesh, dc: str) -> dict[str, dict[str, int]]:
    config = load(mesh.state_dir / dc / "hitmesh.toml")
    with contextlib.closing(open_store(config, mesh.state_dir / dc)) as store:
        return read_totals(store)


def jobs(mesh: Mesh, dc: str) -> int:
    config = load(mesh.state_dir / dc / "hitmesh.toml")
    with contextlib.closing(open_spool(config, mesh.state_dir / dc)) as spool:
        return sum(each.waiting + each.ready + each.claimed for each in spool.stats())


def counts(path: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    with BackupFile(path) as backup:
        for line in backup.lines():
            if isinstance(line, Rows):
                for row in line.rows:
                    found.setdefault(row.page, {})[line.dc] = row.count
    return found


def test_a_mesh_that_lost_all_its_totals_counts_on_from_a_backup(tmp_path: Path) -> None:
    with meshes(tmp_path / "var", nexus=1, processor=1, collector=1, balancer=0) as mesh:
        mesh.up(f"{EAST},{WEST}")
        urls = {dc: mesh.urls(dc, "collector")[0] for dc in (EAST, WEST)}
        assert mesh.run("config", "set", "timing.fresh_s", "0.25").returncode == 0
        expected: dict[str, dict[str, int]] = {}

        def count(dc: str, pages: list[str]) -> None:
            for page in pages:
                hit(urls[dc], page)
                expected.setdefault(page, {}).setdefault(dc, 0)
                expected[page][dc] += 1

        count(EAST, PAGES * 2)
        # In the west hits wait in the spool, of which somebody keeps a copy: it stands for jobs that weren't deleted yet.
        control(mesh, "stop", WEST, "processor")
        count(WEST, PAGES)
        with contextlib.closing(open_spool(load(mesh.state_dir / WEST / "hitmesh.toml"), mesh.state_dir / WEST)):
            for path in (mesh.state_dir / WEST).glob("spool.db*"):
                shutil.copy(path, tmp_path / path.name)
        control(mesh, "start", WEST, "processor")
        for dc in (EAST, WEST):
            wait_for(lambda dc=dc: totals(mesh, dc) == expected, within_s=SOON_S, what=f"all hits in {dc}")  # type: ignore[misc]
        backup = tmp_path / "running.backup"
        made = mesh.run("backup", str(backup))
        assert made.returncode == 0, made.stderr
        assert counts(backup) == expected
        # As on a host, where only its own datacenter's stores are.
        alone = tmp_path / "alone"
        alone.mkdir()
        (alone / EAST).symlink_to(mesh.state_dir / EAST)
        made = finished([*HITMESH, "backup", str(tmp_path / "alone.backup"), "--state-dir", str(alone)])
        assert made.returncode == 0, made.stderr
        assert f"from {EAST}'s copy, " in made.stdout
        assert counts(tmp_path / "alone.backup") == expected

        control(mesh, "stop", EAST, "processor")
        count(EAST, [*PAGES[:5], "restored.example/new"])  # answered after the backup, and still in the spool
        assert "the mesh counts" in mesh.run("restore", str(backup)).stderr
        assert "has totals" in mesh.run("restore", str(backup), "--dry").stderr
        assert mesh.run("down").returncode == 0
        assert jobs(mesh, EAST) > 0
        for path in mesh.state_dir.glob("*/totals.db*"):
            path.unlink()
        for path in (mesh.state_dir / WEST).glob("spool.db*"):
            path.unlink()
        for path in tmp_path.glob("spool.db*"):
            shutil.copy(path, mesh.state_dir / WEST / path.name)
        assert jobs(mesh, WEST) > 0

        restored = mesh.run("restore", str(backup))
        assert restored.returncode == 0, restored.stderr
        mesh.up(f"{EAST},{WEST}")
        for dc in (EAST, WEST):
            wait_for(lambda dc=dc: jobs(mesh, dc) == 0, within_s=SOON_S, what=f"an empty spool in {dc}")  # type: ignore[misc]
        count(WEST, PAGES[:3])
        count(EAST, PAGES[3:6])
        for dc in (EAST, WEST):
            wait_for(lambda dc=dc: totals(mesh, dc) == expected, within_s=SOON_S, what=f"all hits in {dc}")  # type: ignore[misc]

        def quiet() -> Any:
            report = mesh.json("audit")
            return report if report["in_flight"] == report["spooled"] == 0 else None

        report = wait_for(quiet, within_s=SOON_S, what="quiet books")
        assert (report["balanced"], report["lost"], report["problems"]) == (True, 0, [])
        found = {each["key"]: each for each in mesh.json("config", "list")}
        assert found["timing.fresh_s"]["value"] == "0.25"
        assert totals(mesh, EAST) == totals(mesh, WEST) == expected
