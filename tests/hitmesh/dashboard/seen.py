"""Instances and sightings of them, as a Nexus would tell."""

from __future__ import annotations

from collections.abc import Mapping

from hitmesh.dashboard import status
from hitmesh.protocol.formats import THIS
from hitmesh.protocol.messages import Instance
from hitmesh.state.standing import program_of
from hitmesh.state.view import Sighting


def instance(
    name: str,
    *,
    id: str = "",
    state: str = "up",
    load: Mapping[str, float] = {},
    owns: Mapping[int, int] = {},
    dc: str = "eu",
) -> Instance:
    """A process of the role that its name says."""
    role = program_of(name).rpartition("-")[0]
    return Instance(dc, role, name, id or f"{name}.1", state, 4711, 0, {}, dict(load), dict(owns), THIS)


def sighting(one: Instance, number: int, heard: float, *, alive: bool = True) -> Sighting:
    """Of its heartbeat of that number."""
    return Sighting(one, number, heard, alive)


def row(
    name: str, state: status.State = "up", *, failing: bool = False, why: str = "", load: Mapping[str, float] = {}
) -> status.Instance:
    """A row as it is shown."""
    role = program_of(name).rpartition("-")[0]
    return status.Instance(
        key=name, name=name, role=role, node="", state=state, failing=failing, why=why, since=0.0, load=load
    )  # fmt: skip
