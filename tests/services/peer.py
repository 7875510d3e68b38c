"""An instance that only is there: run as a process, with its datacenter's TOML on stdin.

    python -m tests.services.peer ROLE NAME [owns=PARTITION:EPOCH,...] [die=GREENLET]

Prints a line of JSON for every change of its view.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json
import logging
import secrets
import signal
import sys
import tomllib

import gevent
import zmq.green
from gevent.event import Event

from hitmesh.config import parse
from hitmesh.mesh.client import MeshClient
from hitmesh.mesh.network import Network
from hitmesh.state.view import MeshView


def main() -> None:
    role, name, *rest = sys.argv[1:]
    options = dict(option.split("=", 1) for option in rest)
    config = parse(tomllib.loads(sys.stdin.read()), source="stdin")
    logging.basicConfig(level=logging.INFO)
    claims = (pair.split(":") for pair in options.get("owns", "").split(",") if pair)
    owns = {int(partition): int(epoch) for partition, epoch in claims}

    def show(view: MeshView) -> None:
        if options.get("fail") == "on_change":
            raise RuntimeError("on purpose")
        live = {each: [one.name for one in view.live(each)] for each in ("nexus", "processor", "collector")}
        print(json.dumps({"live": live, "connected": view.connected, "known": view.known}), flush=True)

    client = MeshClient(
        config,
        role=role,  # type: ignore[arg-type]
        name=name,
        instance_id=f"{name}-{secrets.token_hex(4)}",
        endpoints={},
        network=Network(zmq.green.Context()),
        load=lambda: {"queue": float("nan")},
        owns=lambda: owns,
        on_change=show,
    )
    client.start()
    stop = Event()
    gevent.signal_handler(signal.SIGTERM, stop.set)
    stop.wait()
    client.stop()


if __name__ == "__main__":
    main()
