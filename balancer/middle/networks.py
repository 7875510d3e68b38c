"""Lists of networks: who is believed, in one thing or another. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from hitmesh.config import network
from hitmesh.errors import ConfigError

_MEMO: Final = 4096  # addresses whose answer is remembered; then all are forgotten


class Networks:
    """Networks in CIDR and single addresses. Raises ConfigError for anything else."""

    def __init__(self, networks: Iterable[str]) -> None:
        try:
            self._networks = tuple(network(text) for text in networks)
        except ValueError as error:
            raise ConfigError(str(error), op="networks") from error
        self._memo: dict[str, bool] = {}

    def contains(self, address: str) -> bool:
        """Whether `address` is in one of them; what isn't an address (a path, nothing) is in none."""
        if not self._networks:
            return False
        known = self._memo.get(address)
        if known is None:
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            known = self._memo[address] = self._look(address)
        return known

    def _look(self, address: str) -> bool:
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        either = (parsed, getattr(parsed, "ipv4_mapped", None) or parsed)
        return any(one in each for each in self._networks for one in either)
