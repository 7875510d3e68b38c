"""Why a datacenter's file may not be deployed over what its hosts run.

Owns what is compared with the file as it stands on the hosts, with which everything there was started. What a host
lacks for a release is `plan`'s.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from hitmesh.config import ROLES, Config, Role
from hitmesh.config.addresses import ssh_place
from hitmesh.config.sections import Stores
from hitmesh.deploy.alert_secrets import hook_problems, secret_problems
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.facts import Facts
from hitmesh.deploy.fleet import ORDER, Fleet, Host, role_of
from hitmesh.deploy.paths import PROGRAMS, config_path
from hitmesh.deploy.plan import Change, Step, Stop
from hitmesh.deploy.remote import RemoteHost
from hitmesh.errors import CommandError
from hitmesh.store.urls import is_consul
from hitmesh.supervisord import split_name

PARTITIONS: Final[int] = next(one.default for one in msgspec.structs.fields(Config) if one.name == "partitions")
VIRTUAL_IP: Final = ("keepalived", "vip")  # programs beside the roles that nobody may run who isn't in the file


class Node(Struct, frozen=True):
    """A node of a file that stands on hosts."""

    address: str
    ssh: str = ""
    nexus: int = 0
    processor: int = 0
    collector: int = 0
    balancer: int = 0
    dashboard: int = 0
    recorder: int = 0
    scaler: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether it runs nothing by that file."""
        return not any(getattr(self, role) for role in ROLES)


class StandingStores(Struct, frozen=True):
    """Where what runs on a host keeps things."""

    totals: str = Stores().totals


class Standing(Struct, frozen=True):
    """A datacenter's file as it stands on a host: what is compared of it. It may be another release's."""

    partitions: int = PARTITIONS
    stores: StandingStores = StandingStores()
    nodes: dict[str, Node] = {}


def refusals(desk: Desk, facts: Mapping[str, Facts], *, force: bool = False) -> list[str]:
    """Each reason, a line. With `force` only those that nobody can want.

    All hosts are looked at, but only those of the `facts` must answer. Raises CommandError.
    """
    standing = _standing(desk, facts)
    found = [*another_datacenter(desk.fleet.dc, facts), *other_partitions(desk.config, standing)]
    if not force:
        found += other_totals(desk.config, standing)
        found += secret_problems(desk)
        found += hook_problems(desk)
        found += [reason for host, node in left_out(desk.fleet, standing) if (reason := _still_there(desk, host, node))]
    return found


def refuse_bootstrap(config: Config, host: RemoteHost) -> None:
    """Raise CommandError for what of that one host shows, if it answers yet."""
    try:
        facts = host.facts()
        standing = _on(host, config.name)
    except CommandError:
        return  # there is no host program yet; or whoever asks next says what is wrong
    reasons = [
        *another_datacenter(config.name, {host.name: facts}),
        *other_partitions(config, [standing] if standing else []),
    ]
    if reasons:
        raise CommandError("; ".join(reasons))


def another_datacenter(dc: str, facts: Mapping[str, Facts]) -> Iterator[str]:
    """That a host is another datacenter's: ports, Consul's and keepalived's files, and the firewall, are there once."""
    for name, fact in facts.items():
        for other, programs in fact.others.items():
            yield (
                f"{name} runs datacenter {other} already ({', '.join(programs)}): give {dc} hosts of its own, or stop those "
                f"programs and remove {PROGRAMS}/{other}-*.conf there"
            )


def emptied(fleet: Fleet, steps: Sequence[Step], facts: Mapping[str, Facts]) -> list[Role]:
    """The roles of which a plan stops the last one that runs, though the file has some."""
    running = {
        (host.name, one.name) for host in fleet.hosts if host.name not in facts for one in host.instances
    }  # those that weren't asked, and stay as they are
    for name, fact in facts.items():
        running |= {(name, each.name) for each in fact.programs or () if each.state in ("RUNNING", "STARTING")}
    wanted = {one.role for _, one in fleet.in_order()}
    found: set[Role] = set()
    for step in steps:
        if isinstance(step, Change):
            running.add((step.host, step.instance))
        elif isinstance(step, Stop) and (step.host, step.instance) in running:
            running.remove((step.host, step.instance))
            role = role_of(step.instance.rpartition("-")[0])
            if role in wanted and not any(name.rpartition("-")[0] == role for _, name in running):
                found.add(role)
    return [role for role in ORDER if role in found]


def other_partitions(config: Config, standing: Sequence[Standing]) -> Iterator[str]:
    """That hosts count with another number of partitions than the file has: pages would be looked for elsewhere."""
    numbers = sorted({each.partitions for each in standing} - {config.partitions})
    if numbers:
        yield (
            f"{config.name} has {' and '.join(map(str, numbers))} partitions on its hosts, and the file says "
            f"{config.partitions}: totals can't be moved; put {numbers[0]} back, or begin a new mesh with "
            f"{config.partitions} and `hitmesh replay` the logs there"
        )


def other_totals(config: Config, standing: Sequence[Standing]) -> Iterator[str]:
    """That hosts count in another totals store than the file has: it would begin at nothing, beside the one in use."""
    new = _store(config.stores.totals)
    for old in sorted({_store(each.stores.totals) for each in standing} - {new}):
        yield (
            f"{config.name} counts in {old}, and the file says {new}: nothing is moved there by a deploy, and while one "
            "instance follows the other both would be counted in; see docs/operations/backups.md, Another totals store, "
            "after which force=1 deploys it"
        )


def _store(url: str) -> str:
    """Which store a URL names. Consul's prefix is in its cluster, whichever server is asked, and with which files."""
    url = url.partition("?")[0].removesuffix("/")
    return f"Consul's {url.partition('://')[2].partition('/')[2]}" if is_consul(url) else url


def left_out(fleet: Fleet, standing: Sequence[Standing]) -> Iterator[tuple[Host, Node]]:
    """The hosts that files on hosts have, and the new file has neither at their address nor by their way in; each once."""
    known = {place for host in fleet.hosts for place in (host.address, host.ssh)}
    for each in standing:
        for name, node in each.nodes.items():
            ssh = ssh_place(node.ssh or node.address)
            if not known & {node.address, ssh}:
                known.add(node.address)
                yield Host(name=name, address=node.address, ssh=ssh), node


def _still_there(desk: Desk, host: Host, node: Node) -> str:
    """Why a host may not be left out yet; empty when it may."""
    where = f"{host.name} ({host.address})"
    try:
        facts = RemoteHost(host, desk.ssh, desk.fleet.dc).facts()
    except CommandError as error:
        if node.is_empty:
            return ""
        return (
            f"whether {where} still runs something can't be told ({error.message}): force=1 leaves it out all the same"
        )
    programs = {each.name for each in facts.programs or ()}
    # Without supervisord now, but with the next boot.
    programs |= {split_name(Path(path).stem)[1] for path in facts.files if path.startswith(f"{PROGRAMS}/")}
    found = sorted(name for name in programs if name.rpartition("-")[0] in (*ROLES, *VIRTUAL_IP))
    if not found:
        return ""
    return (
        f"{where} still has {', '.join(found)}, and the file doesn't have it any more: set its counts to 0 and deploy, "
        "then take it out (docs/operations/grow.md), or force=1 leaves it so"
    )


def _standing(desk: Desk, asked: Mapping[str, Facts]) -> list[Standing]:
    """The datacenter's file of each host that runs something."""
    found = []
    for name, answer in desk.each(desk.fleet.hosts, lambda host: _on(host, desk.fleet.dc)).items():
        if isinstance(answer, Standing):
            found.append(answer)
        elif answer is not None and name in asked:
            raise answer
    return found


def _on(host: RemoteHost, dc: str) -> Standing | None:
    """The file with which a host runs instances; None where it never did, or it can't be read. Raises CommandError."""
    path = config_path(dc)
    if not host.facts().current or not (text := host.texts([path]).get(path)):
        return None
    try:
        return msgspec.convert(tomllib.loads(text), Standing)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError):
        return None
