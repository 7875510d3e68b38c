"""A test bed of whole hosts: each with files, users, processes, a network and an sshd of its own, which lose power.

    with Bed() as bed:
        app = bed.host("app-1", "10.2.0.11", dc="us-west")
        bed.up()
        bed.run_on("operator", ["ssh", "app-1", "id"])     # by ssh, its host key checked
        app.run(["id"])                                    # at its console
        app.power_cut()
        app.up()

    us-west (10.2.0.0/24)                    outside (10.255.0.0/24)
    app-1, app-2 ... == bridge == router == bridge == client, operator
                                  ||.254
    eu-west (10.1.0.0/24) == bridge

A datacenter is a bridge, on the network of its first host; one router, with the last address of each, joins
them. The `client` and the `operator` are places with an address of their own and the machine's files. With
`environment` commands have an `ssh` on their PATH which knows all hosts, and goes there from the operator's
place: so `fab` itself can run with the machine's own network, where wheels come from. Nothing else leads
out. tests/wan has beds with a WAN that is slow and loses; those hosts share the machine's files.

Root only. All of it is gone afterwards, also when this process is killed (tests/hosts/keeper.py), and if the
keeper is killed too, at the next bed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tests.hosts import image, keeper
from tests.hosts.host import Host, make_disk
from tests.wan import netns
from tests.wan.host import Host as Place
from tests.wan.netns import BedError

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PROGRAMS: Final = ("ip", "nft", "ssh", "sshd", "sudo", "python3-venv")  # as scripts/install-services has them
OUTSIDE: Final = {"client": "10.255.0.1", "operator": "10.255.0.2"}
ROUTER: Final = 254
# A port of a bridge may not simply be disabled: without spanning trees the kernel enables it again.
CUTS: Final = """
table bridge switch {
    set cut { type ifname; }
    chain prerouting { type filter hook prerouting priority 0; iifname @cut drop; }
    chain output { type filter hook output priority 0; oifname @cut drop; }
    chain postrouting { type filter hook postrouting priority 0; oifname @cut drop; }
}
"""
DISK_MB: Final = 1024  # some releases of 60 MB, a Consul server's log and a spool
KEEPER_S: Final = 60.0
SYSTEM_PYTHON: Final = "/usr/bin/python3"


def why_not() -> str:
    """Why this machine can't have a bed; empty where it can."""
    if os.geteuid() != 0:
        return "the bed of whole hosts needs root: it makes namespaces"
    path = f"{os.environ.get('PATH', '')}:{netns.SBIN}"
    missing = [each for each in PROGRAMS if each != "python3-venv" and shutil.which(each, path=path) is None]
    trial = [SYSTEM_PYTHON, "-c", "import ensurepip, venv, sys; sys.exit(sys.version_info < (3, 11))"]
    if not Path(SYSTEM_PYTHON).exists() or subprocess.run(trial, capture_output=True, check=False).returncode:
        missing.append("python3-venv")
    if missing:
        return f"{' and '.join(missing)} not installed; scripts/install-services does it"
    try:
        with Bed():
            pass
    except BedError as error:
        return f"the bed of whole hosts can't be made: {error}"
    return ""


class Bed:
    """The network and the disks; hosts are added one by one. A context manager."""

    def __init__(self) -> None:
        self.prefix = netns.new_prefix()
        self.folder = keeper.folder_of(self.prefix)
        self.ssh_config = self.folder / "operator/ssh_config"
        self.hosts: dict[str, Host] = {}
        self._router = f"{self.prefix}router"
        self._bridges: dict[str, str] = {}
        self._places: dict[str, Place] = {}
        self._ports = 0
        self._control: socket.socket | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._holder = 0  # the pid of who sees the disks
        self._authorized = ""

    def __enter__(self) -> Bed:
        keeper.sweep()
        netns.sweep()
        try:
            self.folder.mkdir(mode=0o700)
            self._start_keeper()
            image.make_base(self.folder / "base")
            self._make_operator()
            netns.ip(f"netns add {self._router}")
            netns.ip("link set lo up", namespace=self._router)
            netns.nft(CUTS, namespace=self._router)
            with netns.inside(self._router):
                Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            for name, address in OUTSIDE.items():
                self.add_place(name, address, dc="outside")
            self._wait_for_keeper()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove all of it: by the keeper, so that there is one way; by this process if the keeper was killed."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._keeper is None or self._keeper.wait() != 0:
            keeper.remove(self.prefix)
        for host in self.hosts.values():
            host.reap()

    # --- hosts ------------------------------------------------------------------------------

    def host(self, name: str, address: str, *, dc: str, disk_mb: int = DISK_MB) -> Host:
        """A new host, without power yet."""
        folder = self.folder / name
        folder.mkdir()
        make_disk(self, folder, disk_mb)
        public = image.make_own(folder / "own", name, address, self._authorized)
        host = Host(self, name, address, bridge=self._bridge(dc, address), port=self._new_port(), folder=folder)
        self.hosts[name] = host
        with (self.ssh_config.parent / "known_hosts").open("a") as file:
            file.write(f"{name},{address} {public}")
        with self.ssh_config.open("a") as file:
            file.write(f"Host {name}\n  HostName {address}\n")
        return host

    def up(self) -> None:
        """Boot all hosts that have no power, at once, and wait until they answer."""
        off = [host for host in self.hosts.values() if not host.pid]
        for host in off:
            host.start()
        for host in off:
            host.wait()

    # --- places with the machine's files ----------------------------------------------------

    def add_place(self, name: str, address: str, *, dc: str) -> Place:
        """One more client, in a datacenter."""
        place = Place(f"{self.prefix}{name}", address)
        self.join(place.namespace, address, bridge=self._bridge(dc, address), port=self._new_port())
        self._places[name] = place
        return place

    def place(self, name: str) -> Place:
        """The client, the operator, or another."""
        return self._places[name]

    def run_on(self, name: str, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """subprocess.run at a place, its output as text; the status is the caller's to judge."""
        return self.place(name).run(command, **{"env": self.environment, **options})

    def popen_on(self, name: str, command: Sequence[str], *, log: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a process at a place, in a session of its own."""
        return self.place(name).popen(command, log=log, env=self.environment)

    @property
    def environment(self) -> dict[str, str]:
        """This process's, with the bed's ssh first on PATH."""
        return {**os.environ, "PATH": f"{self.ssh_config.parent / 'bin'}:{os.environ['PATH']}"}

    # --- the network ------------------------------------------------------------------------

    def join(self, namespace: str, address: str, *, bridge: str, port: str) -> None:
        """Make a namespace, with this address behind a port of a bridge; always the same MAC address."""
        mac = "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))
        netns.ip(f"netns add {namespace}")
        netns.ip(
            f"link add {port} type veth peer name eth0 address {mac} netns {namespace}",
            f"link set {port} master {bridge} up",
            namespace=self._router,
        )
        netns.ip(
            "link set lo up",
            f"addr add {address}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {_router_in(address)}",
            namespace=namespace,
        )

    def part(self, namespace: str, port: str) -> None:
        """Remove a namespace and its port."""
        netns.ip(f"link del {port}", namespace=self._router)
        netns.ip(f"netns del {namespace}")

    def set_port(self, port: str, *, forwards: bool) -> None:
        """Whether the bridge forwards what comes in there or would go out."""
        element = f"element bridge switch cut {{ {port} }}"
        netns.nft(f"add {element}\n" + (f"delete {element}\n" if forwards else ""), namespace=self._router)

    def _bridge(self, dc: str, address: str) -> str:
        if dc not in self._bridges:
            bridge = self._bridges[dc] = f"br{len(self._bridges)}"
            netns.ip(
                f"link add {bridge} type bridge",
                f"link set {bridge} up",
                f"addr add {_router_in(address)}/24 dev {bridge}",
                namespace=self._router,
            )
        return self._bridges[dc]

    def _new_port(self) -> str:
        self._ports += 1
        return f"port{self._ports}"

    # --- the operator and the keeper --------------------------------------------------------

    @property
    def among_disks(self) -> list[str]:
        """What a command starts with that is to see the disks."""
        assert self._holder, "the bed isn't made"
        return ["nsenter", f"--mount=/proc/{self._holder}/ns/mnt"]

    def _make_operator(self) -> None:
        folder = self.ssh_config.parent
        (folder / "bin").mkdir(parents=True)
        self._authorized = image.make_key(folder / "id_ed25519")
        (folder / "known_hosts").touch()
        self.ssh_config.write_text(
            "User root\n"
            "BatchMode yes\n"
            "StrictHostKeyChecking yes\n"
            "GlobalKnownHostsFile /dev/null\n"
            f"UserKnownHostsFile {folder / 'known_hosts'}\n"
            f"IdentityFile {folder / 'id_ed25519'}\n"
            "IdentitiesOnly yes\n"
        )
        for program in ("ssh", "scp", "sftp"):
            if found := shutil.which(program):
                there = f"nsenter --net={netns.PLACE / self.prefix}operator"
                (folder / "bin" / program).write_text(f'#!/bin/sh\nexec {there} {found} -F {self.ssh_config} "$@"\n')
                (folder / "bin" / program).chmod(0o755)

    def _start_keeper(self) -> None:
        mine, its = socket.socketpair()
        mine.settimeout(KEEPER_S)
        self._control = mine
        command = [sys.executable, "-m", "tests.hosts.keeper", str(its.fileno()), self.prefix]
        with its:
            self._keeper = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                cwd=REPOSITORY,
                start_new_session=True,
            )

    def _wait_for_keeper(self) -> None:
        assert self._control is not None
        self._holder = int(self._control.recv(20) or 0)
        if not self._holder:
            raise BedError("the keeper has ended; its words are above, on stderr")


def _router_in(address: str) -> str:
    return f"{address.rpartition('.')[0]}.{ROUTER}"
