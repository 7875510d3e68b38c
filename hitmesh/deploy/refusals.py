"""Why a datacenter's file may not be deployed over what its hosts run.

Owns what is compared with the file as it stands on the hosts, with which everything there was started. What a host
lacks for a release is `plan`'s.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec

from hitmesh.config import Config
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.paths import config_path
from hitmesh.deploy.remote import RemoteHost
from hitmesh.errors import CommandError

Tables = Mapping[str, Any]  # of a datacenter's file, perhaps of another release, so that nothing else is known of it

PARTITIONS: Final[int] = next(one.default for one in msgspec.structs.fields(Config) if one.name == "partitions")


def refusals(desk: Desk, asked: Collection[str]) -> list[str]:
    """Each reason, a line; none where nothing was ever deployed.

    All hosts are looked at, but only those that are `asked` must answer. Raises CommandError.
    """
    standing = _standing(desk, asked)
    return [*other_partitions(desk.config, standing)]


def refuse_partitions(config: Config, host: RemoteHost) -> None:
    """Raise CommandError where a host, if it answers yet, counts with another number of partitions."""
    try:
        tables = _tables(host, config.name)
    except CommandError:
        return  # there is no host program yet; or whoever asks next says what is wrong
    for reason in other_partitions(config, {host.name: tables}):
        raise CommandError(reason, hint="nothing was changed")


def other_partitions(config: Config, standing: Mapping[str, Tables]) -> Iterator[str]:
    """That hosts count with another number of partitions than the file has: pages would be looked for elsewhere."""
    numbers = {number for tables in standing.values() if (number := _partitions(tables)) not in (0, config.partitions)}
    if numbers:
        yield (
            f"{config.name} has {' and '.join(map(str, sorted(numbers)))} partitions on its hosts, and the file says "
            f"{config.partitions}: totals can't be moved; put {min(numbers)} back, or begin a new mesh with "
            f"{config.partitions} and `hitmesh replay` the logs there, or `hitmesh import` what `hitmesh export` wrote here"
        )


def _standing(desk: Desk, asked: Collection[str]) -> dict[str, Tables]:
    """The datacenter's file as each host has it that runs something, by host."""
    found: dict[str, Tables] = {}
    for name, tables in desk.each(desk.fleet.hosts, lambda host: _tables(host, desk.fleet.dc)).items():
        if not isinstance(tables, CommandError):
            found[name] = tables
        elif name in asked:
            raise tables
    return found


def _tables(host: RemoteHost, dc: str) -> Tables:
    """The file with which a host runs instances; empty where it never did, or it can't be read. Raises CommandError."""
    if not host.facts().current:
        return {}
    path = config_path(dc)
    try:
        return tomllib.loads(host.texts([path]).get(path, ""))
    except tomllib.TOMLDecodeError:
        return {}


def _partitions(tables: Tables) -> int:
    """How many there are by a file; 0 where it says nothing of that."""
    number = tables.get("partitions", PARTITIONS) if tables else 0
    return number if isinstance(number, int) else 0
