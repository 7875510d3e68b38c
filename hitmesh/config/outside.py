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

REACHED: Final[dict[Role, tuple[str, ...]]] = {"nexus": ("heartbeats", "lookups"), "processor": ("rows",)}
"""What other datacenters reach of a role, by the names of its endpoints."""

_ENDPOINT = re.compile(r"(?P<scheme>[a-z]+://)(?:\[[^]]*\]|[^:/]*):(?P<port>[0-9]+)(?P<rest>.*)", re.DOTALL)


def outside(placement: Placement, endpoint: str, host: str = "") -> str:
    """An endpoint of an instance as other datacenters reach it; `host` is what its `wan_address` was found to be.

    The endpoint itself where the node has no such address.
    """
    found = _ENDPOINT.fullmatch(endpoint)
    if not placement.wan_address or found is None:
        return endpoint
    host = (host or placement.wan_address).strip("[]")
    return f"{found['scheme']}{host_port_text(host, int(found['port']) + placement.wan_shift)}{found['rest']}"
