"""What operators have said of a datacenter's instances and backends: which are drained, which weigh more or less. Pure.

Each word is a live setting, so that it outlasts whoever is told and reaches who starts later: `drained/<datacenter>/<name>`,
whose only value is `drained`, and `weights/<datacenter>/<name>`, a percentage. A name is an instance's, or HOST:PORT of a
backend that a route names itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from hitmesh.config.addresses import host_port
from hitmesh.config.sections import Name
from hitmesh.errors import ConfigError
from hitmesh.mistakes import mistakes
from hitmesh.protocol.names import is_name

DRAINED: Final = "drained/"  # what follows is a datacenter's name, a slash, and that of an instance or backend
WEIGHTS: Final = "weights/"  # the same
THE_VALUE: Final = "drained"  # the only one of a key of DRAINED
USUAL_PERCENT: Final = 100
MAX_PERCENT: Final = 1000  # ten times its share: more is to drain the others

_PERCENT: Final = re.compile("[1-9][0-9]{0,3}", re.ASCII)


class Hands(Struct, frozen=True):
    """What is in force in one datacenter."""

    drained: frozenset[str] = frozenset()
    weights: Mapping[str, int] = {}  # percent of the share that it would have by itself

    def share(self, name: str) -> float:
        """Of an instance or backend, times how much of its share it gets."""
        return self.weights.get(name, USUAL_PERCENT) / USUAL_PERCENT


def drained_key(dc: str, name: str) -> str:
    """The key by which an instance or backend is drained."""
    return f"{DRAINED}{dc}/{name}"


def weight_key(dc: str, name: str) -> str:
    """The key of its weight."""
    return f"{WEIGHTS}{dc}/{name}"


def is_hand(key: str) -> bool:
    """Whether the key is one of these."""
    return key.startswith((DRAINED, WEIGHTS))


def place_of(key: str) -> tuple[str, str]:
    """Datacenter and name that a key is about. Raises ConfigError."""
    prefix = DRAINED if key.startswith(DRAINED) else WEIGHTS
    dc, _, name = key.removeprefix(prefix).partition("/")
    for problem in mistakes(dc, Name, f"{prefix}<datacenter>/<name>: the datacenter"):
        raise ConfigError(problem)
    if not is_name(name):
        try:
            host_port(name)
        except ValueError as error:
            raise ConfigError(
                f"{prefix}<datacenter>/<name>: the name {name!r} is no instance's, and {error}"
            ) from error
    return dc, name


def words(key: str, text: str | None) -> str:
    """What a change of such a setting says; `text` is None for one that was unset."""
    prefix = DRAINED if key.startswith(DRAINED) else WEIGHTS
    dc, _, name = key.removeprefix(prefix).partition("/")
    if prefix == DRAINED:
        return f"{name} of {dc} was {'undrained' if text is None else 'drained'}"
    return f"{name} of {dc} has {'its own weight again' if text is None else f'a weight of {text}%'}"


def checked(key: str, text: str) -> str:
    """The value in its one way of writing. Raises ConfigError."""
    place_of(key)
    text = text.strip()
    if key.startswith(DRAINED):
        if text != THE_VALUE:
            raise ConfigError(f"{key}: the only value is {THE_VALUE}; unset it to undrain")
    elif not _PERCENT.fullmatch(text) or int(text) > MAX_PERCENT:
        raise ConfigError(
            f"{key}: a weight is a percentage of the usual share, a whole number from 1 to {MAX_PERCENT}, not {text[:60]!r}"
        )
    return text


def gather(values: Mapping[str, str], dc: str) -> Hands:
    """The words about one datacenter, of values that are `checked`."""
    drained, weights = set(), {}
    for key, text in values.items():
        where, name = place_of(key)
        if where == dc and key.startswith(DRAINED):
            drained.add(name)
        elif where == dc:
            weights[name] = int(text)
    return Hands(frozenset(drained), weights)
