"""supervisord.conf of a mesh as text: which programs it has, one more, one fewer. Pure.

What somebody has changed in it by hand stays: a program's section is added or taken out as a whole,
with the comments above it, and nothing else is touched.
"""

from __future__ import annotations

import configparser
import re
import shlex
from itertools import pairwise

from hitmesh.errors import CommandError

_PROGRAM = re.compile(r"\[program:([^\]]+)\]\s*")
_COMMENT = (";", "#")


def programs(text: str) -> list[str]:
    """The names of the programs, in file order."""
    return [name for name, _ in _sections(text) if name]


def with_program(text: str, section: str) -> str:
    """The text with one more program's section, comments and all, at its end."""
    return f"{text.rstrip()}\n\n{section.strip()}\n"


def without_program(text: str, name: str) -> str:
    """The text without the section of this program."""
    return "".join(section for found, section in _sections(text) if found != name).rstrip() + "\n"


def _sections(text: str) -> list[tuple[str, str]]:
    """The text in pieces, each a section with the comments right above it; the name where it is a program's."""
    lines = text.splitlines(keepends=True)
    starts = []
    for number, line in enumerate(lines):
        if line.startswith("["):
            first = number
            while first and lines[first - 1].startswith(_COMMENT):
                first -= 1
            found = _PROGRAM.fullmatch(line)
            starts.append((first, found[1] if found else ""))
    bounds = [(0, ""), *starts, (len(lines), "")]
    return [(name, "".join(lines[first:end])) for (first, name), (end, _) in pairwise(bounds)]


def python_of(text: str, dc: str) -> str:
    """The interpreter that runs a datacenter's roles. Raises CommandError."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=_COMMENT, strict=False)
    try:
        parser.read_string(text)
        command = parser[f"program:{dc}-nexus-1"]["command"].replace("%%", "%")
        return shlex.split(command)[0]
    except (configparser.Error, KeyError, IndexError, ValueError) as error:
        raise CommandError(f"supervisord.conf doesn't say what runs {dc}-nexus-1: {error}") from error
