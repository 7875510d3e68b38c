"""A datacenter's file with more or fewer instances of a role: its text, comments and all. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hitmesh.config import Role
from hitmesh.deploy.fleet import Fleet
from hitmesh.errors import CommandError


def spread(fleet: Fleet, role: Role, count: int) -> dict[str, int]:
    """How many each host is to run: those that have some now share them, the first ones the rest. Raises CommandError."""
    names = [host.name for host in fleet.hosts if host.of(role)]
    if not names:
        raise CommandError(
            f"no host of {fleet.dc} runs a {role}", hint=f"say on which in its file: nodes.<node>.{role}"
        )
    if count < 1:
        raise CommandError(f"{count} instances of {role}: at least one must stay")
    each, more = divmod(count, len(names))
    return {name: each + (index < more) for index, name in enumerate(names)}


def scaled(text: str, fleet: Fleet, role: Role, count: int) -> tuple[str, list[str]]:
    """The file's text with so many, and what has changed, a line for each host. Raises CommandError."""
    now = {host.name: len(host.of(role)) for host in fleet.hosts}
    wanted = spread(fleet, role, count)
    changed = [f"{name}: {role} {now[name]} -> {number}" for name, number in wanted.items() if number != now[name]]
    return _replaced(text, role, {name: number for name, number in wanted.items() if number != now[name]}), changed


def _replaced(text: str, role: Role, counts: Mapping[str, int]) -> str:
    lines = text.splitlines(keepends=True)
    for name, number in counts.items():
        table = re.compile(rf"\s*\[\s*nodes\s*\.\s*(\"{name}\"|{name})\s*\]")
        begin = next((at for at, line in enumerate(lines) if table.match(line)), None)
        if begin is None:
            raise CommandError(f"the file has no line [nodes.{name}]", hint="write each node as a table of its own")
        end = next((at for at in range(begin + 1, len(lines)) if lines[at].lstrip().startswith("[")), len(lines))
        setting = re.compile(rf"(\s*{role}\s*=\s*)\d+")
        at = next((at for at in range(begin + 1, end) if setting.match(lines[at])), None)
        if at is None:
            raise CommandError(f"the file has no line `{role} = ...` in [nodes.{name}]")
        lines[at] = setting.sub(rf"\g<1>{number}", lines[at], count=1)
    return "".join(lines)
