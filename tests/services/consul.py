"""Real Consul servers: one, or a cluster of three that elects its leader within a few seconds."""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hitmesh.store.consul_agent import HOST, AgentPorts, agent_command, agent_config
from tests.services import WORKER, WORKERS, Server, require, wait_for
from tests.services.nexus import MESHES

LOWEST_PORT = MESHES.stop  # a whole mesh may start its servers a while after its ports were found free
ELECTION_S = 60.0  # a cluster is up in 2 to 4 s; a busy machine gets more
MASTER_TOKEN = "00000000-0000-4000-8000-000000000001"  # of a server with ACLs: may do all
ANSWER_S = 10.0  # of an agent on a busy machine; one that is down refuses at once


def free_agent_ports(*, beside: Sequence[AgentPorts] = ()) -> AgentPorts:
    """Four ports that are free for TCP and UDP; held together, so that they differ, and none of those `beside`.

    Below the range from which the kernel takes the ports of outgoing connections: a server that is
    down for a while, or that Consul starts late, would find its port taken by one of those.
    """
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    held: list[socket.socket] = []
    found: list[int] = []
    taken = {port for ports in beside for port in (ports.http, ports.server, ports.serf_lan, ports.serf_wan)}
    try:
        while len(found) < 4:
            port = random.SystemRandom().randrange(LOWEST_PORT + WORKER, first_outgoing, WORKERS)
            if port in taken:
                continue
            tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
            held += [tcp, udp]
            try:
                tcp.bind((HOST, port))
                udp.bind((HOST, port))
            except OSError:
                continue
            found.append(port)
    finally:
        for each in held:
            each.close()
    return AgentPorts(*found)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: who signed, what a server shows, and what clients must show, if anything: theirs, with its key."""

    ca: Path
    certificate: Path
    key: Path
    client: Path | None = None

    def context(self) -> ssl.SSLContext:
        """For a client that may connect."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.client:
            context.load_cert_chain(self.client)
        return context


class ConsulServer(Server):
    """One server of a datacenter."""

    def __init__(
        self,
        folder: Path,
        *,
        datacenter: str = "dc-test",
        number: int = 0,
        ports: AgentPorts | None = None,
        servers: int = 1,
        join_lan: Sequence[int] = (),
        join_wan: Sequence[int] = (),
        acl: bool = False,
        is_bootstrapped: bool = True,
        gossip_key: str = "",
        tls: TlsFiles | None = None,
        dns: int = -1,
    ) -> None:
        super().__init__(folder)
        self.name = f"consul-{number}"
        self.ports = ports or free_agent_ports()
        config = agent_config(
            datacenter,
            self.ports,
            folder / "data",
            node=f"{datacenter}-consul-{number}",
            servers=servers,
            join_lan=join_lan,
            join_wan=join_wan,
        )
        config["ports"] = {**config["ports"], "dns": dns}
        if acl:
            tokens = {"master": MASTER_TOKEN, "agent": MASTER_TOKEN}
            config["acl"] = {"enabled": True, "default_policy": "deny"} | (
                {"tokens": tokens} if is_bootstrapped else {}
            )
        if gossip_key:
            config["encrypt"] = gossip_key
        self._tls = tls
        if tls:
            # HTTPS alone, on the same port.
            config["ports"] = {**config["ports"], "http": -1, "https": self.ports.http}
            config |= {"cert_file": str(tls.certificate), "key_file": str(tls.key)}
            if tls.client:
                config |= {"verify_incoming_https": True, "ca_file": str(tls.client)}
        self._config = folder / "consul.json"
        self._config.write_text(json.dumps(config))

    def command(self) -> list[str]:
        return agent_command(self._config, program=require("consul"))

    def is_up(self) -> bool:
        return self._status("/v1/status/peers") is not None

    def has_leader(self) -> bool:
        """Whether a consistent read succeeds: there is a leader, and it has its quorum."""
        return self._status("/v1/kv/absent?consistent") == 404

    def is_leader(self) -> bool:
        """Whether it says that it leads."""
        connection = http.client.HTTPConnection(HOST, self.ports.http, timeout=ANSWER_S)
        try:
            connection.request("GET", "/v1/agent/self")
            answer = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()
        return bool(answer.get("Stats", {}).get("consul", {}).get("leader") == "true")

    def connection(self) -> http.client.HTTPConnection:
        """One for a request, with what it wants of clients but a token."""
        if self._tls is None:
            return http.client.HTTPConnection(HOST, self.ports.http, timeout=ANSWER_S)
        return http.client.HTTPSConnection(HOST, self.ports.http, timeout=ANSWER_S, context=self._tls.context())

    def url(self, prefix: str) -> str:
        """The store's URL of `prefix` on this server."""
        return f"consul://{HOST}:{self.ports.http}/{prefix}"

    def _status(self, path: str) -> int | None:
        connection = self.connection()
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


class ConsulCluster:
    """The servers of one datacenter, numbered from 0."""

    def __init__(self, folder: Path, servers: int = 3, datacenter: str = "dc-test") -> None:
        ports: list[AgentPorts] = []
        while len(ports) < servers:
            ports.append(free_agent_ports(beside=ports))
        self.servers = [
            ConsulServer(
                folder / f"server-{number}",
                datacenter=datacenter,
                number=number,
                ports=ports[number],
                servers=servers,
                join_lan=[other.serf_lan for other in ports if other is not ports[number]],
            )
            for number in range(servers)
        ]

    def start_all(self) -> None:
        """Start every server and wait until all of them see a leader with its quorum."""
        try:
            for server in self.servers:
                server.start()
            wait_for(lambda: all(s.has_leader() for s in self.servers), within_s=ELECTION_S, what="Consul's leader")
        except BaseException:
            self.stop()
            raise

    def leader(self) -> int:
        """The number of the server that leads; waits for an election to end."""

        def find() -> list[int]:
            return [i for i, s in enumerate(self.servers) if s.process and s.is_leader() and s.has_leader()]

        return wait_for(find, within_s=ELECTION_S, what="Consul's leader")[0]

    def kill(self, number: int) -> None:
        """SIGKILL one server."""
        self.servers[number].kill()

    def start(self, number: int) -> None:
        """Start one server again, with its data."""
        self.servers[number].start()

    def stop(self) -> None:
        """Stop all of them."""
        for server in self.servers:
            server.stop()

    def http(self, number: int) -> int:
        """The HTTP port of one server, on loopback."""
        return self.servers[number].ports.http

    def url(self, prefix: str) -> str:
        """The store's URL of `prefix`, with every server in it."""
        hosts = ",".join(f"{HOST}:{server.ports.http}" for server in self.servers)
        return f"consul://{hosts}/{prefix}"
