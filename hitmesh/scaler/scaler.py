"""A scaler: a member of its datacenter's mesh that follows the live settings."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from hitmesh.config import Config
from hitmesh.mesh.client import MeshClient
from hitmesh.mesh.network import Network
from hitmesh.mesh.watchdog import Watchdog
from hitmesh.settings import SettingsStore
from hitmesh.settings.live import Live
from hitmesh.store.consul_service import ConsulService

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from hitmesh.metrics.admin import AdminListener

DRY_RUN = "dry_run"
"""Of a scaler's load: 1 of one that changes nothing."""


class Scaler:
    """One scaler process."""

    def __init__(
        self,
        config: Config,
        *,
        name: str,
        settings: SettingsStore,
        network: Network,
        admin: AdminListener | None = None,
        room: Callable[[], Mapping[str, float]] = dict,
        dry_run: bool = False,
    ) -> None:
        self._config, self._name, self._settings = config, name, settings
        self._admin, self._room, self._dry_run = admin, room, dry_run
        self._live = live = Live(config, settings, self._settings_changed)
        self._watchdog = Watchdog()
        endpoints = {} if admin is None else {"admin": admin.url}
        instance_id = f"{name}.{secrets.token_hex(6)}"
        self.mesh = MeshClient(
            config,
            role="scaler",
            name=name,
            instance_id=instance_id,
            endpoints=endpoints,
            network=network,
            load=self._load,
            on_change=lambda view: None,
            late=self._watchdog.late,
            written=lambda: live.written,
            registered=ConsulService.of(config, role="scaler", name=name, instance_id=instance_id, endpoints=endpoints),
        )

    def start(self) -> None:
        """Begin."""
        self._watchdog.start()
        self._live.start()
        self.mesh.start()
        if self._admin is not None:
            self._admin.start(self._collect, self._watchdog.late)

    def stop(self) -> None:
        """Leave; what runs goes on."""
        if self._admin is not None:
            self._admin.stop()
        self.mesh.stop()
        self._watchdog.stop()
        self._live.stop()
        self._settings.close()

    def _settings_changed(self) -> None:
        self.mesh.announce()

    def _load(self) -> dict[str, float]:
        return {DRY_RUN: int(self._dry_run), **self._room(), **self._live.load()}

    def _collect(self) -> Iterator[Metric]:
        from hitmesh.scaler import metrics  # with Prometheus's client, which nobody needs who isn't asked

        return metrics.collect(
            self._config.name, self._name, self.mesh.figures(), lag=self.mesh.lag(),
            is_failing=bool(self._watchdog.late()),
        )  # fmt: skip
