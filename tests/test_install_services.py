"""scripts/install-services, with a system package manager that only writes down what it is asked."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "install-services"
PROGRAMS = (
    *("beanstalkd", "wrk", "strace", "haproxy", "nginx", "openssl", "ip", "nft"),
    *("ssh", "sshd", "keepalived", "sudo", "python3-venv", "chromium", "prometheus", "postgres", "consul"),
)
NAMES = {
    "nginx": "nginx-light", "ip": "iproute2", "nft": "nftables", "ssh": "openssh-client", "sshd": "openssh-server",
    "postgres": "postgresql",
}  # fmt: skip
PACKAGES = [NAMES.get(program, program) for program in PROGRAMS]


class Machine:
    """A PATH of its own, where nothing is but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for tool in ("sh", "sed", "head", "cat", "rm", "chmod"):
            found = shutil.which(tool)
            assert found
            (folder / tool).symlink_to(found)
        self.calls = folder / "calls"
        self.calls.touch()
        self.policy = folder / "policy-rc.d"

    def put(self, program: str, does: str = "true") -> None:
        (self.folder / program).write_text(f'#!/bin/sh\necho "{program} $*" >>{self.calls}\n{does}\n')
        (self.folder / program).chmod(0o755)

    def run(self, *programs: str) -> subprocess.CompletedProcess[str]:
        # the script looks into the system's sbin folders as well, where some of its programs may be
        environment = {"PATH": str(self.folder), "SBIN": str(self.folder / "sbin")}
        environment |= {"SYSTEM_PYTHON": str(self.folder / "python3-venv"), "POLICY": str(self.policy)}
        return subprocess.run(
            ["sh", str(SCRIPT), *programs], env=environment, capture_output=True, text=True, timeout=20, check=False
        )

    def installs(self) -> list[str]:
        return [line.split()[-1] for line in self.calls.read_text().splitlines() if "install" in line]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.put("id", "echo 0")
    machine.put("apt-get")
    machine.put("apt-cache", "echo '  Candidate: 1.2.3'")
    return machine


def test_what_is_on_path_is_left_alone(machine: Machine) -> None:
    for program in PROGRAMS:
        machine.put(program)
    done = machine.run()
    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"{program}: there already" for program in PROGRAMS]
    assert "apt-get" not in machine.calls.read_text()


def test_only_what_is_missing_is_installed(machine: Machine) -> None:
    for program in set(PROGRAMS) - {"beanstalkd", "strace", "nginx"}:
        machine.put(program)
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert machine.installs() == ["beanstalkd", "strace", "nginx-light"]


def test_consul_comes_from_the_systems_own_package_where_there_is_one(machine: Machine) -> None:
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert machine.installs() == PACKAGES


def test_what_is_only_on_roots_path_is_found(machine: Machine) -> None:
    sbin = machine.folder / "sbin"
    sbin.mkdir()
    for program in ("haproxy", "nginx"):
        machine.put(program)
        (machine.folder / program).rename(sbin / program)
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert machine.installs() == [package for package in PACKAGES if package not in {"haproxy", "nginx-light"}]


def test_package_lists_are_fetched_once(machine: Machine) -> None:
    machine.run()
    assert machine.calls.read_text().splitlines().count("apt-get update") == 1


def test_without_root_it_says_what_is_missing_and_changes_nothing(machine: Machine) -> None:
    machine.put("id", "echo 1000")
    machine.put("strace")
    done = machine.run()
    assert done.returncode == 0
    missing = [line.split(":")[0] for line in done.stdout.splitlines() if "missing" in line]
    assert missing == [program for program in PROGRAMS if program != "strace"]
    assert "apt-get" not in machine.calls.read_text()


def test_a_package_that_fails_is_told_and_the_others_are_installed(machine: Machine) -> None:
    machine.put("apt-get", 'case "$*" in *wrk) echo no such package; exit 100;; esac')
    done = machine.run()
    assert done.returncode == 1
    assert "no such package" in done.stderr
    assert "wrk: installed" not in done.stdout
    assert machine.installs() == PACKAGES


def test_package_lists_that_cannot_be_fetched_do_not_stop_it(machine: Machine) -> None:
    machine.put("apt-get", 'case "$*" in update) echo no network; exit 100;; esac')
    done = machine.run()
    assert done.returncode == 0
    assert "no network" in done.stderr
    assert machine.installs() == PACKAGES


def test_only_what_is_asked_for_is_installed(machine: Machine) -> None:
    machine.put("consul")
    done = machine.run("ip", "consul")
    assert done.returncode == 0, done.stderr
    assert machine.installs() == ["iproute2"]
    assert done.stdout.splitlines() == ["iproute2: installed", "consul: there already"]


def test_a_package_may_not_start_its_server_and_the_policy_goes_away_again(machine: Machine) -> None:
    machine.put(
        "apt-get", f'case "$*" in *keepalived) "{machine.policy}"; echo "policy says $?" >>{machine.calls};; esac'
    )
    machine.run("keepalived")
    assert "policy says 101" in machine.calls.read_text()
    assert not machine.policy.exists()


def test_a_policy_that_the_machine_has_already_is_kept(machine: Machine) -> None:
    machine.policy.write_text("its own")
    machine.run("keepalived")
    assert machine.policy.read_text() == "its own"
