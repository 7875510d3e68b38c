"""How many instances of each role a datacenter of this machine runs, and how that changes. Pure.

Owns what may be asked for, how a number is spread over nodes, and what of it the next `hitmesh up`
remembers. Knows nothing of processes.

Invariant: the instances that stay keep their names and ports. They are numbered over the nodes in
file order, so the last node grows, and the last ones shrink.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from hitmesh import config as settings
from hitmesh.config import ROLES, Config, Node, Role
from hitmesh.config.sections import NEEDED_ROLES
from hitmesh.errors import CommandError, ConfigError
from hitmesh.mistakes import nearest

SCALABLE: tuple[Role, ...] = (
    "processor",
    "collector",
    "balancer",
    "dashboard",
    "recorder",
)  # in the order in which they start
FIXED = {
    "nexus": "a Nexus's address is in the configuration of every role of every datacenter",
    "scaler": "it is on every node whose instances it starts and stops, once",
    "consul": "a Consul server is no role of hitmesh, and its cluster is set up once",
    "beanstalkd": "a spool's address is in the configuration of every collector",
}
Counts = Mapping[Role, int]


class Size(Struct, frozen=True, forbid_unknown_fields=True):
    """How many of a role somebody wanted, and how many the template said when he did."""

    template: int
    wanted: int


def asked_for(words: Sequence[str]) -> dict[Role, int]:
    """The counts in words such as collector=4. Raises CommandError."""
    counts: dict[Role, int] = {}
    for word in words:
        name, equals, number = word.partition("=")
        role = next((each for each in SCALABLE if each == name), None)
        if role is None:
            hint = FIXED.get(name)
            if hint is None:
                raise CommandError(f"{name!r} is no role to be scaled", hint=nearest(name, SCALABLE))
            raise CommandError(f"{name} can't be scaled on a running mesh: {hint}")
        if not equals or not number.isascii() or not number.isdecimal():
            raise CommandError(f"{word!r}: how many is a whole number, such as {role}=3")
        if role in counts:
            raise CommandError(f"{role} is named twice")
        counts[role] = int(number)
    return counts


def resized(config: Config, counts: Counts, *, limits: Counts, source: str) -> Config:
    """The datacenter with so many instances of these roles. Raises CommandError when that can't be.

    `limits` are the most of each role that have ports; `source` is the configuration's name for errors.
    """
    nodes = dict(config.nodes)
    for role, count in counts.items():
        if count == 0 and role in NEEDED_ROLES:
            raise CommandError(f"{role}=0: a datacenter can't do without a {role}")
        limit = limits.get(role)
        if limit is not None and count > limit:
            raise CommandError(f"{role}={count}: a datacenter of `hitmesh up` has ports for {limit} of them")
        nodes = _spread(nodes, role, count)
    tables = msgspec.to_builtins(msgspec.structs.replace(config, nodes=nodes))
    try:
        # Checked as a whole, as the roles will do when they read it.
        return settings.parse(tables, source=source)
    except ConfigError as error:
        raise CommandError(error.message, hint=error.hint) from error


def counts_of(config: Config) -> dict[Role, int]:
    """How many instances of each role a datacenter has."""
    return {role: len(config.instances(role)) for role in ROLES}


def remembered(sizes: Mapping[Role, Size], config: Config, counts: Counts) -> dict[Role, Size]:
    """What is to be remembered once `config` is resized to `counts`, given what was before."""
    before = counts_of(config)
    changed = {
        role: Size(sizes[role].template if role in sizes else before[role], count) for role, count in counts.items()
    }
    return {role: size for role, size in {**sizes, **changed}.items() if size.wanted != size.template}


def still_wanted(sizes: Mapping[Role, Size], template: Config) -> dict[Role, int]:
    """The counts that hold for a mesh of this template: a number of its own that has changed since wins."""
    before = counts_of(template)
    return {role: size.wanted for role, size in sizes.items() if size.template == before[role] != size.wanted}


def _spread(nodes: dict[str, Node], role: Role, count: int) -> dict[str, Node]:
    """The nodes with `count` instances of a role in all."""
    spread = dict(nodes)
    more = count - sum(getattr(node, role) for node in nodes.values())
    for name in reversed(nodes):
        here = getattr(nodes[name], role)
        now = max(here + more, 0)
        spread[name] = msgspec.structs.replace(nodes[name], **{role: now})
        more -= now - here
        if more == 0:
            break
    return spread
