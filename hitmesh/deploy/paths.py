"""Where everything is on a host. Pure.

The places are fixed, so that a rule of sudo, a service or a person can name them.
"""

from __future__ import annotations

from typing import Final

HOME: Final = "/opt/hitmesh"
SYSTEM: Final = f"{HOME}/system"
"""The environment of supervisord and of the host program; root's, made by the bootstrap, and in no release."""
HOST_PROGRAM: Final = f"{SYSTEM}/bin/hitmesh-host"
RUN: Final = f"{SYSTEM}/bin/hitmesh-run"
"""`hitmesh-run INSTANCE ...`: the release that this instance has now, run from its own path."""
RELEASES: Final = f"{HOME}/releases"
CURRENT: Final = f"{HOME}/current"
"""For each instance a link to its release."""
ETC: Final = "/etc/hitmesh"
KEYS: Final = f"{ETC}/keys"
STATE: Final = "/var/lib/hitmesh"
LOGS: Final = "/var/log/hitmesh"
SUPERVISOR_CONF: Final = f"{STATE}/supervisord.conf"
PROGRAMS: Final = f"{STATE}/supervisor.d"
"""A file for each program of supervisord, DC-INSTANCE.conf."""
CONSUL_CONF: Final = f"{ETC}/consul.json"
KEEPALIVED_CONF: Final = f"{ETC}/keepalived.conf"
FIREWALL_CONF: Final = f"{ETC}/firewall.nft"
SYSCTL_CONF: Final = "/etc/sysctl.d/60-hitmesh.conf"

STARTED_WITH: Final = ".started-with"
"""In an instance's folder: the SHA-256 of the datacenter's file that it was last started with."""


def config_path(dc: str) -> str:
    """The datacenter's file, as it was given."""
    return f"{ETC}/{dc}.toml"


def state_folder(instance: str) -> str:
    """`--state-dir` of an instance."""
    return f"{STATE}/{instance}"


def user_of(role: str) -> str:
    """As whom a role's programs run: `nexus`, ..., and `beanstalkd`, `consul`, `operator`."""
    return f"hitmesh-{role}"


def program_path(dc: str, name: str) -> str:
    """The file of one program of supervisord."""
    return f"{PROGRAMS}/{dc}-{name}.conf"
