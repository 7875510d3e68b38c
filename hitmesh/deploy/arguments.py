"""What is typed after `fab`: refused where it can't be meant, before any task begins. Pure.

Fabric takes `NAME=VALUE` as it comes: of two values the last, of an empty one the empty text, which a task would take
for "not given", and so for all. An unset variable of a shell must not deploy everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from hitmesh.errors import CommandError
from hitmesh.mistakes import nearest

MAX_DIGITS: Final = 9  # of a number; nobody has a thousand million of anything here
SHOWN_CHARS: Final = 60  # of what was typed

_YES: Final = ("1", "yes", "y", "true", "on")
_NO: Final = ("0", "no", "n", "false", "off")
# Fabric takes each pair for the same.
_SAME: Final = {"hosts": "host", "roles": "role"}


class WrongUse(CommandError):
    """A task that was called wrongly: nothing was done, and `fab` ends with status 2."""


def check(words: Iterable[str], tasks: Sequence[str]) -> None:
    r"""Raise WrongUse for a word that is no `TASK:NAME=VALUE,...`, with `\,` and `\=` for those within a value."""
    for word in words:
        task, colon, rest = word.partition(":")
        if task not in tasks:
            raise WrongUse(f"{shown(task)} is no task; {nearest(task, tasks)}", hint="`fab -l` lists them")
        given: set[str] = set()
        for argument in _split(",", rest) if colon else []:
            name, *values = _split("=", argument)
            if not all((name, *values)):
                raise WrongUse(f"{task}: {shown(argument)} is empty", hint="leave it out, or say what it is to be")
            if len(values) > 1:
                raise WrongUse(f"{task}: {shown(argument)} has more than one =", hint=r"write \= within a value")
            name = _SAME.get(name, name)
            if values and name in given:
                raise WrongUse(f"{task}: {shown(name)} is given twice")
            given.update([name] if values else [])


def converted(name: str, text: str, kind: str) -> Any:
    """An argument as what its task wants, which is the name of a type. Raises WrongUse."""
    convert = _KINDS.get(kind)
    return convert(name, text) if convert else text


def yes(name: str, text: str) -> bool:
    """Whether this says yes. Raises WrongUse for what says neither yes nor no."""
    if text.lower() in _YES:
        return True
    if text.lower() in _NO:
        return False
    raise WrongUse(f"{name}={shown(text)} says neither yes nor no", hint=f"{name}=1 or {name}=0")


def number(name: str, text: str) -> int:
    """A whole number. Raises WrongUse."""
    if not re.fullmatch(rf"[0-9]{{1,{MAX_DIGITS}}}", text):
        raise WrongUse(f"{name}={shown(text)} is not a number of at most {MAX_DIGITS} digits")
    return int(text)


def shown(text: str) -> str:
    """What was typed, in quotes, and no longer than a line has room for."""
    return ascii(text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "...")


def _split(separator: str, text: str) -> list[str]:
    return re.split(rf"(?<!\\){separator}", text)


_KINDS: Final[Mapping[str, Callable[[str, str], Any]]] = {"bool": yes, "int": number}
