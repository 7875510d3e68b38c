"""What the kernel of a host is told. Pure."""

from __future__ import annotations

from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet, Host
from hitmesh.deploy.paths import SYSCTL_CONF

PRIVILEGED = 1024  # below, a port is root's, unless the kernel is told otherwise
BACKLOG = 4096  # connections that wait to be accepted: the kernel's default since 5.4, and a fifth of a balancer's


def files(fleet: Fleet, host: Host) -> list[File]:
    """The settings of a host with balancers; of another one none."""
    return [File(path=SYSCTL_CONF, text=_text(fleet, host), then="sysctl")]


def _text(fleet: Fleet, host: Host) -> str:
    balancers = host.of("balancer")
    if not balancers:
        return ""
    lines = ["# Written by `fab bootstrap`, and again by the next one."]
    lowest = min(port for one in balancers for port in (one.port, one.tls_port) if port)
    if lowest < PRIVILEGED:
        lines += ["# Balancers aren't root.", f"net.ipv4.ip_unprivileged_port_start = {lowest}"]
    lines += [f"net.core.somaxconn = {BACKLOG}"]
    return "\n".join(lines) + "\n"
