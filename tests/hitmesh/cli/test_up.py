"""A whole mesh on this machine: up, looked at, killed at, down. Real processes on free ports."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hitmesh.cli import folder, readiness
from hitmesh.cli.layout import BLOCK_PORTS
from hitmesh.cli.main import run
from hitmesh.cli.processes import Process, started, strays
from hitmesh.cli.supervision import Supervisor
from tests.services import require, wait_for

DEV = Path(__file__).parents[3] / "config" / "dev.toml"
UP_S = 90.0  # a busy machine starts twelve processes in 20 s
# Blocks of ports below those that the kernel gives out by itself.
PORTS = range(20_000, 32_000, 2 * BLOCK_PORTS)


@dataclass
class Mesh:
    """One state folder, and the commands on it."""

    state_dir: Path
    base_port: int
    config: Path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "hitmesh", *arguments, "--state-dir", str(self.state_dir)]

    def up_arguments(self, dcs: str) -> list[str]:
        return ["up", "--config", str(self.config), "--dcs", dcs, "--base-port", str(self.base_port)]

    def run(self, *arguments: str, within_s: float = UP_S) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=within_s, check=False)

    def up(self, dcs: str = "one", *options: str) -> str:
        answer = self.run(*self.up_arguments(dcs), *options, "-d")
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def json(self, *arguments: str) -> Any:
        answer = self.run(*arguments, "--json")
        assert answer.stdout, answer.stderr
        return json.loads(answer.stdout)

    def status(self) -> dict[str, dict[str, Any]]:
        return {f"{each['dc']}-{each['name']}": each for each in self.json("status")}

    def supervisorctl(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self.state_dir / "supervisord.conf")]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False).stdout

    def collectors(self, dc: str) -> list[str]:
        urls: list[str] = self.json("endpoints")[dc]["collector"]
        return urls

    def processes(self) -> list[Process]:
        return strays(folder.conf_path(self.state_dir))


def hit(url: str, page: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", f"/hit/{page}")
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        found: dict[str, Any] = json.loads(answer.read())
        return found


def free_base_port() -> int:
    for base in random.sample(PORTS, len(PORTS)):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(base, base + 2 * BLOCK_PORTS):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return base
    raise AssertionError("no free block of ports")


@contextlib.contextmanager
def meshes(state_dir: Path, **instances: int) -> Iterator[Mesh]:
    """A mesh that can be started, with so many instances; all of it is gone afterwards."""
    text = DEV.read_text()
    for role, count in instances.items():
        text = text.replace(f"{role} = 2", f"{role} = {count}", 1)
    state_dir.parent.mkdir(parents=True, exist_ok=True)
    config = state_dir.parent / "template.toml"
    config.write_text(text)
    mesh = Mesh(state_dir, free_base_port(), config)
    try:
        yield mesh
    finally:
        left = [mesh.run("down").stderr, *(each.name for each in mesh.processes())]
    assert not mesh.processes(), left


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two datacenters that run, for tests that leave them as they were."""
    with meshes(tmp_path_factory.mktemp("mesh") / "var") as mesh:
        mesh.up("eu-west,us-west")
        yield mesh


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Mesh]:
    """A datacenter of one instance per role, not started."""
    with meshes(tmp_path / "var", nexus=1, processor=1, collector=1) as mesh:
        yield mesh


# --- a mesh that runs ------------------------------------------------------------------------


def test_when_up_returns_everybody_is_up(mesh: Mesh) -> None:
    found = mesh.status()
    roles = ("nexus-1", "nexus-2", "processor-1", "processor-2", "collector-1", "collector-2")
    assert {name: each["state"] for name, each in found.items()} == {
        f"{dc}-{role}": "up" for dc in ("eu-west", "us-west") for role in roles
    }
    for each in found.values():
        assert each["heartbeat_age_s"] < 5
        assert started(each["pid"])
        assert each["supervisor_state"] in {"RUNNING", "STARTING"}


def test_supervisorctl_works_on_it(mesh: Mesh) -> None:
    assert "eu-west-collector-1" in mesh.supervisorctl("status")
    assert mesh.supervisorctl("stop", "us-west-collector-2") == "us-west-collector-2: stopped\n"
    stopped = mesh.status()["us-west-collector-2"]
    assert (stopped["state"], stopped["pid"]) == ("stopped", None)
    assert mesh.supervisorctl("start", "us-west-collector-2") == "us-west-collector-2: started\n"
    wait_for(lambda: mesh.status()["us-west-collector-2"]["state"] == "up", within_s=30, what="its heartbeat")


def test_a_hit_is_in_the_total(mesh: Mesh) -> None:
    for dc in ("eu-west", "us-west"):
        hit(mesh.collectors(dc)[0], "up.example/a")
    wait_for(
        lambda: mesh.json("total", "up.example/a")["dcs"] == {"eu-west": {"count": 1}, "us-west": {"count": 1}},
        within_s=20,
        what="both hits in the stores",
    )
    assert mesh.json("top", "--prefix", "up.example/a")[0]["total"] == 2


def test_a_replay_goes_to_the_first_datacenter_and_the_books_balance_to_the_hit(mesh: Mesh, tmp_path: Path) -> None:
    before = mesh.json("audit")
    log = tmp_path / "log"
    log.write_text("".join(f'1.2.3.4 - - [x] "GET /p{n % 7} HTTP/1.1" 200 1\n' for n in range(300)))
    report = mesh.json("replay", str(log), "--site", "replay.example")
    assert (report["sent"], report["accepted"], report["failed"]) == (300, 300, 0)
    after = wait_for(lambda: settled(mesh), within_s=30, what="quiet books")
    assert after["balanced"] is True
    assert after["problems"] == []
    assert after["accepted"] - before["accepted"] == 300
    assert after["dcs"]["us-west"]["accepted"] == before["dcs"]["us-west"]["accepted"]
    assert sum(each["total"] for each in mesh.json("top", "--prefix", "replay.example/")) == 300


def settled(mesh: Mesh) -> Any:
    report = mesh.json("audit")
    return report if report["in_flight"] == report["spooled"] == 0 else None


def test_the_books_balance_while_hits_go_on_and_a_collector_is_killed(mesh: Mesh, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f'1.2.3.4 - - [x] "GET /k{n % 50} HTTP/1.1" 200 1\n' for n in range(3000)))
    before = wait_for(lambda: settled(mesh), within_s=30, what="quiet books")
    command = mesh.command("replay", str(log), "--json", "--site", "killed.example")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as replay:
        wait_for(lambda: mesh.json("audit")["accepted"] > before["accepted"], within_s=30, what="hits")
        os.kill(mesh.status()["eu-west-collector-1"]["pid"], signal.SIGKILL)
        reports = [mesh.json("audit") for _ in range(2)]
        assert replay.stdout is not None
        sent = json.loads(replay.stdout.read())
    reports.append(wait_for(lambda: settled(mesh), within_s=60, what="quiet books"))
    assert [report["problems"] for report in reports] == [[], [], []]
    counted = reports[-1]["committed"] - before["committed"]
    assert sent["accepted"] <= counted <= sent["accepted"] + sent["unanswered"]


def test_a_killed_role_comes_back(mesh: Mesh) -> None:
    pid = mesh.status()["us-west-processor-1"]["pid"]
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        found = mesh.status()["us-west-processor-1"]
        return bool(found["state"] == "up" and found["pid"] != pid)

    wait_for(back, within_s=30, what="another processor-1")


def test_an_instance_started_by_hand_appears(mesh: Mesh) -> None:
    config = mesh.state_dir / "eu-west" / "hitmesh.toml"
    command = mesh.command("processor", "--config", str(config), "--name", "processor-9")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: "eu-west-processor-9" in mesh.status(), within_s=30, what="processor-9")
            found = mesh.status()["eu-west-processor-9"]
            assert (found["pid"], found["state"], found["supervisor_pid"]) == (process.pid, "up", None)
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
    wait_for(lambda: mesh.status()["us-west-collector-1"]["state"] == "up", within_s=30, what="heartbeats")


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


# --- starting and stopping -------------------------------------------------------------------


def test_totals_survive_down_and_up(small: Mesh) -> None:
    small.up()
    hit(small.collectors("one")[0], "kept.example/x")
    down = small.run("down")
    assert (down.returncode, down.stdout) == (0, f"stopped the mesh in {small.state_dir}\n")
    assert "didn't stop by themselves" not in down.stderr
    assert small.processes() == []
    assert not folder.new_socket_path(small.state_dir).exists()
    assert small.json("total", "kept.example/x")["total"] == 1
    small.up()
    assert hit(small.collectors("one")[0], "kept.example/x")["total"] == 2


def test_a_demonstration_counts_a_few_hits_and_shows_their_totals(small: Mesh) -> None:
    shown = small.up("one", "--demo").splitlines()
    totals = [line.split() for line in shown[shown.index("totals of a few hits:") + 1 :]]
    assert totals == [["3", "example.com/front", "(one", "3)"], ["1", "example.com/about", "(one", "1)"]]


def test_a_detached_mesh_runs_even_if_nobody_reads_what_up_says(small: Mesh) -> None:
    command = small.command(*small.up_arguments("one"), "-d")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.wait(UP_S)
    assert small.status()["one-collector-1"]["state"] == "up"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_a_signal_stops_all_of_it(small: Mesh, number: signal.Signals) -> None:
    command = small.command(*small.up_arguments("one"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready in ")
        assert len(small.processes()) == 4  # a collector is two
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(60) == 0
    assert small.processes() == []


def test_in_the_foreground_it_ends_when_somebody_else_stops_it(small: Mesh) -> None:
    command = small.command(*small.up_arguments("one"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready in ")
        assert small.run("down").returncode == 0
        process.stdout.read()
        assert process.wait(60) == 0


def test_what_a_killed_supervisord_leaves_is_found_and_stopped(small: Mesh) -> None:
    small.up()
    pid = Supervisor(small.state_dir).pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: Supervisor(small.state_dir).pid() is None, what="the end of supervisord")
    again = small.run(*small.up_arguments("one"), "-d")
    assert again.returncode == 1
    assert again.stderr.startswith(f"hitmesh: left by an earlier mesh in {small.state_dir}: one-collector-1 (pid ")
    status = small.run("status")
    assert status.stderr == "hitmesh: supervisord doesn't answer; its processes go on without it\n"
    assert "collector-1" in status.stdout
    assert small.run("down").returncode == 0
    assert small.processes() == []


def test_a_deep_state_folder_works(tmp_path: Path) -> None:
    with meshes(tmp_path / ("deep-" * 20) / "var", nexus=1, processor=1, collector=1) as mesh:
        mesh.up()
        path = folder.socket_path(mesh.state_dir)
        assert path is not None
        assert mesh.state_dir not in path.parents
        assert path.exists()
        assert mesh.run("down").returncode == 0
        assert not path.exists()


def test_a_role_that_does_not_get_ready_is_named_with_its_log(
    small: Mesh, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(readiness, "READY_S", 8.0)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process's handlers are pytest's
    small.config.write_text(small.config.read_text().replace("sqlite:///spool.db", "sqlite:////proc/nowhere/spool.db"))
    assert run([*small.up_arguments("one"), "-d", "--state-dir", str(small.state_dir)]) == 1
    shown = capsys.readouterr().err
    assert "--- one-collector-1: running\n" in shown
    assert "hitmesh: not ready after 8 s: one: collector-1 (/health: 503: " in shown
    assert small.processes() == []


def test_partitions_cannot_change(small: Mesh) -> None:
    (small.state_dir / "one").mkdir(parents=True)
    (small.state_dir / "one" / "hitmesh.toml").write_text(DEV.read_text())
    small.config.write_text(small.config.read_text().replace("partitions = 32", "partitions = 16"))
    answer = small.run(*small.up_arguments("one"), "-d")
    assert answer.returncode == 1
    assert "one has 32 partitions in" in answer.stderr


def test_a_server_that_is_not_installed_is_named(small: Mesh, tmp_path: Path) -> None:
    command = small.command(*small.up_arguments("one"), "--consul")
    code = (
        "import shutil, sys; shutil.which = lambda *_, **__: None\n"
        "from hitmesh.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, *command[3:]], capture_output=True, text=True, timeout=30, check=False
    )
    assert answer.returncode == 1
    assert answer.stderr == "hitmesh: --consul: consul is not installed (scripts/install-services installs it)\n"


def members(consul: str, port: int) -> Sequence[str]:
    command = [consul, "members", "-wan", f"-http-addr=127.0.0.1:{port}"]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.splitlines()[1:]
    return sorted(line.split()[0] for line in lines if line.split()[2] == "alive")


def test_with_real_servers_consul_is_joined_over_wan_and_totals_are_in_it(tmp_path: Path) -> None:
    consul = require("consul")
    require("beanstalkd")
    with meshes(tmp_path / "var", nexus=1, processor=1, collector=1) as mesh:
        mesh.up("eu-west,us-west", "--consul", "--beanstalkd")
        http_port = mesh.base_port + 50
        joined = ["eu-west-consul.eu-west", "us-west-consul.us-west"]
        wait_for(lambda: members(consul, http_port) == joined, within_s=30, what="both servers in the WAN pool")
        hit(mesh.collectors("eu-west")[0], "real.example/x")
        report = wait_for(lambda: settled(mesh), within_s=30, what="quiet books")
        assert (report["balanced"], report["accepted"], report["orphan_jobs"]) == (True, 1, 0)
        assert mesh.json("total", "real.example/x")["total"] == 1
        assert mesh.status()["us-west-beanstalkd-2"]["state"] == "running"
