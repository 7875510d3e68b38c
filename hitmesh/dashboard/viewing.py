"""A datacenter as its Nexuses show it, and nothing else: a stand-in until there is more to be seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hitmesh import __version__
from hitmesh.dashboard.status import Datacenter, Hits, Instance, Part, SeenFrom, Status, Total
from hitmesh.state.view import MeshView


class View:
    """What can be told of the mesh's picture alone."""

    def __init__(self, dc: str, name: str) -> None:
        self._dc, self._name = dc, name

    def part(self, view: MeshView, roles: tuple[str, ...], now: float) -> Part:
        """This datacenter."""
        instances = [
            Instance(key=one.name, name=one.name, role=one.role, node="", state="up", since=now)
            for role in roles
            for one in view.live(role)
        ]
        return Part(dc=self._dc, at=now, hits=Hits(count=None), instances=instances)

    def status(self, parts: Mapping[str, Part], now: float) -> Status:
        """All of it."""
        return Status(
            ok=True,
            says="all is well",
            now=now,
            seen_from=SeenFrom(dc=self._dc, name=self._name, version=__version__, uptime_s=0.0),
            total=Total(hits=None),
            dcs={
                dc: Datacenter(key=dc, state="up", age_s=now - part.at, hits=part.hits, instances=part.instances)
                for dc, part in parts.items()
            },
        )

    def history(self, dc: str, name: str) -> Any | None:
        """Nothing."""

    def page(self, page: str) -> Any | None:
        """Nothing."""
