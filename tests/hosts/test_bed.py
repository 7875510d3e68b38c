"""The bed of whole hosts itself: what tests on it may rely on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitmesh.cli.processes import started
from tests.hosts import keeper
from tests.hosts.bed import Bed
from tests.hosts.host import Host
from tests.services import PATIENCE_S, wait_for
from tests.wan import netns

ADDRESS = "10.2.0.11"
DISK_MB = 64
SILENCE_S = 1.0  # that nobody answers in; an answer takes a millisecond
# Holds a bed, says its prefix, its keeper and a host, and waits.
HOLDER = """
import sys, time
from tests.hosts.bed import Bed
with Bed() as bed:
    host = bed.host("app-1", "10.2.0.11", dc="us-west")
    bed.up()
    print(bed.prefix, bed._keeper.pid, host.pid, flush=True)
    time.sleep(1000)
"""


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with Bed() as bed:
        bed.host("app-1", ADDRESS, dc="us-west", disk_mb=DISK_MB)
        bed.host("app-2", "10.2.0.12", dc="us-west")
        bed.host("eu-1", "10.1.0.11", dc="eu-west")
        bed.up()
        yield bed


@pytest.fixture
def app(bed: Bed) -> Host:
    return bed.hosts["app-1"]


def ssh(bed: Bed, *words: str) -> subprocess.CompletedProcess[str]:
    return bed.run_on("operator", ["ssh", *words])


def said(host: Host, command: str, **options: str) -> str:
    done = host.run(["sh", "-c", command], **options)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


# --- ssh -----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["app-1", "app-2", "eu-1", ADDRESS, f"root@{ADDRESS}"])
def test_the_operator_reaches_every_host_by_ssh_as_root(bed: Bed, host: str) -> None:
    done = ssh(bed, host, "id -un; hostname")
    assert done.stdout.split() == ["root", host.replace(f"root@{ADDRESS}", "app-1").replace(ADDRESS, "app-1")], done


def test_each_host_has_a_host_key_of_its_own_which_is_checked(bed: Bed) -> None:
    keys = {host.read("/etc/ssh/ssh_host_ed25519_key.pub").split()[1] for host in bed.hosts.values()}
    assert len(keys) == 3
    done = ssh(bed, "-o", "HostName=10.2.0.12", "-o", "HostKeyAlias=app-1", "app-1", "true")
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


# --- a machine of its own ------------------------------------------------------------------


def test_a_host_sees_nothing_of_the_machines_checkouts_homes_and_processes(app: Host) -> None:
    for folder in (Path(sys.prefix), Path(__file__).parent, Path.home() / ".cache"):
        assert app.run(["test", "-e", str(folder)]).returncode, folder
    assert said(app, "ls /home /opt /srv /mnt /media; ls -A /root").split()[-1] == ".ssh"
    assert int(said(app, "ls -d /proc/[0-9]* | wc -l")) < 10
    assert said(app, "cat /proc/1/comm") == "sh"


def test_a_host_has_what_a_deploy_needs(app: Host) -> None:
    programs = "python3 sudo ip nft useradd tar setpriv"
    assert said(app, f"for each in {programs}; do command -v $each || echo no $each; done").count("no ") == 0
    assert said(app, "sudo -n id -u; cat /etc/hostname; getent hosts app-1").split() == ["0", "app-1", ADDRESS, "app-1"]
    assert said(app, "python3 -m venv /opt/trial && /opt/trial/bin/python -c 'import pip, sys; print(sys.prefix)'")


def test_a_hosts_users_and_files_are_its_own(bed: Bed, app: Host) -> None:
    said(app, "useradd --create-home --shell /bin/bash deploy && echo text >/usr/local/bin/mine")
    assert said(app, "id -un; echo ~", user="deploy") == "deploy\n/home/deploy"
    other = bed.hosts["app-2"]
    assert other.run(["id", "deploy"]).returncode
    assert other.run(["test", "-e", "/usr/local/bin/mine"]).returncode
    assert "deploy:" not in Path("/etc/passwd").read_text()
    assert not Path("/usr/local/bin/mine").exists()


def test_only_the_networks_settings_of_the_kernel_are_a_hosts_to_change(app: Host) -> None:
    said(app, "echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind")
    assert Path("/proc/sys/net/ipv4/ip_nonlocal_bind").read_text().strip() == "0"
    assert "Read-only" in app.run(["sh", "-c", "cat /proc/sys/vm/swappiness >/proc/sys/vm/swappiness"]).stderr


def test_a_hosts_disk_is_full_when_its_megabytes_are(bed: Bed, app: Host) -> None:
    done = app.run(["fallocate", "-l", f"{DISK_MB}M", "/var/tmp/large"])
    assert "No space left on device" in done.stderr
    said(app, "rm -f /var/tmp/large")
    said(bed.hosts["app-2"], f"fallocate -l {DISK_MB}M /var/tmp/large")


def test_orphans_are_collected(app: Host) -> None:
    said(app, "(sleep 0.01 & ) ; true")
    wait_for(lambda: "Z" not in said(app, "ps -eo stat"), what="no zombies")


# --- power and links -----------------------------------------------------------------------


def test_after_a_power_cut_a_host_has_its_files_and_starts_what_it_starts(app: Host) -> None:
    said(app, "printf '#!/bin/sh\\ntouch /run/booted\\n' >/etc/rc.local; chmod +x /etc/rc.local")
    said(
        app, "mkdir -p /var/lib/kept; echo text >/var/lib/kept/file; touch /run/lost; ip addr add 10.2.0.99/24 dev eth0"
    )
    key, first = app.read("/etc/ssh/ssh_host_ed25519_key.pub"), app.pid
    lasting = app.popen(["sleep", "1000"])
    app.power_cut()
    assert lasting.wait()
    assert not Path(f"/proc/{first}").exists()
    app.up()
    assert app.read("/var/lib/kept/file") == "text\n"
    assert app.read("/etc/ssh/ssh_host_ed25519_key.pub") == key
    assert said(app, "ls /run").find("lost") == -1
    assert "10.2.0.99" not in said(app, "ip addr")
    wait_for(lambda: "booted" in said(app, "ls /run"), what="rc.local")


def test_a_cut_is_silent_and_heals(bed: Bed, app: Host) -> None:
    with app.inside():
        listener = socket.create_server((ADDRESS, 7007))
    with listener:
        app.cut()
        assert "state UP" in said(app, "ip link show eth0")
        for other in (bed.place("client"), bed.hosts["app-2"]):
            with other.inside(), pytest.raises(TimeoutError):
                socket.create_connection((ADDRESS, 7007), timeout=SILENCE_S)
        app.heal()
        app.heal()  # which is well
        for other in (bed.place("client"), bed.hosts["app-2"]):
            with other.inside():
                socket.create_connection((ADDRESS, 7007), timeout=PATIENCE_S).close()


# --- leaving nothing -----------------------------------------------------------------------


def left(prefix: str) -> list[str]:
    """What is there of a bed."""
    marks = (prefix, prefix.rstrip("-"))
    processes = [
        line
        for each in Path("/proc").glob("[0-9]*/cmdline")
        if (line := _text(each)) and any(mark in line for mark in marks)
    ]
    mounts = [line for line in _text(Path("/proc/self/mounts")).splitlines() if marks[1] in line]
    files = [str(folder) for folder in [keeper.folder_of(prefix)] if folder.exists()]
    return [*netns.names(prefix), *processes, *mounts, *files]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_a_closed_bed_leaves_nothing() -> None:
    with Bed() as bed:
        host = bed.host("app-1", ADDRESS, dc="us-west")
        bed.up()
        client = bed.popen_on("client", ["sleep", "1000"])
        assert left(bed.prefix)
    assert left(bed.prefix) == []
    assert client.wait() == -signal.SIGKILL
    assert host.pid == 0


@pytest.mark.parametrize("keeper_too", [False, True], ids=["by its keeper", "by the next bed"])
def test_a_bed_whose_process_is_killed_is_removed(keeper_too: bool) -> None:
    repository = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True, cwd=repository)
    with process:
        assert process.stdout is not None
        prefix, keeper_pid, host_pid = process.stdout.readline().split()
        if keeper_too:
            os.kill(int(keeper_pid), signal.SIGKILL)
        process.kill()
    if keeper_too:
        assert left(prefix)
        with Bed():
            pass
    wait_for(lambda: not left(prefix), what="the bed to be gone")
    assert not started(int(host_pid))
