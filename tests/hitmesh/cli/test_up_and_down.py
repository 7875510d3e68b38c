"""Starting and stopping a whole mesh on this machine. Real processes on free ports."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from hitmesh.cli import folder, readiness
from hitmesh.cli.layout import BLOCK_PORTS, CONSUL_AT
from hitmesh.cli.main import run
from hitmesh.cli.supervision import Supervisor
from hitmesh.config import Config, load
from tests.hitmesh.cli.meshes import (
    DEV,
    SOON_S,
    UP_S,
    Mesh,
    finished,
    hit,
    meshes,
    put_and_delete_a_live_route,
    settled,
)
from tests.hitmesh.cli.meshes import running as running_command
from tests.services import require, require_ipv6, wait_for


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with meshes(tmp_path_factory.mktemp("single") / "var", nexus=1, processor=1, collector=1) as mesh:
        yield mesh


@pytest.fixture
def running(single: Mesh) -> Mesh:
    """A datacenter of one instance per role that runs, for tests that may end it."""
    if Supervisor(single.state_dir).pid() is None:
        single.up_unread()
    return single


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Mesh]:
    """A datacenter of one instance per role, not started."""
    with meshes(tmp_path / "var", nexus=1, processor=1, collector=1) as mesh:
        yield mesh


def test_a_detached_mesh_runs_even_if_nobody_reads_what_up_says(running: Mesh) -> None:
    assert running.status()["one-collector-1"]["state"] == "up"


def test_totals_survive_down_and_up(running: Mesh) -> None:
    hit(running.urls("one", "collector")[0], "kept.example/x")
    down = running.run("down")
    assert (down.returncode, down.stdout) == (0, f"stopped the mesh in {running.state_dir}\n")
    assert "didn't stop by themselves" not in down.stderr
    assert running.left() == []
    assert not folder.new_socket_path(running.state_dir).exists()
    assert running.json("total", "kept.example/x")["total"] == 1
    running.up()
    assert hit(running.urls("one", "collector")[0], "kept.example/x")["total"] == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_a_signal_stops_all_of_it(small: Mesh, number: signal.Signals) -> None:
    command = small.command(*small.up_arguments("one"))
    with running_command(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready in ")
        assert len(small.processes()) == 7  # a collector and a balancer are two, and there is supervisord
        assert len(small.left()) == 6
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(UP_S) == 0
    assert small.left() == []


def test_in_the_foreground_it_ends_when_somebody_else_stops_it(small: Mesh) -> None:
    command = small.command(*small.up_arguments("one"))
    with running_command(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready in ")
        assert small.run("down").returncode == 0
        process.stdout.read()
        assert process.wait(UP_S) == 0


def test_a_mesh_whose_folder_was_moved_is_found_and_stopped(running: Mesh) -> None:
    config = running.state_dir / "one" / "hitmesh.toml"
    kept, moved = config.read_text(), running.state_dir.with_name("moved")
    pid = Supervisor(running.state_dir).pid()
    running.state_dir.rename(moved)
    again = running.run(*running.up_arguments("one"), "-d")
    assert again.returncode == 1
    assert again.stderr.startswith(
        f"hitmesh: a mesh runs in {running.state_dir} already (supervisord has pid {pid}, whose files were moved"
    )
    status = running.run("status")
    assert status.stderr.startswith(f"hitmesh: the files of the mesh in {running.state_dir} are gone, and it runs: ")
    (moved / "one" / "hitmesh.toml").write_text("not = [")  # down needs none
    down = running.run("down")
    assert (down.returncode, down.stdout) == (0, f"stopped the mesh in {running.state_dir}\n")
    assert running.processes() == []
    assert running.left() == []
    assert running.run("down").stdout == f"no mesh runs in {running.state_dir}\n"
    shutil.rmtree(running.state_dir, ignore_errors=True)  # in which a spool may have been made anew
    (moved / "supervisor.sock").unlink()
    moved.rename(running.state_dir)
    config.write_text(kept)


def test_what_goes_on_when_supervisord_dies_in_the_foreground_is_named_found_and_stopped(small: Mesh) -> None:
    command = small.command(*small.up_arguments("one"))
    with running_command(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready in ")
        pid = Supervisor(small.state_dir).pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        said = process.communicate(timeout=UP_S)[1].splitlines()[-1]
        assert process.returncode == 1
    assert said.startswith("hitmesh: supervisord ended (status -9), and these go on: one-balancer-1 (pid ")
    assert said.endswith(f"(`hitmesh down --state-dir {small.state_dir}` stops them)")
    again = small.run(*small.up_arguments("one"), "-d")
    assert again.returncode == 1
    assert again.stderr.startswith(f"hitmesh: left by an earlier mesh in {small.state_dir}: one-balancer-1 (pid ")
    assert ", one-collector-1 (pid " in again.stderr
    status = small.run("status")
    assert status.stderr == "hitmesh: supervisord doesn't answer; its processes go on without it\n"
    assert "collector-1" in status.stdout
    assert small.run("down").returncode == 0
    assert small.left() == []


def test_the_state_folder_and_what_every_role_makes_in_it_are_its_owners_alone(running: Mesh) -> None:
    hit(running.urls("one", "collector")[0], "private.example/x")
    running.json("audit")  # opens the stores
    others = [
        str(path)
        for path in (running.state_dir, *running.state_dir.rglob("*"))
        if path.exists() and path.stat().st_mode & 0o077
    ]
    assert others == []


def test_a_mesh_on_ipv6_works_from_end_to_end(tmp_path: Path) -> None:
    require_ipv6()
    log = tmp_path / "log"
    log.write_text('2001:db8::7 - - [x] "GET /a HTTP/1.1" 200 1\n' * 3)
    with meshes(tmp_path / "var", address="::1", nexus=1, processor=1, collector=1) as mesh:
        assert f"curl -X POST http://[::1]:{mesh.base_port}/hit/" in mesh.up("one,two")
        [balancer], [collector] = mesh.urls("one", "balancer"), mesh.urls("one", "collector")
        assert hit(balancer, "six.example/a")["total"] == 1
        report = mesh.json("replay", str(log), "--site", "six.example", "--to", collector)
        assert (report["accepted"], report["failed"]) == (3, 0)
        audit = wait_for(lambda: settled(mesh), within_s=SOON_S, what="quiet books")
        assert (audit["balanced"], audit["committed"]) == (True, 4)
        assert {each["state"] for each in mesh.status().values()} == {"up"}


def test_a_role_that_does_not_get_ready_is_named_with_its_log(
    small: Mesh, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking_in, is_over = readiness.lacking_in, False

    def lacking(configs: Sequence[Config]) -> dict[str, list[str]]:
        nonlocal is_over
        found = lacking_in(configs)
        is_over = [each.startswith("collector-1 (/health: 503: ") for each in found.get("one", [])] == [True]
        return found

    def monotonic() -> float:
        """The time is over as soon as nothing else is lacking."""
        return time.monotonic() + (UP_S + 1 if is_over else 0.0)

    monkeypatch.setattr(readiness, "lacking_in", lacking)
    monkeypatch.setattr(readiness, "READY_S", UP_S)
    monkeypatch.setattr(readiness, "time", SimpleNamespace(monotonic=monotonic, sleep=time.sleep))
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process's handlers are pytest's
    with small.config.open("a") as file:
        file.write('\n[stores]\nspools = ["sqlite:////proc/nowhere/spool.db"]\n')
    assert run([*small.up_arguments("one"), "-d", "--state-dir", str(small.state_dir)]) == 1
    shown = capsys.readouterr().err
    assert "--- one-collector-1: running\n" in shown
    assert f"hitmesh: not ready after {UP_S:g} s: one: collector-1 (/health: 503: " in shown
    assert small.left() == []


def test_partitions_cannot_change(small: Mesh) -> None:
    (small.state_dir / "one").mkdir(parents=True)
    (small.state_dir / "one" / "hitmesh.toml").write_text(DEV.read_text())
    small.config.write_text(f"partitions = 16\n{small.config.read_text()}")
    answer = small.run(*small.up_arguments("one"), "-d")
    assert answer.returncode == 1
    assert "one has 32 partitions in" in answer.stderr


def test_a_server_that_is_not_installed_is_named(small: Mesh, tmp_path: Path) -> None:
    command = small.command(*small.up_arguments("one"), "--consul")
    code = (
        "import shutil, sys; shutil.which = lambda *_, **__: None\n"
        "from hitmesh.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    answer = finished([sys.executable, "-c", code, *command[3:]])
    assert answer.returncode == 1
    assert answer.stderr == "hitmesh: --consul: consul is not installed (scripts/install-services installs it)\n"


def members(consul: str, port: int) -> Sequence[str]:
    command = [consul, "members", "-wan", f"-http-addr=127.0.0.1:{port}"]
    lines = finished(command).stdout.splitlines()[1:]
    return sorted(line.split()[0] for line in lines if line.split()[2] == "alive")


def test_with_real_servers_three_datacenters_are_one_mesh_with_totals_and_settings_in_consul(tmp_path: Path) -> None:
    consul = require("consul")
    require("beanstalkd")
    dcs = ["ap-south", "eu-west", "us-west"]
    with meshes(tmp_path / "var", nexus=1, processor=1, collector=1, recorder=1, scaler=1) as mesh:
        mesh.up("eu-west,us-west,ap-south", "--consul", "--beanstalkd")
        joined = [f"{dc}-consul.{dc}" for dc in dcs]
        for block in range(len(dcs)):
            http_port = mesh.base_port + BLOCK_PORTS * block + CONSUL_AT
            wait_for(lambda at=http_port: members(consul, at) == joined, within_s=SOON_S, what="all in the WAN pool")  # type: ignore[misc]
        for dc in dcs:
            config = load(mesh.state_dir / dc / "hitmesh.toml")
            assert config.peers == {}  # Consul's catalogue has them
            assert config.stores.settings == f"{config.stores.totals}-settings"
            assert mesh.status()[f"{dc}-nexus-1"]["load"].get("peers_unheard", 0) == 0  # as soon as it returns
        hit(mesh.urls("eu-west", "balancer")[0], "real.example/x")
        put_and_delete_a_live_route(mesh)
        report = wait_for(lambda: settled(mesh), within_s=SOON_S, what="quiet books")
        assert (report["balanced"], report["accepted"], report["orphan_jobs"]) == (True, 1, 0)
        assert mesh.json("total", "real.example/x")["total"] == 1
        assert mesh.status()["us-west-beanstalkd-2"]["state"] == "running"
