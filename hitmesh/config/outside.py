"""What other datacenters are told of where an instance is, in place of what those in its own are told. Pure.

    inside   tcp://10.1.0.11:8023        of a node with wan_address = "203.0.113.7" and wan_ports.nexus = 9020,
    outside  tcp://203.0.113.7:9023      where ports.nexus is 8020

Whatever follows the port stays.
"""

from __future__ import annotations

import re
from typing import Final

from hitmesh.config.addresses import host_port_text
from hitmesh.config.datacenter import Placement
from hitmesh.config.sections import Role

REACHED: Final[dict[Role, tuple[str, ...]]] = {
    "nexus": ("heartbeats", "lookups"),
    "processor": ("rows",),
    "dashboard": ("news",),
}
"""What other datacenters reach of a role, by the names of its endpoints."""

MAX_PORT: Final = 65_535
_ENDPOINT = re.compile(r"(?P<scheme>[a-z]+://)(?:\[[^]]*\]|[^:/]*):(?P<port>[0-9]+)(?P<rest>.*)", re.DOTALL)


def outside(placement: Placement, endpoint: str, host: str = "") -> str:
    """An endpoint of an instance as other datacenters reach it; `host` is what its `wan_address` was found to be.

    The endpoint itself where the node has no such address; empty where the port would be none: an instance says
    where it is, and not all that is said is so.
    """
    if not placement.wan_address:
        return endpoint
    found = _ENDPOINT.fullmatch(endpoint)
    port = int(found["port"]) + placement.wan_shift if found else 0
    if found is None or not 1 <= port <= MAX_PORT:
        return ""
    return f"{found['scheme']}{host_port_text((host or placement.wan_address).strip('[]'), port)}{found['rest']}"
