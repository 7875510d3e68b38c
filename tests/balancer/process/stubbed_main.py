"""`python -m tests.balancer.process.stubbed_main ...`: the `balancer` command with a worker that is a stub.

It answers a connection with what it was given: its index, kind of socket, name, routes and drain_s.
It drains when told, and not at all if the route's first backend is port 1. A check that went well
then breaks the file that $BROKEN_BY_CHECK names.
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import Any


def run(front: Any, *, index: int, sockets: Any, ready: Any, hung: Any, tell_wanted: Any, generation: int) -> int:
    import signal
    import socket

    import gevent
    import msgspec
    from gevent.event import Event

    stop = Event()
    watcher = gevent.signal_handler(signal.SIGTERM, stop.set)
    assert all(type(sock) is not socket.socket for each in sockets.values() for sock in each), "gevent's sockets"
    backends = [backend for route in front.routes.values() for backend in getattr(route, "backends", ())]
    about = {"index": index, "name": front.name, "backends": backends, "drain_s": front.drain_s, "file": ""}
    about["standalone"] = front.standalone and front.config is None and front.state_dir is None
    if front.config is not None:
        about["file"] = getattr(next(iter(front.routes.values())), "file", "")
    watchers = []
    ready()
    for kind, listeners in sockets.items():
        for listener in listeners:

            def answer(kind: str = kind, listener: Any = listener) -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(msgspec.json.encode({**about, "kind": kind}))

            watchers.append(gevent.get_hub().loop.io(listener.fileno(), 1))
            watchers[-1].start(answer)
    stop.wait()
    while "127.0.0.1:1" in backends:
        gevent.sleep(1)
    watcher.cancel()
    return 0


if __name__ == "__main__":
    module: Any = types.ModuleType("balancer.worker")
    module.run = run
    sys.modules["balancer.worker"] = module
    from balancer.__main__ import main

    try:
        main()
    except SystemExit as end:
        if "--check" in sys.argv and not end.code and "BROKEN_BY_CHECK" in os.environ:
            Path(os.environ["BROKEN_BY_CHECK"]).write_text("broken")
        raise
