"""Which other datacenters there are, as one process knows it. Pure.

Owns the rule by which a datacenter counts as there: whoever is listed, was found in the totals, or is
heard now, until somebody says that it is retired. A peer that can't be heard now still has rows of ours;
one that was heard, and never had any rows here, is forgotten with its silence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from hitmesh.state.view import MeshView

UNHEARD: Final = "peers_unheard"
"""Of a Nexus's load: how many other datacenters it should hear, and doesn't."""


class Peers:
    """The other datacenters, seen from `dc`; `listed` are those that its configuration names."""

    def __init__(self, dc: str, listed: Iterable[str]) -> None:
        self._dc = dc
        self._seen = {*listed}
        self._heard: frozenset[str] = frozenset()

    def saw(self, dcs: Iterable[str]) -> None:
        """There are, or were, rows of these."""
        self._seen.update(dcs)

    def known(self, view: MeshView | None, retired: Collection[str]) -> frozenset[str] | None:
        """All that aren't retired; None while there may be more: no Nexus says that it hears everybody."""
        if view is None:
            return None
        self._heard = view.others
        nexuses = view.live("nexus")
        if not view.known or not nexuses or any(one.load.get(UNHEARD, 0) > 0 for one in nexuses):
            return None
        return self.so_far(retired)

    def so_far(self, retired: Collection[str]) -> frozenset[str]:
        """All that aren't retired, as far as anybody has said."""
        return self._heard.union(self._seen).difference(retired, (self._dc,))

    def rooted(self, retired: Collection[str]) -> frozenset[str]:
        """Those that are listed, or have rows here."""
        return frozenset(self._seen).difference(retired, (self._dc,))
