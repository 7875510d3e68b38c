"""A datacenter's file with more or fewer instances of a role: its text, comments and all. Pure."""

from __future__ import annotations

import re
import tomllib
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
    wanted = {name: number for name, number in spread(fleet, role, count).items() if number != now[name]}
    replaced = _replaced(text, role, wanted)
    data = tomllib.loads(text)
    for name, number in wanted.items():
        data["nodes"][name][role] = number
    if not _says(replaced, data):
        raise CommandError(
            f"the numbers of {role} in the file can't be changed here: they aren't written plainly",
            hint="change them by hand, then `fab deploy`",
        )
    return replaced, [f"{name}: {role} {now[name]} -> {number}" for name, number in wanted.items()]


def _says(text: str, data: Mapping[str, object]) -> bool:
    try:
        return tomllib.loads(text) == data
    except tomllib.TOMLDecodeError:
        return False


def _replaced(text: str, role: Role, counts: Mapping[str, int]) -> str:
    lines = text.splitlines(keepends=True)
    for name, number in counts.items():
        table = re.compile(rf"\s*\[\s*nodes\s*\.\s*(\"{re.escape(name)}\"|{re.escape(name)})\s*\]")
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
