"""What a mesh on this machine consists of: its datacenters, ports and programs. Pure.

`lay_out` decides everything that `hitmesh up` writes and starts, from a template configuration
and the command's options; nothing here touches a file, a socket or a process. Each datacenter
gets a block of BLOCK_PORTS ports, so that a second one never collides with the first.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

import msgspec
from msgspec import Struct

from hitmesh import config as settings
from hitmesh.cli.sizes import Counts, resized
from hitmesh.config import ROLES, Config, Placement, Ports, Role, WanPorts, host_port_text, ports_of
from hitmesh.config.deploy import VirtualIp
from hitmesh.errors import CommandError
from hitmesh.protocol.messages import MAX_FRAME_BYTES
from hitmesh.store.consul_agent import AgentPorts, agent_command, agent_config

BLOCK_PORTS = 100  # of one datacenter
# Where each kind of server starts in its datacenter's block.
BALANCER_AT, BALANCER_ADMIN_AT, COLLECTOR_AT, NEXUS_AT = 0, 5, 10, 20
BEANSTALKD_AT, NEXUS_ADMIN_AT, CONSUL_AT, BALANCER_TLS_AT, DASHBOARD_AT = 40, 42, 50, 60, 70
COLLECTOR_ADMIN_AT, PROCESSOR_ADMIN_AT = 80, 90
RECORDER_AT, RECORDER_ADMIN_AT = 54, 65
SCALER_ADMIN_AT = 48
MAX_BALANCERS = BALANCER_ADMIN_AT - BALANCER_AT
MAX_COLLECTORS = NEXUS_AT - COLLECTOR_AT
MAX_NEXUSES = (BEANSTALKD_AT - NEXUS_AT) // 3
MAX_PROCESSORS = BLOCK_PORTS - PROCESSOR_ADMIN_AT
MAX_DASHBOARDS = 5
MAX_RECORDERS = (BALANCER_TLS_AT - RECORDER_AT) // 2
MAX_SCALERS = CONSUL_AT - SCALER_ADMIN_AT
MAX_INSTANCES: dict[Role, int] = {
    "balancer": MAX_BALANCERS,
    "collector": MAX_COLLECTORS,
    "nexus": MAX_NEXUSES,
    "processor": MAX_PROCESSORS,
    "dashboard": MAX_DASHBOARDS,
    "recorder": MAX_RECORDERS,
    "scaler": MAX_SCALERS,
}
BEANSTALKDS = 2  # a pair: one may lose its disk
JOB_BYTES = 2 * MAX_FRAME_BYTES  # beanstalkd's -z must exceed the largest job, and its default is 64 KiB
STOP_GRACE_S = 5  # that supervisor waits beyond a role's own deadline before it kills
LOOPBACK = "127.0.0.1"
KEYS_NAME = "keys"  # of the folder of keys, in the state folder
# What is no datacenter's name here.
TAKEN = {
    KEYS_NAME: "the state folder keeps keys",
    "log": "the state folder keeps logs",
    "dashboard": "`hitmesh endpoints` says where a dashboard is",
}
MAX_PATH_BYTES = 380  # SQLite opens 460 at most: a datacenter's name, a file's and that of its draft come to it


class Options(Struct, frozen=True, kw_only=True):
    """What `hitmesh up` was told, and what it found on the machine."""

    dcs: Sequence[str]
    state_dir: Path  # absolute
    socket: Path  # of supervisord
    base_port: int
    python: str
    consul: str | None  # the program, when it is to be run
    beanstalkd: str | None
    open_files: int  # as many as supervisord may ask for
    counts: Mapping[str, Counts] = {}  # of instances, by datacenter, where not the template's


class Program(Struct, frozen=True):
    """One program under supervisord."""

    dc: str
    role: str  # also the name of its template
    name: str
    values: Mapping[str, str]  # of the template, beside those that every program has
    is_spare: bool = False  # a scaler starts it, and nobody else

    @property
    def full_name(self) -> str:
        """As supervisorctl knows it."""
        return f"{self.dc}-{self.name}"


class Wanted(Struct, frozen=True):
    """A port that something of the mesh will bind."""

    address: str
    port: int
    who: str


class Layout(Struct, frozen=True):
    """A whole mesh on this machine."""

    datacenters: Sequence[Config]
    programs: Sequence[Program]
    ports: Sequence[Wanted]
    files: Mapping[Path, str]  # to write, besides supervisord.conf
    folders: Sequence[Path]  # to make


def lay_out(template: Config, options: Options, *, source: str) -> Layout:
    """The mesh of `options.dcs`, each like `template`; `source` is the template's name for errors."""
    _check(template, options, source)
    firsts = [options.base_port + BLOCK_PORTS * index for index in range(len(options.dcs))]
    alone = [
        resized(_configured(template, dc, first, options), options.counts.get(dc, {}), limits=MAX_INSTANCES, source=dc)
        for dc, first in zip(options.dcs, firsts, strict=True)
    ]
    # Where a Consul is, its catalogue of the WAN knows the others.
    configs = alone if options.consul else _introduced(alone)
    programs, ports = [], []
    files: dict[Path, str] = {}
    folders = [options.state_dir / "log"]
    for config, first in zip(configs, firsts, strict=True):
        dc = config.name
        path = options.state_dir / dc / "hitmesh.toml"
        files[path] = f"# Written by `hitmesh up` from {source}, and again by the next one.\n\n{settings.dump(config)}"
        folders.append(options.state_dir / dc)
        for role in ROLES:
            for placement in config.instances(role):
                programs.append(role_program(config, placement, path, python=options.python))
                who = f"{dc}-{placement.name}"
                ports += [Wanted(placement.address, port, who) for port in ports_of(placement)]
            for placement in config.spares(role):
                programs.append(role_program(config, placement, path, python=options.python, is_spare=True))
                who = f"{dc}-{placement.name}"
                ports += [Wanted(placement.address, port, who) for port in ports_of(placement)]
        if options.beanstalkd:
            for number in range(1, BEANSTALKDS + 1):
                folder = options.state_dir / dc / f"beanstalkd-{number}"
                folders.append(folder)
                port = first + BEANSTALKD_AT + number - 1
                programs.append(_beanstalkd(dc, number, port, folder, options.beanstalkd))
                ports.append(Wanted(LOOPBACK, port, f"{dc}-beanstalkd-{number}"))
        if options.consul:
            agent = options.state_dir / dc / "consul.json"
            data = options.state_dir / dc / "consul"
            own = _consul_ports(first)
            others = [_consul_ports(other) for other in firsts if other != first]
            details = agent_config(dc, own, data, join_wan=[other.serf_wan for other in others])
            files[agent] = msgspec.json.format(msgspec.json.encode(details), indent=2).decode() + "\n"
            folders.append(data)
            command = shlex.join(agent_command(agent, program=options.consul))
            programs.append(Program(dc, "consul", "consul-1", {"command": command, "stop_wait_s": "10"}))
            ports += [Wanted(LOOPBACK, port, f"{dc}-consul-1") for port in msgspec.structs.astuple(own)]
    return Layout(configs, programs, ports, files, folders)


def supervisor_text(layout: Layout, options: Options, templates: Mapping[str, str]) -> str:
    """supervisord.conf: the text of `templates` ("supervisord" and one per role), filled in."""
    logs = options.state_dir / "log"
    parts = [
        supervisord_text(
            templates["supervisord"],
            state=options.state_dir,
            socket=options.socket,
            logs=logs,
            minfds=options.open_files,
        )
    ]
    parts += [program_text(program, logs, templates[program.role]) for program in layout.programs]
    return "\n".join(parts)


def supervisord_text(
    template: str, *, state: Path, socket: Path, logs: Path, minfds: int, access: str = "chmod = 0700"
) -> str:
    """The sections of supervisord.conf that are no program's; `access` says who may speak to the socket."""
    values = {"state": state, "socket": socket, "logs": logs, "minfds": minfds, "access": access}
    return _fill(template, {key: str(value) for key, value in values.items()})


def program_text(program: Program, logs: Path, template: str) -> str:
    """One program's section of supervisord.conf, from its role's template."""
    log = str(logs / f"{program.full_name}.log").replace("%", "%%")  # supervisord expands this one twice
    text = _fill(template, {"dc": program.dc, "name": program.name, "log": log, **program.values})
    return re.sub(r"(?m)^(autostart *=) *true\b", r"\1 false", text) if program.is_spare else text


def role_program(config: Config, placement: Placement, path: Path, *, python: str, is_spare: bool = False) -> Program:
    """The program that runs one instance, with the configuration in `path`, which is in the datacenter's folder."""
    values = {
        "python": shlex.quote(python),
        "config": shlex.quote(str(path)),
        "state": shlex.quote(str(path.parents[1])),
        "stop_wait_s": str(math.ceil(config.timing.drain_s) + STOP_GRACE_S),
    }
    return Program(config.name, placement.role, placement.name, values, is_spare)


def _fill(template: str, values: Mapping[str, str]) -> str:
    # supervisord expands %(name)s in every value.
    return Template(template).substitute({key: value.replace("%", "%%") for key, value in values.items()})


def _check_path(what: str, path: str) -> None:
    """Refuse what can't be written in supervisord's file, or what somebody else would stumble over."""
    wrong = ""
    if not path.isprintable():
        wrong = "has a character that isn't printable"
    elif found := re.search(r"\s[;#]", path):
        wrong = f"what follows {found[0]!r} is a comment to supervisord"
    elif path.endswith(" "):
        wrong = "ends with a space, which gunicorn cuts off"
    elif len(os.fsencode(path)) > MAX_PATH_BYTES:
        wrong = f"is longer than {MAX_PATH_BYTES} bytes, and what SQLite adds doesn't fit"
    if wrong:
        raise CommandError(f"{what} {path}: {wrong}", hint="choose another name")


def _check(template: Config, options: Options, source: str) -> None:
    _check_path("--state-dir", str(options.state_dir))
    for program in (options.python, options.consul, options.beanstalkd):
        _check_path("the program", program or "")
    for dc in options.dcs:
        if dc in TAKEN:
            raise CommandError(f"--dcs: {dc} can't name a datacenter: {TAKEN[dc]} under that name")
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", dc):
            raise CommandError(
                f"--dcs: {dc!r} can't name a datacenter: small letters, digits, hyphens, such as eu-west"
            )
    if len(set(options.dcs)) < len(options.dcs) or not options.dcs:
        raise CommandError(f"--dcs: {','.join(options.dcs)!r} must name each datacenter once")
    last = options.base_port + BLOCK_PORTS * len(options.dcs) - 1
    if last > 65_535:
        raise CommandError(f"--base-port {options.base_port}: {len(options.dcs)} datacenters need ports up to {last}")
    for role, limit in MAX_INSTANCES.items():
        count = len(template.instances(role)) + len(template.spares(role))
        if count > limit:
            raise CommandError(f"{source}: {count} {role} instances; `hitmesh up` has ports for {limit}")
    for name, node in template.nodes.items():
        if not settings.is_loopback(node.address):
            raise CommandError(
                f"{source}: nodes.{name}.address is {node.address}; `hitmesh up` runs all on this machine, on loopback"
            )


def _configured(template: Config, dc: str, first: int, options: Options) -> Config:
    stores, asked = template.stores, template.ports
    if options.consul:
        consul = f"consul://{LOOPBACK}:{_consul_ports(first).http}"
        stores = msgspec.structs.replace(stores, totals=f"{consul}/hitmesh", settings=f"{consul}/hitmesh-settings")
    if options.beanstalkd:
        spools = tuple(f"beanstalk://{LOOPBACK}:{first + BEANSTALKD_AT + n}/hitmesh" for n in range(BEANSTALKDS))
        stores = msgspec.structs.replace(stores, spools=spools)
    ports = Ports(
        balancer=first + BALANCER_AT,
        balancer_tls=first + BALANCER_TLS_AT if asked.balancer_tls else 0,
        balancer_admin=first + BALANCER_ADMIN_AT if asked.balancer_admin else 0,
        collector=first + COLLECTOR_AT,
        collector_admin=first + COLLECTOR_ADMIN_AT,
        processor_admin=first + PROCESSOR_ADMIN_AT,
        nexus=first + NEXUS_AT,
        nexus_admin=first + NEXUS_ADMIN_AT,
        dashboard=first + DASHBOARD_AT,
        recorder=first + RECORDER_AT,
        recorder_admin=first + RECORDER_ADMIN_AT,
        scaler_admin=first + SCALER_ADMIN_AT,
    )
    nodes = {
        name: msgspec.structs.replace(node, wan_address="", wan_ports=WanPorts())
        for name, node in template.nodes.items()
    }
    keys = template.keys or ("" if template.insecure else str(options.state_dir / KEYS_NAME))
    return msgspec.structs.replace(
        template, name=dc, nodes=nodes, ports=ports, stores=stores, peers={}, keys=keys,
        virtual_ip=VirtualIp(),  # nobody would move it here
    )  # fmt: skip


def _introduced(configs: Sequence[Config]) -> list[Config]:
    """The datacenters, each with where the Nexuses of the others take heartbeats."""
    addresses = {
        # A Nexus's first port is that of its heartbeats.
        config.name: tuple(host_port_text(each.address, each.port) for each in config.instances("nexus"))
        for config in configs
    }
    return [
        msgspec.structs.replace(one, peers={dc: at for dc, at in addresses.items() if dc != one.name})
        for one in configs
    ]


def _beanstalkd(dc: str, number: int, port: int, folder: Path, program: str) -> Program:
    values = {
        "beanstalkd": shlex.quote(program),
        "address": LOOPBACK,
        "port": str(port),
        "folder": shlex.quote(str(folder)),
        "job_bytes": str(JOB_BYTES),
        "stop_wait_s": "10",
    }
    return Program(dc, "beanstalkd", f"beanstalkd-{number}", values)


def _consul_ports(first: int) -> AgentPorts:
    port = first + CONSUL_AT
    return AgentPorts(http=port, serf_lan=port + 1, serf_wan=port + 2, server=port + 3)
