"""One datacenter's configuration: a TOML file, typed and checked. Owns every setting's type,
default, unit and help; knows nothing of what the roles do with it.

Each setting is declared once: the balancer's in `balancer` and `routes`, the alerts' in `alerts`, what is a page and a visit in `pages`, the recorders' in
`recorder`, the scaler's in `scaler`, all others in `sections`.
`load` reads a file; every mistake is a ConfigError that names the file, the key, and the nearest
right one. What all roles use is named here.
"""

from __future__ import annotations

from hitmesh.config.addresses import (
    DEFAULT_HOST,
    Network,
    host_pattern,
    host_port,
    host_port_text,
    is_loopback,
    moment,
    network,
)
from hitmesh.config.alerts import Alerts
from hitmesh.config.balancer import Balancer, BalancerLimits, BalancerTls
from hitmesh.config.datacenter import Config, NexusEndpoints, Placement, nexus_endpoints, ports_of, served_ports
from hitmesh.config.deploy import Backup, ConsulCluster, Deploy, Hooks, VirtualIp
from hitmesh.config.files import check_partitions, dump, load, loads, parse, why_not_run
from hitmesh.config.pages import Counting, Pages
from hitmesh.config.recorder import RecorderTable
from hitmesh.config.routes import (
    Alias,
    Empty,
    Hold,
    HostPattern,
    Proxy,
    Redirect,
    Route,
    Static,
    normal_routes,
    parse_route,
    parse_stored,
    route_problems,
)
from hitmesh.config.scaler import Scaler
from hitmesh.config.sections import (
    ROLES,
    Dashboard,
    Limits,
    Log,
    Metrics,
    Node,
    Ports,
    Role,
    Stores,
    Timing,
    WanPorts,
)

__all__ = [
    "DEFAULT_HOST",
    "ROLES",
    "Alerts",
    "Alias",
    "Backup",
    "Balancer",
    "BalancerLimits",
    "BalancerTls",
    "Config",
    "ConsulCluster",
    "Counting",
    "Dashboard",
    "Deploy",
    "Empty",
    "Hold",
    "Hooks",
    "HostPattern",
    "Limits",
    "Log",
    "Metrics",
    "Network",
    "NexusEndpoints",
    "Node",
    "Pages",
    "Placement",
    "Ports",
    "Proxy",
    "RecorderTable",
    "Redirect",
    "Role",
    "Route",
    "Scaler",
    "Static",
    "Stores",
    "Timing",
    "VirtualIp",
    "WanPorts",
    "check_partitions",
    "dump",
    "host_pattern",
    "host_port",
    "host_port_text",
    "is_loopback",
    "load",
    "loads",
    "moment",
    "network",
    "nexus_endpoints",
    "normal_routes",
    "parse",
    "parse_route",
    "parse_stored",
    "ports_of",
    "route_problems",
    "served_ports",
    "why_not_run",
]
