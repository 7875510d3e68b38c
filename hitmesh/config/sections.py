"""The tables of a datacenter's file, but for the balancer's. Owns each setting's type, default,
unit and help; knows nothing of what the roles do with it. Pure.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

from hitmesh.mistakes import SECRET

Role = Literal["nexus", "processor", "collector", "balancer", "dashboard", "recorder", "scaler"]
ROLES: tuple[Role, ...] = get_args(Role)
# What a datacenter can't do without; balancers may be somebody else's, and nobody needs to look,
# nor to have it recorded.
NEEDED_ROLES: tuple[Role, ...] = ("nexus", "processor", "collector")

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z")]
_Port = Annotated[int, Meta(ge=1, le=65_535)]
_PortOrNone = Annotated[int, Meta(ge=0, le=65_535)]
_Instances = Annotated[int, Meta(ge=0, le=64)]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


class WanPorts(Section, frozen=True):
    """The first port of each kind that a router forwards to a node; the n-th instance there has the next ones."""

    nexus: Annotated[_PortOrNone, Meta(description="to ports.nexus; three ports an instance; 0: the same ones")] = 0
    rows: Annotated[_PortOrNone, Meta(description="to ports.rows; one port an instance; 0: the same ones")] = 0
    dashboard: Annotated[
        _PortOrNone, Meta(description="to ports.dashboard; two ports an instance; 0: the same ones")
    ] = 0


class Node(Section, frozen=True):
    """One host of the datacenter: its addresses and how many instances of each role it runs."""

    address: Annotated[str, Meta(description="IP address or name by which the others reach this host")]
    wan_address: Annotated[
        str,
        Meta(description="the same for other datacenters, such as a router's; empty: they reach it by `address` too"),
    ] = ""
    wan_ports: WanPorts = WanPorts()
    nexus: Annotated[_Instances, Meta(description="Nexus instances; two in all is the rule")] = 0
    processor: Annotated[_Instances, Meta(description="processor instances")] = 0
    collector: Annotated[_Instances, Meta(description="collector instances, each one worker process")] = 0
    balancer: Annotated[_Instances, Meta(description="balancer instances, each of balancer.workers processes")] = 0
    dashboard: Annotated[_Instances, Meta(description="dashboard instances; two in all is the rule on hosts")] = 0
    recorder: Annotated[_Instances, Meta(description="recorder instances; two in all is the rule on hosts")] = 0
    scaler: Annotated[
        _Instances, Meta(description="scaler instances: one, on every host whose instances are to be started by load")
    ] = 0
    beanstalkd: Annotated[bool, Meta(description="deployed with a beanstalkd, which stores.spools names")] = False
    consul_server: Annotated[
        bool, Meta(description="deployed with a Consul server; where there is one, agents elsewhere")
    ] = False
    ssh: Annotated[str, Meta(description="HOST or HOST:PORT by which `fab` reaches it; empty: `address`, port 22")] = ""


class Ports(Section, frozen=True):
    """The first port of each role on a node; the n-th instance there takes the next ones."""

    balancer: Annotated[_Port, Meta(description="HTTP; one port an instance")] = 8000
    balancer_tls: Annotated[_PortOrNone, Meta(description="HTTPS; one port an instance; 0: none")] = 0
    balancer_admin: Annotated[
        _PortOrNone, Meta(description="/stats, /metrics, /routes; one port an instance; 0: none")
    ] = 8005
    collector: Annotated[_Port, Meta(description="HTTP; one port an instance")] = 8010
    collector_admin: Annotated[
        _PortOrNone, Meta(description="/metrics, /health, /trace; one port an instance; 0: none")
    ] = 0
    processor_admin: Annotated[
        _PortOrNone, Meta(description="/metrics, /health, /trace; one port an instance; 0: none")
    ] = 0
    nexus: Annotated[_Port, Meta(description="heartbeats, changes, lookups; three ports an instance")] = 8020
    nexus_admin: Annotated[_PortOrNone, Meta(description="/metrics, /health; one port an instance; 0: none")] = 0
    dashboard: Annotated[_Port, Meta(description="HTTP, and its news for other dashboards; two ports an instance")] = (
        8030
    )
    recorder: Annotated[_Port, Meta(description="records, and who reads them; two ports an instance")] = 8036
    recorder_admin: Annotated[_PortOrNone, Meta(description="/metrics, /health; one port an instance; 0: none")] = 0
    scaler_admin: Annotated[_PortOrNone, Meta(description="/metrics, /health; one port an instance; 0: none")] = 0
    rows: Annotated[
        _PortOrNone,
        Meta(description="processors, for other datacenters; one port an instance; 0: any that is free"),
    ] = 0


class Stores(Section, frozen=True):
    """Where things are kept, by URL; a relative sqlite path is below the state folder."""

    totals: Annotated[str, Meta(description="sqlite:///PATH or consul[+https]://HOST:PORT[,HOST:PORT...]/PREFIX")] = (
        "sqlite:///totals.db"
    )
    settings: Annotated[
        str, Meta(description="live settings: sqlite:///PATH or consul[+https]://HOST:PORT[,HOST:PORT...]/PREFIX")
    ] = "sqlite:///settings.db"
    spools: Annotated[
        tuple[str, ...],
        Meta(min_length=1, max_length=4, description="sqlite:///PATH or beanstalk://HOST:PORT/TUBE; two make a pair"),
    ] = ("sqlite:///spool.db",)
    spool_copies: Annotated[
        int,
        Meta(ge=0, le=4, description="copies that must be on disk before a hit is answered; 0: on all that are up"),
    ] = 0


class Timing(Section, frozen=True):
    """Intervals, in seconds."""

    heartbeat_s: Annotated[float, Meta(ge=0.05, le=60, description="between two heartbeats of an instance")] = 1.0
    wan_heartbeat_s: Annotated[float, Meta(ge=0.05, le=60, description="between two of a datacenter to the others")] = (
        5.0
    )
    missed_heartbeats: Annotated[int, Meta(ge=2, le=60, description="missed in a row before an instance is dead")] = 3
    wan_missed_heartbeats: Annotated[
        int, Meta(ge=2, le=60, description="missed in a row before another datacenter is out of reach")
    ] = 5
    rows_s: Annotated[
        float,
        Meta(ge=0.05, le=60, description="that another datacenter's question for news is held while there are none"),
    ] = 0.5
    commit_s: Annotated[float, Meta(ge=0.01, le=60, description="between two commits of a processor with news")] = 0.25
    resend_s: Annotated[float, Meta(ge=0.1, le=60, description="before a collector sends an unacked batch again")] = 1.0
    retry_delay_s: Annotated[
        float, Meta(ge=1, le=3600, description="before any collector may claim an unacked job from the spool")
    ] = 5.0
    claim_s: Annotated[float, Meta(ge=2, le=3600, description="for which a claimed job belongs to its claimer")] = 10.0
    fresh_s: Annotated[float, Meta(ge=0, le=60, description="for which a known total is answered unread")] = 0.5
    read_s: Annotated[float, Meta(ge=0.05, le=60, description="that an answer waits for a total to be read")] = 1.0
    drain_s: Annotated[float, Meta(ge=0, le=600, description="that a stopping role has to finish its work")] = 8.0


class Limits(Section, frozen=True):
    """What one request, batch or process may hold."""

    hit_body_bytes: Annotated[int, Meta(ge=0, description="body of a single hit, which is ignored")] = 16 * 1024
    batch_body_bytes: Annotated[int, Meta(ge=1, le=1024 * 1024, description="body of POST /hits")] = 1024 * 1024
    batch_pages: Annotated[int, Meta(ge=1, le=10_000, description="pages in one POST /hits")] = 10_000
    forming_pages: Annotated[int, Meta(ge=1, le=10_000, description="pages that close a forming batch")] = 10_000
    forming_bytes: Annotated[
        int, Meta(ge=1024, le=2 * 1024 * 1024, description="page bytes that close a forming batch")
    ] = 1024 * 1024
    unacked_bytes: Annotated[
        int, Meta(ge=1024 * 1024, description="memory for unacked batches; the spool keeps what is beyond")
    ] = 64 * 1024 * 1024
    connections: Annotated[int, Meta(ge=1, description="client connections of one collector")] = 10_000
    known_pages: Annotated[int, Meta(ge=100, description="pages whose totals a collector remembers")] = 100_000


class Dashboard(Section, frozen=True):
    """Who may look at the dashboards of a datacenter."""

    token: Annotated[
        str,
        Meta(
            pattern=r"^[!-~]*\Z",
            description="needed, as Authorization: Bearer or as the password of Basic; empty: none",
            extra=SECRET,
        ),
    ] = ""
    open: Annotated[bool, Meta(description="beyond loopback too whoever reaches it may look, without a token")] = False


class Metrics(Section, frozen=True):
    """Who may read the metrics of a datacenter's roles."""

    token: Annotated[
        str,
        Meta(
            pattern=r"^[!-~]*\Z",
            description="needed for /metrics of every role, as Authorization: Bearer; empty: none",
            extra=SECRET,
        ),
    ] = ""
    open: Annotated[
        bool, Meta(description="beyond loopback too whoever reaches /metrics of a role may read it, without a token")
    ] = False


class Log(Section, frozen=True):
    """What the roles of a datacenter log, and how."""

    format: Annotated[
        Literal["text", "logfmt", "json"], Meta(description="text for people; logfmt (key=value) or json for programs")
    ] = "text"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="below which nothing is logged")
    ] = "info"
    slow_ms: Annotated[
        int, Meta(ge=0, le=3_600_000, description="a request that takes longer is logged, with its parts; 0: none")
    ] = 1000
