"""The firewall of a host: who may open a connection to what runs there (docs/operations/datacenters.md has the table). Pure.

What is open already, loopback, ICMP and ssh are never in the way. Who else is let in is known by address, as far as
the datacenter's file knows it: its own hosts; from other datacenters, whatever `deploy.firewall_others` names.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from hitmesh.config import ROLES, served_ports
from hitmesh.config.datacenter import NEXUS_PORTS
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet, Host
from hitmesh.deploy.paths import FIREWALL_CONF
from hitmesh.deploy.render import beanstalkd
from hitmesh.deploy.render.consul import LAN_PORT, SERVER_PORT, WAN_PORT
from hitmesh.errors import CommandError

SSH: Final = 22
# What Linux gives outgoing connections and sockets without a port of their own (ip_local_port_range).
ANY: Final = "32768-60999"
VRRP: Final = 112  # of IP's protocols: keepalived

# Made and removed first, so that the file is the whole table whenever it is read, in one step.
HEAD: Final = """\
# Written by `fab bootstrap` and `fab deploy`, and again by the next one.
table inet hitmesh
delete table inet hitmesh
table inet hitmesh {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iif lo accept
        meta l4proto { icmp, ipv6-icmp } accept
        tcp dport 22 accept
"""
FOOT: Final = """\
    }
}
"""
_PORTS = r"(\{ [0-9]+(-[0-9]+)?(, [0-9]+(-[0-9]+)?)* \}|[0-9]+(-[0-9]+)?)"
_RULE = re.compile(
    rf"        ((ip|ip6) saddr \{{ [0-9a-f.:/, ]+ \}} )?((tcp|udp) dport {_PORTS}|meta l4proto 112) accept|        # [ -~]*"
)


def files(fleet: Fleet, host: Host) -> list[File]:
    """The rules of a host; none where the datacenter's file doesn't want them."""
    text = rules(fleet, host) if fleet.config.deploy.firewall else ""
    return [File(path=FIREWALL_CONF, text=text, mode=0o600, then="nftables")]


def rules(fleet: Fleet, host: Host) -> str:
    """What nft reads. Raises CommandError for a datacenter whose hosts have names instead of addresses."""
    return HEAD + "".join(f"        {line}\n" for line in _lines(fleet, host)) + FOOT


def is_rule(line: str) -> bool:
    """Whether a line between HEAD and FOOT is one of ours."""
    return _RULE.fullmatch(line) is not None


def _lines(fleet: Fleet, host: Host) -> Iterator[str]:
    config = fleet.config
    everybody = [one.address for one in fleet.hosts]
    running = {
        role: [one.address for one in fleet.hosts if one.every(role)] for role in ("balancer", "collector", "processor")
    }
    others = config.deploy.firewall_others
    if host.ssh[1] != SSH:
        yield from _rule("sshd", None, [host.ssh[1]])
    for one in host.of("balancer"):
        public = [port for port in (one.port, one.tls_port) if port]
        yield from _rule(f"{one.name}: clients, wherever they are", None, public)
    if host.of("balancer") and config.virtual_ip.address:
        yield "# keepalived's adverts"
        yield from _from(running["balancer"], f"meta l4proto {VRRP}")
    for one in host.every("collector"):
        is_front = not running["balancer"]
        yield from _rule(f"{one.name}: balancers, and commands", None if is_front else everybody, served_ports(one))
    if host.every("collector"):
        yield from _rule("collectors: acks of processors", running["processor"], [ANY])
    if host.every("processor"):
        yield from _rule("processors: batches of collectors", running["collector"], [ANY])
    for one in host.every("processor"):
        yield from _rule(f"{one.name}: rows for other datacenters", others or None, served_ports(one) or [ANY])
    for one in host.of("nexus"):
        ports = served_ports(one)
        yield from _rule(f"{one.name}: heartbeats, changes, lookups", everybody, ports)
        assert len(ports) == NEXUS_PORTS, "a Nexus has three ports in a row"
        yield from _rule(
            f"{one.name}: heartbeats and lookups of other datacenters", others or None, [ports[0], ports[2]]
        )
    yield from _dashboards(host, everybody, others)
    for one in host.of("recorder"):
        yield from _rule(f"{one.name}: records, and who reads them", everybody, served_ports(one))
    yield from _admin(host, everybody)
    if host.has_beanstalkd:
        yield from _rule("beanstalkd: collectors, and commands", everybody, beanstalkd.ports(fleet, host))
    if fleet.has_consul:
        yield from _consul(host, everybody, others)


def _dashboards(host: Host, everybody: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    for one in host.of("dashboard"):
        http, news = served_ports(one)
        yield from _rule(f"{one.name}: balancers, and commands", everybody, [http])
        yield from _rule(f"{one.name}: news for dashboards of other datacenters", others or None, [news])


def _admin(host: Host, everybody: Sequence[str]) -> Iterator[str]:
    for one in (each for role in ROLES for each in host.every(role)):
        if one.admin_port:
            yield from _rule(f"{one.name}: admin pages, metrics", everybody, [one.admin_port])


def _consul(host: Host, everybody: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    ports = [SERVER_PORT, LAN_PORT] if host.is_consul_server else [LAN_PORT]
    yield from _rule("Consul: its servers and agents", everybody, ports)
    yield from _rule("", everybody, [LAN_PORT], "udp")
    if host.is_consul_server:
        yield from _rule("Consul: servers of other datacenters", [*everybody, *others], [SERVER_PORT, WAN_PORT])
        yield from _rule("", [*everybody, *others], [WAN_PORT], "udp")


def _rule(
    comment: str, sources: Iterable[str] | None, ports: Sequence[int | str], protocol: str = "tcp"
) -> Iterator[str]:
    """Who may connect to these ports; None is anybody."""
    if not ports:
        return
    if comment:
        yield f"# {comment}"
    to = f"{{ {', '.join(map(str, ports))} }}" if len(ports) > 1 else str(ports[0])
    if sources is None:
        yield f"{protocol} dport {to} accept"
    else:
        yield from _from(sources, f"{protocol} dport {to}")


def _from(sources: Iterable[str], what: str) -> Iterator[str]:
    networks = [_network(one) for one in sources]
    for version, word in ((4, "ip"), (6, "ip6")):
        # Of one and the same version; nft refuses a set whose members overlap.
        those = ipaddress.collapse_addresses(one for one in networks if one.version == version)  # type: ignore[type-var]
        if texts := [_text(one) for one in those]:
            yield f"{word} saddr {{ {', '.join(texts)} }} {what} accept"


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise CommandError(
            f"{text}: a firewall knows addresses, not names", hint="or deploy.firewall = false"
        ) from error


def _text(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    return str(network.network_address) if network.num_addresses == 1 else str(network)
