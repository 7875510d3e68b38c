"""A host from nothing: bootstrapped for real, by ssh, with sudo, supervisord, Consul, beanstalkd and nft."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitmesh.config import dump, parse
from hitmesh.deploy import bootstrap
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.fleet import Host as FleetHost
from hitmesh.deploy.host.rules import USERS
from hitmesh.deploy.paths import HOST_PROGRAM
from hitmesh.deploy.release import Built
from hitmesh.deploy.remote import RemoteHost
from hitmesh.deploy.render import files_for
from hitmesh.deploy.ssh import Ssh
from hitmesh.errors import CommandError
from tests.hosts.bed import Bed
from tests.hosts.host import Host
from tests.services import require, wait_for

ADDRESS = "10.2.0.11"
FLEET = Fleet.of(
    parse(
        {
            "name": "us-west",
            "insecure": True,
            "nodes": {"app-1": {"address": ADDRESS, "nexus": 1, "processor": 1, "collector": 1, "balancer": 1,
                                "beanstalkd": True, "consul_server": True}},
            "ports": {"balancer": 80, "balancer_admin": 0},
            "stores": {
                "totals": "consul://127.0.0.1:8500/hitmesh", "settings": "consul://127.0.0.1:8500/hitmesh-settings",
                "spools": [f"beanstalk://{ADDRESS}:11300/hitmesh"],
            },
            "deploy": {"packages": False, "firewall": True},
        },
        source="test",
    )
)  # fmt: skip
SPOOL, SSH = 11300, 22
DISK_MB = 300  # the system's environment, a release, and what the servers write
SILENCE_S = 1.0  # that a dropped connection isn't answered in; an answer takes a millisecond


class OperatorsSsh(Ssh):
    """As from the operator's machine."""

    def __init__(self, bed: Bed, folder: Path, user: str) -> None:
        super().__init__(folder, user, bed.ssh_config)
        self._namespace = bed.place("operator").namespace

    def command(self, host: FleetHost, argv: list[str], *, terminal: bool = False) -> list[str]:
        return ["ip", "netns", "exec", self._namespace, *super().command(host, argv, terminal=terminal)]


class Bootstrapped:
    """A host, and the way to it."""

    def __init__(self, bed: Bed, folder: Path, release: Built) -> None:
        self.bed, self._release = bed, release
        self.host: Host = bed.host("app-1", ADDRESS, dc="us-west", disk_mb=DISK_MB)
        bed.up()
        self.key = (bed.ssh_config.parent / "id_ed25519.pub").read_text().strip()
        self._root, user = (OperatorsSsh(bed, folder, user) for user in ("root", FLEET.config.deploy.user))
        self.remote = RemoteHost(FLEET.hosts[0], user, "us-west")
        self.changed = self.again()

    def again(self) -> list[str]:
        return bootstrap.bootstrap(
            FLEET, dump(FLEET.config), self.remote, self._root, self._release.tar, [self.key], {}
        )

    def states(self) -> dict[str, str]:
        return {one.name: one.state for one in self.remote.facts().programs or ()}

    def said(self, command: str, user: str = "") -> str:
        """What a command says there; "refused" when it fails."""
        done = self.host.run(["sh", "-c", command], user=user)
        return "refused" if done.returncode else done.stdout.strip()


@pytest.fixture(scope="module")
def app(release: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bootstrapped]:
    for program in ("consul", "beanstalkd", "nft", "sudo"):
        require(program)
    with Bed() as bed:
        yield Bootstrapped(bed, tmp_path_factory.mktemp("ssh"), release)


def test_a_host_from_nothing_runs_its_servers_and_answers_the_deploy_user(app: Bootstrapped) -> None:
    assert {"user hitmesh-deploy", "supervisord started", "consul-1 started", "beanstalkd-1 started"} <= {*app.changed}
    assert app.states() == {"consul-1": "RUNNING", "beanstalkd-1": "RUNNING"}
    leader = (
        "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8500/v1/status/leader\").read())'"
    )
    wait_for(lambda: ADDRESS in app.said(leader), what="a leader of Consul")


def test_a_second_bootstrap_changes_nothing_and_says_so(app: Bootstrapped) -> None:
    assert app.again() == []


def test_a_program_without_a_file_is_stopped_and_a_bootstrap_brings_it_back(app: Bootstrapped) -> None:
    path = "/var/lib/hitmesh/supervisor.d/us-west-beanstalkd-1.conf"
    app.remote.write([File(path=path, text="", then="supervisor")])
    assert app.states() == {"consul-1": "RUNNING"}
    assert app.again() == [path, "beanstalkd-1 started"]


def test_the_deploy_user_may_run_the_host_program_as_root_and_nothing_else(app: Bootstrapped) -> None:
    user = FLEET.config.deploy.user
    assert '"python"' in app.said(f"sudo -n {HOST_PROGRAM} --dc us-west facts", user)
    for other in ("id", "-u hitmesh-consul id", "/opt/hitmesh/system/bin/python -V", f"PYTHONPATH=/tmp {HOST_PROGRAM}"):
        assert app.said(f"sudo -n {other}", user) == "refused"
    assert (
        app.said("touch /opt/hitmesh/x /etc/hitmesh/x /var/lib/hitmesh/x /opt/hitmesh/system/bin/x", user) == "refused"
    )


def test_a_user_of_one_role_reads_nothing_of_another(app: Bootstrapped) -> None:
    keys = {role: f"/etc/hitmesh/keys/us-west/{role}/{role}-1" for role in ("collector", "processor")}
    for role in keys:
        app.remote.secret(role, f"{role}-1", f"secret of {role}")
    assert app.said(f"cat {keys['collector']}", "hitmesh-collector") == "secret of collector"
    for place in (
        keys["processor"],
        "/var/lib/hitmesh/beanstalkd-1/*",
        "/var/log/hitmesh/*",
        "/etc/hitmesh/consul.json",
    ):
        assert app.said(f"cat {place}", "hitmesh-collector") == "refused"
    assert app.said(f"cat {keys['collector']}", FLEET.config.deploy.user) == "refused"


def test_commands_find_the_datacenter_though_a_role_s_folder_is_its_own(app: Bootstrapped) -> None:
    app.remote.write(files_for(FLEET, FLEET.hosts[0], dump(FLEET.config)))
    assert app.said("ls /var/lib/hitmesh/collector-1", "hitmesh-operator") == "refused"
    endpoints = app.remote.hitmesh("endpoints")
    assert b"http://10.2.0.11:80" in endpoints.out, endpoints.err


def test_nobody_logs_in_as_a_role(app: Bootstrapped) -> None:
    shells = {line.split(":")[0]: line.split(":")[6] for line in app.host.read("/etc/passwd").splitlines()}
    assert {shells[user] for user in USERS} == {"/usr/sbin/nologin"}


def test_the_firewall_lets_nobody_in_who_has_no_business_there(app: Bootstrapped) -> None:
    assert not hears(app.bed, SPOOL)
    assert hears(app.bed, SSH)


def test_a_full_disk_refuses_a_release_in_words_and_leaves_nothing(app: Bootstrapped, release: Built) -> None:
    app.said("free=$(df --output=avail -m / | tail -1); head -c $((free - 30))M /dev/zero >/var/tmp/full")
    try:
        with pytest.raises(CommandError, match="app-1: the disk of /opt/hitmesh is full"):
            app.remote.receive(release.release.id, release.tar)
    finally:
        app.said("rm /var/tmp/full")
    assert app.said("ls /opt/hitmesh/releases") == ""


def test_what_a_host_runs_comes_back_after_a_power_cut(app: Bootstrapped) -> None:
    app.host.power_cut()
    app.host.up()
    wait_for(lambda: "RUNNING" in comes(app).get("beanstalkd-1", ""), what="beanstalkd")
    assert not hears(app.bed, SPOOL), "nor is the firewall forgotten"


def comes(app: Bootstrapped) -> dict[str, str]:
    try:
        return app.states()
    except CommandError:  # sshd is there first, and the connection that was kept is dead
        return {}


def hears(bed: Bed, port: int) -> bool:
    """Whether a client outside can connect."""
    with bed.place("client").inside():
        probe = socket.socket()
    with probe:
        probe.settimeout(SILENCE_S)
        return probe.connect_ex((ADDRESS, port)) == 0
