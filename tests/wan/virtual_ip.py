"""A datacenter behind a virtual IP on the bed: two hosts with a balancer and keepalived, one with all the rest, one for clients.

keepalived and its check are run with what is rendered for the hosts, but for places and users: the bed's hosts share
the machine's files. What can go wrong with such a host is here too, and undone again.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from balancer.vip import judging
from hitmesh.config import Config, dump, parse
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.paths import STATE, SYSTEM, user_of
from hitmesh.deploy.render import keepalived
from hitmesh.errors import MeshError
from hitmesh.mesh.lookup import Lookups
from tests.services import WITHOUT_RIGHTS, require, wait_for
from tests.services.keys import with_keys
from tests.system.mesh import Process
from tests.wan import netns
from tests.wan.bed import Bed
from tests.wan.host import Host

DC: Final = "us-west"
BALANCERS: Final = 2
PORT: Final = 8000
READY_S: Final = 120.0
INTERFACE: Final = "eth0"
NODES: Final[Mapping[str, Mapping[str, int]]] = {
    "app-1": {"balancer": 1},
    "app-2": {"balancer": 1},
    "core": {"nexus": 2, "processor": 1, "collector": 2},
}


class VirtualIp:
    """All of it, running. A context manager; hosts are counted from 1."""

    def __init__(self, folder: Path, *, settings: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self._bed = Bed({DC: len(NODES) + 1}, delay_ms=0, loss=0)
        self.hosts = self._bed.hosts(DC)
        self.client = self.hosts[-1]
        network = self.client.address.rpartition(".")[0]
        self.address = f"{network}.100"
        nodes = {
            name: {**roles, "address": host.address}
            for (name, roles), host in zip(NODES.items(), self.hosts, strict=False)
        }
        config = parse(
            {
                "name": DC,
                "nodes": nodes,
                "keys": str(folder / "keys"),
                "ports": {"balancer": PORT, "balancer_admin": 0},
                "virtual_ip": {"address": f"{self.address}/24", "interface": INTERFACE},
                **(settings or {}),
            },
            source="test",
        )
        self.config: Config = with_keys(config, folder / "keys")
        self.file = folder / "hitmesh.toml"
        self._processes: dict[str, tuple[Host, Process]] = {}

    def __enter__(self) -> VirtualIp:
        self._bed.__enter__()
        try:
            self.file.write_text(dump(self.config))
            self._add_roles()
            for number in range(1, BALANCERS + 1):
                self._add_keepalived(number)
            for _, process in self._processes.values():
                self._start(process)
            wait_for(self._is_ready, within_s=READY_S, what="the datacenter to be ready")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for _, process in self._processes.values():
            process.signal(signal.SIGKILL)
        for _, process in self._processes.values():
            process.kill()
        self._bed.remove()

    # --- what it is like ----------------------------------------------------------------------

    def has_address(self, number: int) -> bool:
        """Whether a host has the address."""
        said = self.hosts[number - 1].run(["ip", "-o", "address", "show", "dev", INTERFACE]).stdout
        return f" {self.address}/" in said

    def holders(self) -> list[int]:
        """The hosts that have it."""
        return [number for number in range(1, BALANCERS + 1) if self.has_address(number)]

    def comes_to(self, *numbers: int) -> None:
        """Wait until these hosts have it, and no other."""
        try:
            wait_for(lambda: self.holders() == list(numbers), within_s=READY_S, what=f"the address on {numbers} alone")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from error

    def told(self, number: int) -> int | None:
        """What keepalived was told last."""
        try:
            return int(self._track(number).read_text())
        except FileNotFoundError:
            return None

    def is_settled(self) -> bool:
        """Whether one host has the address, and all are well."""
        told = {number: self.told(number) for number in range(1, BALANCERS + 1)}
        return [
            {number: judging.GOOD + judging.HOLDS * (number == one) for number in told} for one in self.holders()
        ] == [told]

    def total(self, page: str) -> int:
        """A page's total, as the balancer answers it that has the address, when all of it has been committed."""
        connection = http.client.HTTPConnection(self.address, PORT, timeout=READY_S)
        with contextlib.closing(connection):
            with self.client.inside():
                connection.connect()
            connection.request("GET", f"/total/{page}")
            return int(json.loads(connection.getresponse().read())["total"])

    def logs(self) -> str:
        """The ends of what balancers, checks and keepaliveds wrote."""
        names = [name for name in self._processes if name.startswith(("balancer", "vip", "keepalived"))]
        return "\n".join(f"--- {name}\n{self.log(name)[-3000:]}" for name in names)

    def log(self, name: str) -> str:
        """What a process wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    # --- what can be done to it ---------------------------------------------------------------

    def signal(self, name: str, number: int, *, group: bool = True) -> None:
        """To all processes of an instance, or the first one alone."""
        process = self._processes[name][1]
        process.signal(number) if group else os.kill(process.pid, number)

    def start(self, name: str) -> None:
        """Start it again."""
        self._start(self._processes[name][1])

    def stop(self, name: str) -> int:
        """End it as supervisord does; its status."""
        process = self._processes[name][1]
        os.kill(process.pid, signal.SIGTERM)
        return process.wait(READY_S)

    def cut(self, number: int) -> None:
        """Let nothing through to a host, or from it, in silence: its own link stays up."""
        netns.ip(f"link set host{number} nomaster", namespace=self._router)

    def heal(self, number: int) -> None:
        """The opposite."""
        netns.ip(f"link set host{number} master br0", namespace=self._router)

    @contextlib.contextmanager
    def without_collectors(self, number: int) -> Iterator[None]:
        """Meanwhile a host reaches nothing of the datacenter's but the other balancers."""
        core = self.hosts[BALANCERS].address
        rules = (
            f"chain in {{ type filter hook input priority 0; ip saddr {core} drop; }}\n"
            f"chain out {{ type filter hook output priority 0; ip daddr {core} drop; }}\n"
        )
        namespace = self.hosts[number - 1].namespace
        netns.nft(f"table inet gone {{\n{rules}}}\n", namespace=namespace)
        try:
            yield
        finally:
            netns.nft("delete table inet gone\n", namespace=namespace)

    # --- its own ----------------------------------------------------------------------------

    @property
    def _router(self) -> str:
        return next(name for name in self._bed.namespaces if name.endswith("-router"))

    def _add(self, name: str, host: Host, command: list[str]) -> None:
        self._processes[name] = (host, Process(command, self.folder / f"{name}.log", {}))

    def _start(self, process: Process) -> None:
        host = next(host for host, each in self._processes.values() if each is process)
        with host.inside():
            process.start()

    def _add_roles(self) -> None:
        for role in ("nexus", "processor", "collector", "balancer"):
            module = ["hitmesh", role] if role in ("processor", "collector") else [role]
            for one in self.config.instances(role):
                # Each balancer has a state folder, as on a host of its own; the stores are shared.
                state = self.folder / one.name if role == "balancer" else self.folder / "state"
                options = ["--config", str(self.file), "--name", one.name, "--state-dir", str(state)]
                host = next(host for host in self.hosts if host.address == one.address)
                self._add(one.name, host, [*WITHOUT_RIGHTS, sys.executable, "-m", *module, *options])

    def _add_keepalived(self, number: int) -> None:
        fleet = Fleet.of(self.config)
        files = {
            Path(file.path).name: self._placed(file.text) for file in keepalived.files(fleet, fleet.hosts[number - 1])
        }
        conf = self.folder / f"keepalived-{number}.conf"
        conf.write_text(files["keepalived.conf"])
        host = self.hosts[number - 1]
        check = next(line for line in files[f"{DC}-{keepalived.CHECK}.conf"].splitlines() if line.startswith("command"))
        words = shlex.split(check.partition("=")[2])
        assert words[0] == f"{SYSTEM}/bin/python"
        self._track(number).parent.mkdir()  # which a bootstrap makes
        self._add(f"vip-{number}", host, [*WITHOUT_RIGHTS, sys.executable, *words[1:]])
        pids = [f"--{kind}={self.folder}/keepalived-{number}.{kind}" for kind in ("pid", "vrrp_pid")]
        options = ["--vrrp", "--dont-fork", "--log-console", *pids]
        self._add(f"keepalived-{number}", host, [require("keepalived"), "--use-file", str(conf), *options])

    def _placed(self, text: str) -> str:
        return text.replace(STATE, str(self.folder)).replace(f"user {user_of('balancer')}", "user root")

    def _track(self, number: int) -> Path:
        return self.folder / f"balancer-{number}" / "vip.track"

    def _is_ready(self) -> bool:
        ended = [name for name, (_, process) in self._processes.items() if not process.is_running]
        assert not ended, f"{ended} ended: {self.log(ended[0])[-2000:]}"
        with self.client.inside(), Lookups.of(self.config, timeout_s=2.0) as lookups:
            try:
                seen = lookups.snapshot().seen
            except MeshError:
                return False
        owned = sum(len(each.instance.owns) for each in seen if each.alive)
        return owned == self.config.partitions and self.is_settled()
