"""One datacenter of hitmesh on the bed: its servers and its roles, each on its host, and what they say.

    host 1: nexus-1 processor-1 collector-1 balancer-1 dashboard-1, Consul, beanstalkd
    host 2: nexus-2 processor-2 collector-2,                        Consul, beanstalkd
    host 3: nothing of hitmesh,                                     Consul; a test's clients

Files are below `folder`/NAME, where `hitmesh up` has them too, so that its commands can be run on a host
with `--state-dir folder`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from hitmesh.config import Config, Role, dump, host_port_text, parse
from hitmesh.errors import MeshError
from hitmesh.mesh.lookup import Lookups
from hitmesh.protocol.messages import Instance
from tests.services import require
from tests.services.keys import with_keys
from tests.system.mesh import Process
from tests.wan import servers
from tests.wan.bed import Bed
from tests.wan.host import Host

Stores = Literal["consul", "sqlite"]
ANSWER_S: Final = 60.0
STOPPED_S: Final = 60.0  # for it to drain
LOOKUP_S: Final = 2.0  # for one Nexus's answer, before another one is asked
PAGES: Final = 1000  # of one answer of /totals
ROLE_HOSTS: Final = 2  # hosts that run roles; every one runs Consul
NODES: Final[Mapping[str, Mapping[str, int]]] = {
    "host-1": {"nexus": 1, "processor": 1, "collector": 1, "balancer": 1, "dashboard": 1},
    "host-2": {"nexus": 1, "processor": 1, "collector": 1},
}
BALANCER: Final = 8000
COLLECTOR: Final = 8010
NEXUS: Final = 8020
ROWS: Final = 8030
DASHBOARD: Final = 8040

# What other datacenters reach on a host: of one role of each kind, and of Consul.
LET_IN: Final = (NEXUS, NEXUS + 2, ROWS, DASHBOARD + 1, servers.CONSUL_RPC, servers.CONSUL_SERF_WAN)


@dataclass(frozen=True)
class Peer:
    """What a datacenter's files say of another one."""

    name: str
    heartbeats: str  # HOST:PORT of its first Nexus, as others reach it
    consul: servers.ConsulServer  # of its first host


class Datacenter:
    """One datacenter; `start` doesn't wait."""

    def __init__(
        self,
        bed: Bed,
        name: str,
        folder: Path,
        *,
        others: Sequence[str],
        stores: Stores = "consul",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """`others` are the datacenters whose addresses it is given; `settings` go into its file."""
        self.name = name
        self.state_dir = folder
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.hosts = bed.hosts(name)
        self._stores = stores
        peers = [_peer(other, bed.host(other, 1)) for other in others]
        self.config = with_keys(self._configured(peers, settings or {}), folder / "keys")
        self.file = self.folder / "hitmesh.toml"
        self._processes: dict[str, tuple[Host, Process]] = {}
        self._commands: dict[str, tuple[Host, list[str]]] = {}
        self._add_roles()
        if stores == "consul":
            self._add_servers([peer.consul for peer in peers])

    def _configured(self, peers: Sequence[Peer], settings: Mapping[str, Any]) -> Config:
        addresses = [servers.consul_server(host).address for host in self.hosts]
        nodes = zip(NODES.items(), self.hosts[:-1] or self.hosts, strict=False)
        stores: dict[str, Any] = {}
        if self._stores == "consul":
            stores = {
                "totals": servers.consul_url(addresses, "hitmesh"),
                "settings": servers.consul_url(addresses, "hitmesh-settings"),
                "spools": [servers.beanstalkd_url(address) for address in addresses[:ROLE_HOSTS]],
            }
        return parse(
            {
                "name": self.name,
                "keys": str(self.state_dir / "keys"),
                "nodes": {name: {**_addresses(host), **roles} for (name, roles), host in nodes},
                # Consul's WAN catalogue has them; without it the first one's Nexus has heard of the rest.
                "peers": {} if self._stores == "consul" else {peer.name: [peer.heartbeats] for peer in peers[:1]},
                "ports": {
                    "balancer": BALANCER,
                    "balancer_admin": 0,
                    "collector": COLLECTOR,
                    "nexus": NEXUS,
                    "rows": ROWS,
                    "dashboard": DASHBOARD,
                },
                "dashboard": {"open": True},
                "stores": stores,
                **settings,
            },
            source="test",
        )

    def _add_roles(self) -> None:
        roles: tuple[Role, ...] = ("nexus", "processor", "collector", "balancer", "dashboard")
        for role in roles:
            module = [role] if role in ("nexus", "balancer") else ["hitmesh", role]
            for placement in self.config.instances(role):
                options = ["--config", str(self.file), "--name", placement.name, "--state-dir", str(self.state_dir)]
                host = next(host for host in self.hosts if host.address == placement.address)
                self._commands[placement.name] = (host, [sys.executable, "-m", *module, *options])

    def _add_servers(self, others: Sequence[servers.ConsulServer]) -> None:
        own = [servers.consul_server(host) for host in self.hosts]
        consul, beanstalkd = require("consul"), require("beanstalkd")
        for number, host in enumerate(self.hosts, start=1):
            file, data = self.folder / f"consul-{number}.json", self.folder / "stores" / f"consul-{number}"
            file.write_text(json.dumps(servers.consul_config(self.name, number, own, others, data)))
            self._commands[f"consul-{number}"] = (host, [consul, "agent", f"-config-file={file}"])
        for number, host in enumerate(self.hosts[:ROLE_HOSTS], start=1):
            binlog = self.folder / "stores" / f"beanstalkd-{number}"
            command = servers.beanstalkd_command(beanstalkd, own[number - 1].address, binlog)
            self._commands[f"beanstalkd-{number}"] = (host, command)

    # --- processes ------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """Everything that it consists of: the servers first, as they start."""
        return sorted(self._commands, key=lambda name: not name.startswith(("consul", "beanstalkd")))

    def start(self, *names: str) -> None:
        """Start these, or all of it; without waiting."""
        self.file.write_text(dump(self.config))
        for name in names or self.names:
            host, command = self._commands[name]
            if name.startswith("beanstalkd"):
                Path(command[command.index("-b") + 1]).mkdir(parents=True, exist_ok=True)
            process = Process(command, self.folder / f"{name}.log", {})
            with host.inside():
                process.start()
            self._processes[name] = (host, process)

    def kill(self, *names: str) -> None:
        """SIGKILL these, or all of it, with everything that they have started."""
        found = [self._processes.pop(name) for name in names or list(self._processes)]
        for _, process in found:
            process.signal(signal.SIGKILL)
        for _, process in found:
            process.kill()

    def terminate(self, name: str) -> None:
        """SIGTERM, so that it drains; then it is gone."""
        self.signal(name, signal.SIGTERM)
        try:
            self._processes[name][1].wait(STOPPED_S)
        finally:
            self.kill(name)

    def wipe(self) -> None:
        """Forget everything that its stores and spools held; nothing of it may run."""
        assert not self._processes
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix not in (".log", ".json"):
                path.unlink()

    def signal(self, name: str, number: int) -> None:
        """Send a signal to the first process of `name`."""
        os.kill(self.pid(name), number)

    def pid(self, name: str) -> int:
        """Of the first process of `name`, and of the group that it is the first of."""
        return self._processes[name][1].pid

    def prioritize(self, nice: int) -> None:
        """Give everything that runs of it this nice value: as if it had, below 0, most of the machine to itself."""
        for _, process in self._processes.values():
            prioritize(process.pid, nice)

    def ended(self) -> list[str]:
        """Those that were started and run no more."""
        return [name for name, (_, process) in self._processes.items() if not process.is_running]

    def log(self, name: str) -> str:
        """What it has written so far, over all of its lives."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    # --- what it says ---------------------------------------------------------------------

    @property
    def client(self) -> Host:
        """The host for clients."""
        return self.hosts[-1]

    @property
    def url(self) -> str:
        """Where its clients send their requests."""
        return f"http://{host_port_text(self.hosts[0].address, BALANCER)}"

    @property
    def dashboard(self) -> str:
        """The URL of its dashboard."""
        return f"http://{host_port_text(self.hosts[0].address, DASHBOARD)}"

    def collector(self, number: int) -> str:
        """The URL of one collector; of the last one if there are fewer."""
        host = self.hosts[min(number, len(self.config.nodes)) - 1]
        return f"http://{host_port_text(host.address, COLLECTOR)}"

    def get(self, path: str, *, url: str = "", method: str = "GET") -> tuple[int, Any]:
        """Status and JSON of a request from within. Raises OSError or HTTPException where nobody answers."""
        connection = http.client.HTTPConnection((url or self.url).removeprefix("http://"), timeout=ANSWER_S)
        with contextlib.closing(connection):
            with self.client.inside():
                connection.connect()
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, json.loads(body) if body else None

    def totals(self, prefix: str = "", *, collector: int = 1) -> dict[str, dict[str, Any]]:
        """Every page's entry as a collector answers it."""
        found: dict[str, dict[str, Any]] = {}
        after = ""
        while True:
            query = f"?limit={PAGES}&prefix={prefix}&after={_quoted(after)}"
            status, answer = self.get(f"/totals{query}", url=self.collector(collector))
            assert status == http.client.OK, (self.name, status, answer)
            found |= {entry["page"]: entry for entry in answer["totals"]}
            if answer["after"] is None:
                return found
            after = answer["after"]

    def living(self) -> dict[tuple[str, str], Instance]:
        """Who is alive as a Nexus of it says, by datacenter and name; nobody when none answers."""
        with self.client.inside(), Lookups.of(self.config, timeout_s=LOOKUP_S) as lookups:
            try:
                seen = lookups.snapshot().seen
            except MeshError:
                return {}
        return {(one.instance.dc, one.instance.name): one.instance for one in seen if one.alive}

    def loads(self, figure: str) -> dict[str, float]:
        """A load figure of each of its own instances that has it."""
        living = self.living().items()
        return {name: one.load[figure] for (dc, name), one in living if dc == self.name and figure in one.load}

    def lacking(self, others: Sequence[str] = ()) -> list[str]:
        """What isn't ready: instances, partitions, other datacenters that it doesn't know, collectors' health."""
        living = self.living()
        own = {name: one for (dc, name), one in living.items() if dc == self.name}
        lacking = [f"{name} (ended)" for name in self.ended()]
        lacking += [
            name for name in self._commands if not name.startswith(("consul", "beanstalkd")) and name not in own
        ]
        owned = {number for one in own.values() for number in one.owns}
        if missing := self.config.partitions - len(owned):
            lacking.append(f"{missing} partitions")
        for other in others:
            theirs = {name for dc, name in living if dc == other}
            lacking += [f"{other}'s {role}s" for role in ("nexus", "processor") if not _count(theirs, role)]
        return lacking or [f"{url} unwell" for url in (*self._collectors(), self.url) if not self._is_well(url)]

    def _collectors(self) -> list[str]:
        return [self.collector(number) for number in range(1, len(self.config.nodes) + 1)]

    def _is_well(self, url: str) -> bool:
        try:
            return self.get("/health", url=url)[0] == http.client.OK
        except (OSError, http.client.HTTPException):
            return False


def _peer(name: str, host: Host) -> Peer:
    heartbeats = host_port_text(host.wan_address or host.address, NEXUS + host.wan_shift)
    return Peer(name, heartbeats, servers.consul_server(host))


def _addresses(host: Host) -> dict[str, Any]:
    """What a file says of a node."""
    shift = host.wan_shift
    ports = (
        {"wan_ports": {"nexus": NEXUS + shift, "rows": ROWS + shift, "dashboard": DASHBOARD + shift}} if shift else {}
    )
    return {"address": host.address, "wan_address": host.wan_address, **ports}


def prioritize(session: int, nice: int) -> None:
    """Give all processes of a session, by its first one's pid, this nice value. Raises OSError."""
    os.setpriority(os.PRIO_PGRP, session, nice)
    autogroup = Path(f"/proc/{session}/autogroup")  # where there is one, nice values count within it only
    if autogroup.exists():
        autogroup.write_text(str(nice), encoding="ascii")


def _count(names: set[str], role: str) -> int:
    return sum(name.startswith(role) for name in names)


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")
