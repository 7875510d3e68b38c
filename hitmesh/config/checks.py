"""Settings that contradict each other, each right by itself. Pure.

Whether a file that is named exists, or a store answers, is for those who use it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence

from hitmesh.config.addresses import (
    check_host,
    host_port,
    interface,
    is_loopback,
    is_of_family,
    moment,
    network,
    ssh_place,
    usual,
)
from hitmesh.config.alerts import alert_problems
from hitmesh.config.datacenter import Config, ports_of, served_ports
from hitmesh.config.outside import REACHED
from hitmesh.config.pages import page_problems
from hitmesh.config.recorder import recorder_problems
from hitmesh.config.routes import route_problems
from hitmesh.config.scaler import SCALED, scaler_problems
from hitmesh.config.sections import NEEDED_ROLES, ROLES
from hitmesh.mistakes import nearest

COLLECTOR_KEEP_ALIVE_S = 75.0  # it closes an idle connection then: a request would meet its end


def contradictions(config: Config) -> Iterator[str]:
    """What is wrong with a configuration as a whole, most telling first."""
    yield from _timing(config)
    yield from _stores(config)
    yield from _peers(config)
    for role in NEEDED_ROLES:
        if not config.instances(role):
            yield f"no node runs a {role}; set nodes.<node>.{role}"
    yield from _nodes(config)
    yield from _until(config)
    yield from scaler_problems(
        config.scaler,
        {"balancer": config.balancer.workers, **{role: len(config.instances(role)) for role in SCALED}},
        config.partitions,
        runs=bool(config.instances("scaler")),
    )
    if not config.insecure and not config.keys:
        for key, address in _addresses(config):
            if not is_loopback(address):
                yield (
                    f"{key} ({address}) is beyond loopback, where sockets need keys: `hitmesh keygen DIR` "
                    "makes them, and keys = DIR names them; or say insecure = true on a network that you trust"
                )
    yield from _clashes(config)
    yield from _clashes_outside(config)
    yield from _balancer(config)
    yield from _dashboards(config)
    yield from _metrics(config)
    yield from page_problems(config.pages, config.counting)
    yield from alert_problems(config.alerts)
    yield from recorder_problems(config.recorder)
    yield from _deployed(config)
    yield from _others(config)
    yield from route_problems(config.routes)


def beyond_places(key: str, value: object, config: Config) -> str:
    """Why a live `scaler.<role>.max` of this `value` can't be reached, where `config` is without it; empty if it can.

    Programs are made of the file: a live setting makes none.
    """
    for role in SCALED:
        if key == f"scaler.{role}.max" and isinstance(value, int):
            own, spares = len(config.instances(role)), len(config.spares(role))
            if value > max(own + spares, config.scaler.of(role).max):
                return (
                    f"{key} ({value}) is more than there are programs for in {config.name}: {own} that its nodes say and "
                    f"{spares} spare{'' if spares == 1 else 's'}; raise it in the datacenter's file, and have that in force"
                )
    return ""


def _until(config: Config) -> Iterator[str]:
    try:
        moment(config.insecure_until)
    except ValueError as error:
        yield f"insecure_until ({config.insecure_until}) {error}"
        return
    if config.insecure_until and not config.keys:
        yield "insecure_until means nothing without keys"
    if config.insecure_until and config.insecure:
        yield "insecure_until is when insecure = true ends; leave one of them out"


def _nodes(config: Config) -> Iterator[str]:
    for key, address in _addresses(config):
        try:
            check_host(address)
        except ValueError as error:
            yield f"{key} ({address}) {error}"
    for name, node in config.nodes.items():
        if usual(node.wan_address) in ("0.0.0.0", "::"):
            yield f"nodes.{name}.wan_address ({node.wan_address}) stands for every address of a host, and leads to none"
        ports = node.wan_ports
        if (ports.nexus or ports.rows or ports.dashboard) and not node.wan_address:
            yield f"nodes.{name}.wan_ports are of nobody: nodes.{name}.wan_address is missing"
        if node.wan_ports.rows and not config.ports.rows:
            yield f"nodes.{name}.wan_ports.rows ({node.wan_ports.rows}) leads nowhere: ports.rows is 0, any port"


def _addresses(config: Config) -> Iterator[tuple[str, str]]:
    for name, node in config.nodes.items():
        yield f"nodes.{name}.address", node.address
        if node.wan_address:
            yield f"nodes.{name}.wan_address", node.wan_address


def _timing(config: Config) -> Iterator[str]:
    timing = config.timing
    if timing.commit_s >= timing.retry_delay_s:
        yield (
            f"timing.commit_s ({timing.commit_s}) must be below timing.retry_delay_s ({timing.retry_delay_s}), "
            "or every batch is claimed before it can be committed"
        )
    if timing.resend_s >= timing.retry_delay_s:
        yield f"timing.resend_s ({timing.resend_s}) must be below timing.retry_delay_s ({timing.retry_delay_s})"


def _peers(config: Config) -> Iterator[str]:
    for name, addresses in config.peers.items():
        if name == config.name:
            yield f"peers.{name} is this datacenter itself; peers are the others"
        for text in addresses:
            try:
                host_port(text)
            except ValueError as error:
                yield f"peers.{name}: {text!r} {error}"


def _stores(config: Config) -> Iterator[str]:
    stores = config.stores
    if stores.spool_copies > len(stores.spools):
        yield f"stores.spool_copies ({stores.spool_copies}) is more than the spools ({len(stores.spools)})"
    if len(set(stores.spools)) < len(stores.spools):
        yield "stores.spools names the same spool twice"
    yield from _urls("stores.totals", [stores.totals], ("sqlite", "consul", "consul+https"), "hitmesh.stores")
    yield from _urls("stores.settings", [stores.settings], ("sqlite", "consul", "consul+https"), "hitmesh.settings")
    yield from _urls("stores.spools", stores.spools, ("sqlite", "beanstalk"), "hitmesh.spools")
    settings = _place(stores.settings)
    if settings in map(_place, (stores.totals, *stores.spools)):
        yield f"stores.settings ({settings}) holds something else already; it needs a place of its own"


def _place(url: str) -> str:
    """A URL without what comes after its question mark, which says how to get in."""
    return url.partition("?")[0]


def _urls(key: str, urls: Sequence[str], own: tuple[str, ...], group: str) -> Iterator[str]:
    foreign = {url: url.partition("://")[0] for url in urls if not url.startswith(tuple(f"{name}://" for name in own))}
    if not foreign:
        return
    # Slow to import, and seldom needed: only a store of somebody else's is registered there.
    from importlib.metadata import entry_points

    known = [*own, *(point.name for point in entry_points(group=group))]
    for url, scheme in foreign.items():
        if "://" not in url or scheme not in known:
            yield f"{key}: {_place(url)!r} is not a URL of a known kind; {nearest(scheme, known)}"


def _clashes(config: Config) -> Iterator[str]:
    taken: dict[tuple[str, int], str] = {}
    for role in ROLES:
        for placement in (*config.instances(role), *config.spares(role)):
            for port in ports_of(placement):
                address = usual(placement.address)
                other = taken.setdefault((address, port), placement.name)
                if other != placement.name:
                    yield f"{placement.name} and {other} both want port {port} of {address}; see ports"
                    return
                if port > 65_535:
                    yield f"{placement.name} would get port {port}; lower ports.{'rows' if role == 'processor' else role}"
                    return
            if len(set(ports_of(placement))) < len(ports_of(placement)):
                which = "balancer_tls and balancer_admin" if role == "balancer" else f"and {role}_admin"
                yield f"{placement.name} wants one port twice; see ports.{role}, {which}"
                return


def _clashes_outside(config: Config) -> Iterator[str]:
    """Of the ports as other datacenters see them: several nodes may be behind one router."""
    taken: dict[tuple[str, int], str] = {}
    for placement in (one for role in REACHED for one in (*config.instances(role), *config.spares(role))):
        host = usual(placement.wan_address or placement.address)
        key = f"nodes.{placement.node}.wan_ports"
        for port in (port + placement.wan_shift for port in served_ports(placement)):
            other = taken.setdefault((host, port), placement.name)
            if other != placement.name:
                yield f"{placement.name} and {other} both are port {port} of {host} to other datacenters; see {key}"
                return
            if port > 65_535:
                yield f"{placement.name} would be port {port} of {host} to other datacenters; see {key}"
                return


def _balancer(config: Config) -> Iterator[str]:
    balancer, limits = config.balancer, config.balancer.limits
    for key in ("trusted", "proxy_protocol"):
        for text in getattr(balancer, key):
            try:
                network(text)
            except ValueError as error:
                yield f"balancer.{key}: {text!r} {error}"
    for key in ("line_bytes", "header_bytes"):
        value = getattr(limits, key)
        if value > limits.head_bytes:
            yield f"balancer.limits.{key} ({value}) is more than balancer.limits.head_bytes ({limits.head_bytes})"
    if limits.backend_idle_s >= COLLECTOR_KEEP_ALIVE_S:
        yield (
            f"balancer.limits.backend_idle_s ({limits.backend_idle_s}) must be below {COLLECTOR_KEEP_ALIVE_S}, after "
            "which a collector closes an idle connection, and a request that is just being sent is lost"
        )
    if limits.client_burst and not limits.client_rps:
        yield "balancer.limits.client_burst means nothing without balancer.limits.client_rps"
    yield from _listeners(config)


def _listeners(config: Config) -> Iterator[str]:
    tls, ports = config.balancer.tls, config.ports
    if ports.balancer_admin and not config.balancer.admin_token:
        for name, node in config.nodes.items():
            if node.balancer and not is_loopback(node.address):
                yield (
                    f"balancer.admin_token is missing: nodes.{name}.address ({node.address}) is beyond loopback, "
                    "where anybody could change routes; or ports.balancer_admin = 0 for no admin listener"
                )
    if ports.balancer_tls and not tls.certificates:
        yield f"balancer.tls.certificates is empty, and ports.balancer_tls ({ports.balancer_tls}) needs one"
    if tls.admin and not tls.certificates:
        yield "balancer.tls.certificates is empty, and balancer.tls.admin needs one"
    if tls.admin and not ports.balancer_admin:
        yield "balancer.tls.admin has no listener: ports.balancer_admin is 0"
    if tls.certificates and not (ports.balancer_tls or tls.admin):
        yield "ports.balancer_tls is 0: nobody would be shown balancer.tls.certificates"
    if tls.redirect and not ports.balancer_tls:
        yield "balancer.tls.redirect has nowhere to go: ports.balancer_tls is 0"


def _dashboards(config: Config) -> Iterator[str]:
    if config.dashboard.token and config.dashboard.open:
        yield "dashboard.open means nothing with dashboard.token; leave one of them out"
    if config.dashboard.token or config.dashboard.open:
        return
    for name, node in config.nodes.items():
        if node.dashboard and not is_loopback(node.address):
            yield (
                f"dashboard.token is missing: nodes.{name}.address ({node.address}) is beyond loopback, where anybody "
                "could look; or dashboard.open = true on a network that you trust"
            )


def _metrics(config: Config) -> Iterator[str]:
    if config.metrics.token and config.metrics.open:
        yield "metrics.open means nothing with metrics.token; leave one of them out"
    if config.metrics.token or config.metrics.open:
        return
    for role in ("collector", "processor", "nexus", "recorder", "scaler"):
        for one in config.instances(role):
            if one.admin_port and not is_loopback(one.address):
                yield (
                    f"metrics.token is missing: nodes.{one.node}.address ({one.address}) is beyond loopback, where anybody "
                    f"could read what ports.{role}_admin ({getattr(config.ports, f'{role}_admin')}) tells; "
                    "or metrics.open = true on a network that you trust"
                )
                return


def _others(config: Config) -> Iterator[str]:
    for text in config.deploy.firewall_others:
        try:
            network(text)
        except ValueError as error:
            yield f"deploy.firewall_others: {text!r} {error}"
    for text in config.deploy.consul.join_wan:
        try:
            ssh_place(text)
        except ValueError as error:
            yield f"deploy.consul.join_wan: {text!r} {error}"


def _virtual_ip(config: Config) -> Iterator[str]:
    whole = interface(config.virtual_ip.address)
    address = whole.ip
    if not config.behind_virtual_ip():
        yield f"virtual_ip.address ({address}) is nobody's: no node runs a balancer"
    for name, node in config.nodes.items():
        if usual(node.address) == str(address):
            yield f"virtual_ip.address ({address}) is nodes.{name}.address; it must be one of its own"
        if node.balancer and not is_of_family(node.address, address.version):
            yield (
                f"nodes.{name}.address ({node.address}) must be an IPv{address.version} address, as virtual_ip.address "
                "is: keepalived knows no names, and the balancers' hosts tell each other of it"
            )
        elif node.balancer and not _is_alone(whole) and ipaddress.ip_address(usual(node.address)) not in whole.network:
            yield (
                f"virtual_ip.address ({whole}) is of the network {whole.network}, and nodes.{name}.address "
                f"({node.address}) is not in it; /{whole.max_prefixlen} is an address that is routed to whoever has it"
            )


def _is_alone(address: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> bool:
    """Whether its network is this address alone (/32, /128): it is routed to whoever has it."""
    return address.network.num_addresses == 1


def _deployed(config: Config) -> Iterator[str]:
    if config.virtual_ip.address:
        try:
            interface(config.virtual_ip.address)
        except ValueError as error:
            yield f"virtual_ip.address: {config.virtual_ip.address!r} {error}"
        else:
            yield from _virtual_ip(config)
        if not config.virtual_ip.interface:
            yield "virtual_ip.interface is empty: on which is the address to be?"
    if config.deploy.backup.to and not re.fullmatch(r"[a-z_][a-z0-9_-]*@[^@:/\s]+:/\S*", config.deploy.backup.to):
        yield f"deploy.backup.to: {config.deploy.backup.to!r} is not USER@HOST:/FOLDER"
    spools = [url.partition("://")[2].partition("/")[0] for url in config.stores.spools]
    for name, node in config.nodes.items():
        if node.ssh:
            try:
                ssh_place(node.ssh)
            except ValueError as error:
                yield f"nodes.{name}.ssh: {node.ssh!r} {error}"
        if node.beanstalkd and usual(node.address) not in [
            usual(spool.rpartition(":")[0].strip("[]")) for spool in spools
        ]:
            yield f"nodes.{name}.beanstalkd is nobody's spool: stores.spools names none at {node.address}"
