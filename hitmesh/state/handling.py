"""What an operator may do with single instances and backends: who there is, and why not. Pure.

Owns the rules for all who ask on his behalf, a command or a balancer's admin listener.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from hitmesh.config import Config, Proxy, Route
from hitmesh.config.hands import Hands
from hitmesh.errors import CommandError
from hitmesh.mistakes import nearest
from hitmesh.protocol.messages import Instance
from hitmesh.state.dues import told
from hitmesh.state.standing import UP

BACKEND: Final = "backend"  # in the place of a role: one that a route names itself
ROLES: Final = ("collector", "processor", "dashboard", BACKEND)  # that can be drained
SERVED: Final = ("collector", "dashboard", BACKEND)  # that get requests from balancers, by weight


class Known(Struct, frozen=True):
    """An instance or backend of one datacenter."""

    name: str
    role: str
    state: str  # the word of its heartbeats; "-" of one that isn't heard, or has none to send
    place: str = ""  # of a backend the route that names it


def known(config: Config | None, living: Iterable[Instance] | None, routes: Iterable[tuple[str, Route]]) -> list[Known]:
    """Whom the datacenter has: the living, those that its file has, and what its routes name. `living` None: not known."""
    found = {one.name: Known(one.name, one.role, told(one.state)[0]) for one in living or ()}
    for role in ("nexus", *ROLES[:-1], "balancer"):
        for placement in config.instances(role) if config is not None else ():
            found.setdefault(placement.name, Known(placement.name, role, UP if living is None else "-"))
    fixed = [
        Known(text, BACKEND, UP, pattern)
        for pattern, route in routes
        if isinstance(route, Proxy)
        for text in route.backends
    ]
    return [*found.values(), *fixed]


def check_name(name: str, everybody: Sequence[Known]) -> None:
    """Raise CommandError when nobody is called so."""
    if not any(one.name == name for one in everybody):
        names = sorted({one.name for one in everybody})
        raise CommandError(f"no instance or backend is called {name!r}", hint=nearest(name, names))


def check_drain(name: str, everybody: Sequence[Known], hands: Hands, *, force: bool) -> None:
    """Raise CommandError when it can't be drained, or not without `force`: it is the last one of its kind."""
    check_name(name, everybody)
    for one in (each for each in everybody if each.name == name):
        if one.role not in ROLES:
            raise CommandError(
                f"a {one.role} can't be drained: it is asked by whoever knows where it is",
                hint="stop it, it finishes what it has: supervisorctl stop",
            )
        if not left_beside(one, everybody, hands) and not force and name not in hands.drained:
            of = f"backend of the route {one.place}" if one.place else one.role
            raise CommandError(
                f"{name} is the last {of} that is up and not drained: {_then(one.role)}", hint="--force drains it"
            )


def left_beside(one: Known, everybody: Sequence[Known], hands: Hands) -> list[Known]:
    """Who is up, not drained, and does the same work."""
    return [
        each
        for each in everybody
        if (each.role, each.place) == (one.role, one.place)
        and each.name != one.name
        and each.state == UP
        and each.name not in hands.drained
    ]


def check_weight(name: str, everybody: Sequence[Known]) -> None:
    """Raise CommandError when it has no weight."""
    check_name(name, everybody)
    role = next(one.role for one in everybody if one.name == name)
    if role not in SERVED:
        raise CommandError(
            f"a {role} has no weight: no balancer sends it requests", hint=f"those that have one: {', '.join(SERVED)}"
        )


def _then(role: str) -> str:
    return "hits would wait in the spool" if role == "processor" else "requests would wait, and be answered 503"
