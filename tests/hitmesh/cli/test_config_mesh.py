"""`hitmesh config` on a whole mesh of two datacenters: in force in all of it, and told when it isn't."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitmesh.config import load
from hitmesh.config.live import value_of
from tests.hitmesh.cli.meshes import SOON_S, Mesh, hit, meshes, running, status_of
from tests.services import PATIENCE_S, wait_for

INSTANCES = 4  # of a datacenter


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    state_dir = tmp_path_factory.mktemp("config") / "var"
    with meshes(state_dir, nexus=1, processor=1, collector=1, balancer=1) as started:
        started.up("eu-west,us-west")
        yield started


def changed(mesh: Mesh, *arguments: str) -> str:
    """The last line of a change that went well."""
    answer = mesh.run_patiently("config", *arguments)
    assert (answer.returncode, answer.stderr) == (0, ""), answer.stdout + answer.stderr
    return answer.stdout.splitlines()[-1]


def test_a_change_anywhere_is_in_force_in_every_role_of_both_datacenters(mesh: Mesh) -> None:
    for dc in ("eu-west", "us-west"):
        said = changed(mesh, "set", "timing.commit_s", "0.1" if dc == "eu-west" else "0.2", "--dc", dc)
        assert said.startswith(f"in force in {2 * INSTANCES} of {2 * INSTANCES} instances of 2 datacenters after ")
    for dc in ("eu-west", "us-west"):
        assert mesh.run("config", "get", "timing.commit_s", "--dc", dc).stdout == "0.2\n"
    assert {each["load"]["settings"] for each in mesh.status().values()} == {2}
    said = changed(mesh, "unset", "timing.commit_s")
    assert f"{2 * INSTANCES} of {2 * INSTANCES}" in said
    file = load(mesh.state_dir / "us-west" / "hitmesh.toml")
    assert (
        mesh.run("config", "get", "timing.commit_s", "--dc", "us-west").stdout
        == f"{value_of(file, 'timing.commit_s')}\n"
    )


def test_a_live_limit_and_a_live_route_are_what_the_other_datacenter_does(mesh: Mesh) -> None:
    [balancer] = mesh.urls("us-west", "balancer")
    assert status_of(balancer, "POST", "/hits", "x" * 2000) == 415
    changed(mesh, "set", "balancer.limits.body_bytes", "1000", "--dc", "eu-west")
    assert status_of(balancer, "POST", "/hits", "x" * 2000) == 413
    changed(mesh, "unset", "balancer.limits.body_bytes", "--dc", "eu-west")
    assert status_of(balancer, "POST", "/hits", "x" * 2000) == 415
    changed(mesh, "set", "routes/live.example", '{"action": "empty", "status": 410}', "--dc", "eu-west")
    assert status_of(balancer, "GET", "/health", host="live.example") == 410
    changed(mesh, "unset", "routes/live.example", "--dc", "us-west")
    assert status_of(balancer, "GET", "/health", host="live.example") == 200


def test_what_a_page_is_changes_in_the_other_datacenter(mesh: Mesh) -> None:
    [collector] = mesh.urls("us-west", "collector")
    assert hit(collector, "example.com/a/")["page"] == "example.com/a"
    changed(mesh, "set", "pages.trailing_slash", "keep", "--dc", "eu-west")
    assert hit(collector, "example.com/a/")["page"] == "example.com/a/"
    changed(mesh, "unset", "pages.trailing_slash")


def test_limits_of_the_collectors_change_without_a_restart(mesh: Mesh) -> None:
    [collector] = mesh.urls("us-west", "collector")
    lines = '{"page": "a.example/x"}\n{"page": "a.example/y"}\n'

    def posted() -> int:
        connection = http.client.HTTPConnection(collector.removeprefix("http://"), timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("POST", "/hits", lines, {"Content-Type": "application/x-ndjson"})
            return connection.getresponse().status

    pids = {name: each["pid"] for name, each in mesh.status().items()}
    assert posted() == 200
    changed(mesh, "set", "limits.batch_pages", "1")
    assert posted() == 413
    changed(mesh, "set", "limits.batch_body_bytes", "10")
    changed(mesh, "unset", "limits.batch_pages")
    assert posted() == 413
    changed(mesh, "unset", "limits.batch_body_bytes")
    assert posted() == 200
    assert {name: each["pid"] for name, each in mesh.status().items()} == pids


def test_changes_are_watched_in_one_datacenter_whoever_makes_them(mesh: Mesh) -> None:
    command = mesh.command("config", "watch", "--json", "--dc", "us-west")
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline().startswith("watching ")
        changed(mesh, "set", "timing.fresh_s", "0.1", "--author", "anna", "--dc", "eu-west")
        seen = [json.loads(process.stdout.readline())]
        changed(mesh, "unset", "timing.fresh_s", "--author", "ben", "--dc", "us-west")
        seen.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    assert [(each["key"], each["value"], each["before"], each["author"]) for each in seen] == [
        ("timing.fresh_s", "0.1", None, "anna"),
        ("timing.fresh_s", None, "0.1", "ben"),
    ]


def test_a_datacenter_that_is_cut_off_is_told_and_catches_up(mesh: Mesh) -> None:
    """Without its Nexus nothing comes to it from elsewhere."""
    mesh.supervisorctl("stop", "us-west-nexus-1")
    answer = mesh.run_patiently("config", "set", "timing.fresh_s", "0.3", "--dc", "eu-west", answer_s=0.8)
    assert answer.returncode == 0
    assert "no Nexus of us-west answers; it follows as soon as it is back" in answer.stderr
    assert f"in force in {INSTANCES} of {INSTANCES} instances of 1 datacenter after " in answer.stdout
    assert mesh.run("config", "get", "timing.fresh_s", "--dc", "us-west").stdout == "0.5\n"
    assert mesh.run("config", "set", "timing.read_s", "0.9", "--dc", "us-west").returncode == 0
    mesh.supervisorctl("start", "us-west-nexus-1")

    def value(dc: str, key: str) -> str:
        return mesh.run("config", "get", key, "--dc", dc).stdout

    wait_for(lambda: value("us-west", "timing.fresh_s") == "0.3\n", within_s=SOON_S, what="the setting in us-west")
    wait_for(lambda: value("eu-west", "timing.read_s") == "0.9\n", within_s=SOON_S, what="its own one in eu-west")
    wait_for(lambda: len(mesh.status()) == 2 * INSTANCES, within_s=SOON_S, what="all to be heard again")
    changed(mesh, "unset", "timing.fresh_s")
    changed(mesh, "unset", "timing.read_s")


def test_the_state_of_the_folder_is_that_of_the_config_option(mesh: Mesh) -> None:
    file = Path(mesh.state_dir) / "us-west" / "hitmesh.toml"
    said = changed(mesh, "set", "timing.fresh_s", "0.2", "--config", str(file))
    assert f"{2 * INSTANCES} of {2 * INSTANCES} instances of 2 datacenters" in said  # its Nexus knows the other one
    changed(mesh, "unset", "timing.fresh_s")
