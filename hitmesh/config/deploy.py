"""What a deploy needs to know of a datacenter: how its hosts are reached, and what it may do there.
Roles run without it, but for the balancers, which take a virtual IP. Pure.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from hitmesh.config.sections import Section

_User = Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_-]{0,30}\Z")]
_Kept = Annotated[int, Meta(ge=0, le=3650)]


class Hooks(Section, frozen=True):
    """Programs that are given what happens as JSON on their standard input; relative to this file."""

    before: Annotated[str, Meta(description="before anything is changed; any other status than 0 stops the deploy")] = (
        ""
    )
    after: Annotated[str, Meta(description="when all is done")] = ""
    failed: Annotated[str, Meta(description="when it stopped, rolled back or not")] = ""


class Backup(Section, frozen=True):
    """Where backups go, and how many stay there."""

    to: Annotated[str, Meta(description="USER@HOST:/FOLDER; empty: none")] = ""
    daily: Annotated[_Kept, Meta(description="days of which the last backup is kept")] = 7
    weekly: Annotated[_Kept, Meta(description="weeks of which the last backup is kept")] = 4
    monthly: Annotated[_Kept, Meta(description="months of which the last backup is kept")] = 12


class ConsulCluster(Section, frozen=True):
    """What the Consul servers and agents on the hosts are started with."""

    gossip_key: Annotated[
        str, Meta(description="file with the key that their gossip is encrypted with (`consul keygen`); empty: none")
    ] = ""
    acl: Annotated[bool, Meta(description="without a token nothing may be read or written")] = False
    join_wan: Annotated[
        tuple[str, ...],
        Meta(max_length=64, description="Consul servers of other datacenters, HOST or HOST:PORT; empty: not joined"),
    ] = ()


class Deploy(Section, frozen=True):
    """How `fab` works on the hosts."""

    user: Annotated[_User, Meta(description="who logs in; bootstrap makes it")] = "hitmesh-deploy"
    bootstrap_user: Annotated[_User, Meta(description="who logs in for the bootstrap, and must be root there")] = "root"
    python: Annotated[str, Meta(min_length=1, description="of the hosts, 3.11 or later")] = "python3"
    packages: Annotated[bool, Meta(description="bootstrap installs the Debian packages that are missing")] = True
    firewall: Annotated[bool, Meta(description="bootstrap puts the firewall's rules in force")] = False
    firewall_others: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="networks from which other datacenters' connections come, for the firewall; empty: from anywhere",
        ),
    ] = ()
    ready_s: Annotated[
        float, Meta(ge=1, le=86_400, description="in which an instance of a new release must be ready")
    ] = 60.0
    bake_s: Annotated[
        float, Meta(ge=0, le=86_400, description="that the canary is watched before the others follow")
    ] = 30.0
    keep: Annotated[int, Meta(ge=1, le=100, description="releases that stay on a host, those in use besides")] = 3
    lock_s: Annotated[
        float, Meta(ge=10, le=86_400, description="after which the lock of a deploy that died is free")
    ] = 120.0
    hooks: Hooks = Hooks()
    consul: ConsulCluster = ConsulCluster()
    backup: Backup = Backup()


class VirtualIp(Section, frozen=True):
    """The address of a datacenter's balancers, which keepalived moves between their hosts."""

    address: Annotated[
        str, Meta(description="with its network's prefix length, such as 10.2.0.100/24; empty: none")
    ] = ""
    interface: Annotated[str, Meta(max_length=15, description="of the hosts, that has it")] = "eth0"
    preempt: Annotated[bool, Meta(description="the first host takes it back when it returns")] = False
    router_id: Annotated[
        int, Meta(ge=0, le=255, description="of VRRP, one of its own on a network; 0: made from the datacenter's name")
    ] = 0
