"""Which other datacenters there are, as one process knows it. Pure.

Owns the rule by which a datacenter counts as there: whoever was ever listed, heard or found in the
totals, until somebody says that it is retired. A peer that can't be heard now still has rows of ours.
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

    def saw(self, dcs: Iterable[str]) -> None:
        """There are, or were, these."""
        self._seen.update(dcs)

    def known(self, view: MeshView | None, retired: Collection[str]) -> frozenset[str] | None:
        """All that aren't retired; None while there may be more: no Nexus says that it hears everybody."""
        if view is None:
            return None
        self.saw(view.others)
        nexuses = view.live("nexus")
        if not view.known or not nexuses or any(one.load.get(UNHEARD, 0) > 0 for one in nexuses):
            return None
        return self.so_far(retired)

    def so_far(self, retired: Collection[str]) -> frozenset[str]:
        """All that aren't retired, as far as anybody has said."""
        return frozenset(self._seen).difference(retired, (self._dc,))
