"""A whole mesh on this machine that runs: looked at, hit, killed at, reloaded. Real processes on free ports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hitmesh.cli import folder
from hitmesh.cli.processes import started
from hitmesh.config import dump, load
from tests.hitmesh.cli.meshes import SOON_S, Mesh, hit, meshes, put_and_delete_a_live_route, running, settled
from tests.services import free_port, wait_for


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two datacenters that run, in a deep folder, for tests that leave them as they were."""
    with meshes(tmp_path_factory.mktemp("mesh") / ("deep-" * 20) / "var") as mesh:
        mesh.up("eu-west,us-west", "--demo")
        yield mesh


def test_when_up_returns_everybody_is_up_and_the_datacenters_know_each_other(mesh: Mesh) -> None:
    found = mesh.status()
    roles = ("nexus-1", "nexus-2", "processor-1", "processor-2", "collector-1", "collector-2", "balancer-1")
    assert {name: each["state"] for name, each in found.items()} == {
        f"{dc}-{role}": "up" for dc in ("eu-west", "us-west") for role in roles
    }
    for each in found.values():
        assert 0 <= each["heartbeat_age_s"] < 60
        assert started(each["pid"])
        assert each["supervisor_state"] in {"RUNNING", "STARTING"}
        assert each["load"].get("peers_unheard", 0) == 0


def test_supervisorctl_works_on_it(mesh: Mesh) -> None:
    assert "eu-west-collector-1" in mesh.supervisorctl("status")
    assert mesh.supervisorctl("stop", "us-west-collector-2") == "us-west-collector-2: stopped\n"
    stopped = mesh.status()["us-west-collector-2"]
    assert (stopped["state"], stopped["pid"]) == ("stopped", None)
    assert mesh.supervisorctl("start", "us-west-collector-2") == "us-west-collector-2: started\n"
    wait_for(lambda: mesh.status()["us-west-collector-2"]["state"] == "up", within_s=SOON_S, what="its heartbeat")


def test_a_hit_is_in_the_total(mesh: Mesh) -> None:
    for dc in ("eu-west", "us-west"):
        hit(mesh.urls(dc, "balancer")[0], "up.example/a")
    wait_for(
        lambda: mesh.json("total", "up.example/a")["dcs"] == {"eu-west": {"count": 1}, "us-west": {"count": 1}},
        within_s=SOON_S,
        what="both hits in the stores",
    )
    assert mesh.json("top", "--prefix", "up.example/a")[0]["total"] == 2


def test_a_replay_goes_through_the_first_datacenters_balancer_and_the_books_balance_to_the_hit(
    mesh: Mesh, tmp_path: Path
) -> None:
    before, passed_on = mesh.json("audit"), requests(mesh)
    log = tmp_path / "log"
    log.write_text("".join(f'1.2.3.4 - - [x] "GET /p{n % 7} HTTP/1.1" 200 1\n' for n in range(300)))
    report = mesh.json("replay", str(log), "--site", "replay.example")
    assert (report["sent"], report["accepted"], report["failed"]) == (300, 300, 0)
    after = wait_for(lambda: settled(mesh), within_s=SOON_S, what="quiet books")
    assert after["balanced"] is True
    assert after["problems"] == []
    assert after["accepted"] - before["accepted"] == 300
    assert after["dcs"]["us-west"]["accepted"] == before["dcs"]["us-west"]["accepted"]
    assert sum(each["total"] for each in mesh.json("top", "--prefix", "replay.example/")) == 300
    wait_for(lambda: requests(mesh) >= passed_on + 300, within_s=SOON_S, what="the balancer's heartbeat with 300 more")


def requests(mesh: Mesh) -> int:
    """How many the first datacenter's balancer has seen."""
    return int(mesh.status()["eu-west-balancer-1"]["load"].get("requests", 0))


def test_the_books_balance_while_hits_go_on_and_a_collector_is_killed(mesh: Mesh, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f'1.2.3.4 - - [x] "GET /k{n % 50} HTTP/1.1" 200 1\n' for n in range(3000)))
    before = wait_for(lambda: settled(mesh), within_s=SOON_S, what="quiet books")
    command = mesh.command("replay", str(log), "--json", "--site", "killed.example")
    with running(command, stdout=subprocess.PIPE) as replay:
        wait_for(lambda: mesh.json("audit")["accepted"] > before["accepted"], within_s=SOON_S, what="hits")
        os.kill(mesh.status()["eu-west-collector-1"]["pid"], signal.SIGKILL)
        reports = [mesh.json("audit") for _ in range(2)]
        assert replay.stdout is not None
        sent = json.loads(replay.stdout.read())
    reports.append(wait_for(lambda: settled(mesh), within_s=SOON_S, what="quiet books"))
    assert [report["problems"] for report in reports] == [[], [], []]
    counted = reports[-1]["committed"] - before["committed"]
    assert sent["accepted"] <= counted <= sent["accepted"] + sent["unanswered"]


def test_a_killed_role_comes_back(mesh: Mesh) -> None:
    pid = mesh.status()["us-west-processor-1"]["pid"]
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        found = mesh.status()["us-west-processor-1"]
        return bool(found["state"] == "up" and found["pid"] != pid)

    wait_for(back, within_s=SOON_S, what="another processor-1")


def test_a_live_route_comes_and_goes(mesh: Mesh) -> None:
    put_and_delete_a_live_route(mesh)


@pytest.mark.parametrize("name", ["HUP", "USR2"])
def test_a_balancer_that_is_told_to_reload_has_another_worker_and_the_same_process(mesh: Mesh, name: str) -> None:
    def workers() -> dict[int, tuple[str, int]]:
        lines = [each for each in mesh.json("status") if (each["dc"], each["name"]) == ("us-west", "balancer-1")]
        return {each["pid"]: (each["state"], each["supervisor_pid"]) for each in lines}

    def one_worker_but(earlier: int) -> dict[int, tuple[str, int]]:
        found = workers()
        # On a busy machine the new one may be heard only after the one before has left: until then supervisord's line.
        return found if [state for state, _ in found.values()] == ["up"] and earlier not in found else {}

    before = wait_for(lambda: one_worker_but(0), within_s=SOON_S, what="the only worker")
    [(pid, (_, master))] = before.items()
    assert mesh.supervisorctl("signal", name, "us-west-balancer-1") == "us-west-balancer-1: signalled\n"
    after = wait_for(lambda: one_worker_but(pid), within_s=SOON_S, what="a worker of the next generation alone")
    assert list(after.values()) == [("up", master)]
    hit(mesh.urls("us-west", "balancer")[0], "up.example/reloaded")


def test_an_instance_started_by_hand_appears(mesh: Mesh) -> None:
    config = mesh.state_dir / "eu-west" / "hitmesh.toml"
    command = mesh.command("processor", "--config", str(config), "--name", "processor-9")
    with running(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: "eu-west-processor-9" in mesh.status(), within_s=SOON_S, what="processor-9")
            found = mesh.status()["eu-west-processor-9"]
            assert (found["pid"], found["state"], found["supervisor_pid"]) == (process.pid, "up", None)
        finally:
            process.terminate()


def test_a_balancer_started_by_hand_appears(mesh: Mesh) -> None:
    options = ["--config", str(mesh.state_dir / "eu-west" / "hitmesh.toml"), "--state-dir", str(mesh.state_dir)]
    command = [sys.executable, "-m", "balancer", "--name", "balancer-9", *options]
    with running(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: "eu-west-balancer-9" in mesh.status(), within_s=SOON_S, what="balancer-9")
            assert process.poll() is None
        finally:
            process.terminate()


def test_without_a_nexus_status_falls_back_to_supervisord_and_says_so(mesh: Mesh) -> None:
    mesh.supervisorctl("stop", "us-west-nexus-1", "us-west-nexus-2")
    try:
        answer = mesh.run("status", "--json")
        states = {f"{each['dc']}-{each['name']}": each["state"] for each in json.loads(answer.stdout)}
        assert answer.stderr == "hitmesh: no Nexus of us-west answers; its lines are supervisord's\n"
        assert (states["us-west-nexus-1"], states["us-west-collector-1"]) == ("stopped", "running")
        audit = mesh.run("audit")
        assert audit.returncode == 1
        assert audit.stderr.startswith("hitmesh: no Nexus of us-west answers, so nobody says")
    finally:
        mesh.supervisorctl("start", "us-west-nexus-1", "us-west-nexus-2")
    wait_for(lambda: mesh.status()["us-west-collector-1"]["state"] == "up", within_s=SOON_S, what="heartbeats")


def test_status_says_that_a_store_refuses_connections(mesh: Mesh) -> None:
    path = mesh.state_dir / "us-west" / "hitmesh.toml"
    text, config = path.read_text(), load(path)
    stores = msgspec.structs.replace(config.stores, totals=f"consul://127.0.0.1:{free_port()}/hitmesh")
    path.write_text(dump(msgspec.structs.replace(config, stores=stores)))
    try:
        answer = mesh.run_patiently("status")
    finally:
        path.write_text(text)
    assert answer.stderr.startswith("hitmesh: us-west: the totals store can't be read: ")
    assert "us-west" in answer.stdout


def test_of_several_datacenters_the_one_to_be_scaled_must_be_named(mesh: Mesh) -> None:
    before = mesh.supervisorctl("avail")
    answer = mesh.run("scale", "collector=3")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == "hitmesh: which datacenter? Here run eu-west, us-west (--dc NAME)\n"
    assert mesh.supervisorctl("avail") == before


def test_one_datacenter_is_scaled_and_the_other_one_is_not(mesh: Mesh) -> None:
    def collectors() -> list[str]:
        return [line.split()[0] for line in mesh.supervisorctl("status").splitlines() if "-collector-" in line]

    before = collectors()
    try:
        assert mesh.run("scale", "--dc", "us-west", "collector=3").returncode == 0
        assert sorted(collectors()) == sorted([*before, "us-west-collector-3"])
        assert [len(mesh.urls(dc, "collector")) for dc in ("eu-west", "us-west")] == [2, 3]
        hit(mesh.urls("us-west", "collector")[2], "up.example/scaled")
    finally:
        assert mesh.run("scale", "--dc", "us-west", "collector=2").returncode == 0
    assert collectors() == before


def test_a_second_mesh_in_the_same_folder_is_refused(mesh: Mesh) -> None:
    answer = mesh.run(*mesh.up_arguments("eu-west"), "-d")
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"hitmesh: a mesh runs in {mesh.state_dir} already (supervisord has pid ")


def test_another_folder_with_the_same_ports_is_refused(mesh: Mesh, tmp_path: Path) -> None:
    other = Mesh(tmp_path / "var", mesh.base_port, mesh.config)
    answer = other.run(*other.up_arguments("eu-west"), "-d")
    assert answer.returncode == 1
    assert answer.stderr.endswith("can't be had: Address already in use (--base-port moves all of them)\n")
    assert ", for eu-west-" in answer.stderr
    assert not (tmp_path / "var").exists()


def test_up_says_first_where_the_balancers_are_and_how_a_hit_is_counted_there(mesh: Mesh) -> None:
    lines = mesh.shown.splitlines()
    first = mesh.urls("eu-west", "balancer")[0]
    assert lines[1].split() == ["eu-west", "balancer", first]
    assert f"count a hit:  curl -X POST {first}/hit/example.com/front" in lines


def test_a_demonstration_counts_a_few_hits_and_shows_their_totals(mesh: Mesh) -> None:
    shown = mesh.shown.splitlines()
    totals = [line.split() for line in shown[shown.index("totals of a few hits:") + 1 :]]
    assert totals == [
        ["6", "example.com/front", "(eu-west", "3,", "us-west", "3)"],
        ["2", "example.com/about", "(eu-west", "1,", "us-west", "1)"],
    ]


def test_a_deep_state_folder_works(mesh: Mesh) -> None:
    path = folder.socket_path(mesh.state_dir)
    assert path is not None
    assert mesh.state_dir not in path.parents
    assert path.exists()  # and is gone when the mesh is, as after every test here


def test_a_configuration_with_its_token_is_for_its_owner_alone(mesh: Mesh) -> None:
    assert (mesh.state_dir / "us-west" / "hitmesh.toml").stat().st_mode & 0o077 == 0
