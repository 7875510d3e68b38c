"""The admin listener of a role's process, where it is to have one: its modules, and Prometheus's client, are imported then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hitmesh.config import Config, Role

if TYPE_CHECKING:
    from hitmesh.metrics.admin import AdminListener


def open_admin(config: Config, role: Role, name: str) -> AdminListener | None:
    """That of an instance; None where the configuration wants none. Raises ConfigError."""
    placement = config.placement(role, name)
    if placement.admin_port is None:
        return None
    from hitmesh.metrics.admin import AdminListener

    return AdminListener(config, placement.address, placement.admin_port)
