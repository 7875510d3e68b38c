"""A role's admin listener, at `ports.ROLE_admin`: bound when the role is made, served from its start on.

Whoever asks there, however often, takes little from the role's work: see `hitmesh.hub.listener`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client.core import Metric

from hitmesh.config import Config, host_port_text, is_loopback
from hitmesh.errors import ConfigError
from hitmesh.http.access import Access, MetricsAccess
from hitmesh.hub.listener import Listener
from hitmesh.metrics.app import HEADERS, TraceAnswer, make_app
from hitmesh.metrics.text import encoded, registry

PLACES: Final = 64  # a few Prometheus servers, and people; so many files less for the role
TURN_S: Final = 0.02  # between two answers, whoever asks: to tell everything takes 2 ms of the hub's time


class AdminListener:
    """Of one process. Raises ConfigError when it can't listen there."""

    def __init__(self, config: Config, host: str, port: int) -> None:
        try:
            self._listener = Listener(host, port, headers=HEADERS, places=PLACES, turn_s=TURN_S)
        except OSError as error:
            where = host_port_text(host, port)
            raise ConfigError(f"{where}: can't be listened at, for /metrics: {error.strerror}") from error
        self.url = f"http://{host_port_text(*self._listener.own)}"
        metrics = config.metrics
        looks = config.dashboard  # who may see the names of pages there may see them here
        self._access = Access(
            "",
            hosts_of(config),
            MetricsAccess(metrics.token, is_open=metrics.open),
            MetricsAccess(looks.token, is_open=looks.open or is_loopback(host)),
        )

    def start(
        self, collect: Callable[[], Iterable[Metric]], late: Callable[[], str], trace: TraceAnswer | None = None
    ) -> None:
        """Begin to answer: with what `collect` yields, and `late`, why the role fails to do its work, or nothing.

        `trace` tells what the role remembers of pages, requests or batches, of as many of them as are asked for.
        """
        made = registry(collect)
        self._listener.start(make_app(lambda accept: encoded(made.collect(), accept), late, self._access, trace))

    def stop(self) -> None:
        """Answer no more."""
        self._listener.stop()


def hosts_of(config: Config) -> list[str]:
    """The names by which a datacenter's hosts are asked."""
    return [each for node in config.nodes.values() for each in (node.address, node.wan_address) if each]
