"""The collector as a process: gunicorn in the foreground. Its master isn't patched by gevent."""

from __future__ import annotations

from pathlib import Path

from hitmesh.collector.server import CollectorApplication
from hitmesh.config import Config, host_port_text


def run(config: Config, *, name: str, state_dir: Path, listen: str | None = None) -> int:
    """Run one collector until SIGTERM or SIGINT; the exit status.

    `listen` is HOST:PORT; without it the configured place, or any free port for a name that
    isn't configured.
    """
    placement = config.placement("collector", name)
    address = listen or host_port_text(placement.address, placement.port or 0)
    try:
        CollectorApplication(config, name=name, state_dir=state_dir, listen=address).run()
    except SystemExit as end:  # gunicorn's way to say how it went
        return end.code if isinstance(end.code, int) else 1
    return 0
