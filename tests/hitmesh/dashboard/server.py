"""A dashboard without a mesh: it serves the page, and plays to it whatever statuses a test or a person has it show.

`python -m tests.hitmesh.dashboard.server` is for looking at the page in a browser.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec.structs import replace

from hitmesh import dashboard
from hitmesh.dashboard.status import Datacenter, Instance, Page, PagePart, Status
from tests.hitmesh.dashboard import samples

STATIC: Final = Path(dashboard.__file__).parent / "static"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
TICK_S: Final = 1.0
# What grows in an instance's load, and by how much with each heartbeat.
GROWTH: Final = {"hits": 343.0, "accepted": 343.0, "acked": 343.0, "requests": 691.0}


def streamed(value: Any) -> Any:
    """The stream's form: every list of objects with a key is an object by key."""
    if isinstance(value, Mapping):
        return {key: streamed(each) for key, each in value.items()}
    if isinstance(value, list) and value and all(isinstance(each, Mapping) and "key" in each for each in value):
        return {each["key"]: streamed(each) for each in value}
    return value


def patch(before: Any, after: Any) -> dict[str, Any]:
    """The merge patch (RFC 7396) from one document to the other."""
    found: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            if changes := patch(old, value):
                found[key] = changes
        elif key not in before or value != old:
            found[key] = value
    return found


def beaten(status: Status, beats: int, now: float) -> Status:
    """The same `beats` heartbeats later: of those that live, and with the hits that came meanwhile."""

    def instance(one: Instance) -> Instance:
        if one.state == "dead" or not one.beats:
            return one
        load = {name: value + beats * GROWTH.get(name, 0.0) for name, value in one.load.items()}
        return replace(one, beats=one.beats + beats, heartbeat_age_s=0.1, load=load)

    def datacenter(dc: Datacenter) -> Datacenter:
        if dc.state != "up":
            return dc
        hits = replace(dc.hits, count=(dc.hits.count or 0) + int(beats * dc.hits.per_s))
        return replace(dc, hits=hits, instances=[instance(one) for one in dc.instances])

    dcs = {name: datacenter(dc) for name, dc in status.dcs.items()}
    hits = sum(dc.hits.count or 0 for dc in dcs.values())
    return replace(status, now=now, dcs=dcs, total=replace(status.total, hits=hits))


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer it."""
        stage = cast(Stage, self.server)
        target = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(target.query).items()}
        if target.path == "/events":
            self._play(stage)
        elif target.path == "/history.json":
            stage.asked.append(asked)
            self._answer(msgspec.json.encode(stage.history), "application/json")
        elif target.path == "/page.json":
            self._answer(msgspec.json.encode(stage.page(asked.get("page", ""))), "application/json")
        else:
            name = "index.html" if target.path == "/" else target.path.removeprefix("/static/")
            file = STATIC / name
            if file.parent == STATIC and file.is_file():
                self._answer(file.read_bytes(), TYPES[file.suffix])
            else:
                self._answer(b"{}", "application/json", status=404)

    def _answer(self, body: bytes, kind: str, *, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def _play(self, stage: Stage) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):
            for kind, data in stage.told():
                self.wfile.write(f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Stage(ThreadingHTTPServer):
    """Shows one status after the other, to whoever listens."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, status: Status, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.asked: list[dict[str, str]] = []
        self.history: Sequence[Mapping[str, object]] = samples.parts_of_minutes(time.time())
        self._turn = threading.Condition()
        self._document = streamed(msgspec.to_builtins(status))
        self._number = 0
        self._ended = False
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_port}/"

    def show(self, status: Status) -> None:
        """From now on this is how it is."""
        with self._turn:
            self._document = streamed(msgspec.to_builtins(status))
            self._number += 1
            self._turn.notify_all()

    def told(self) -> Iterator[tuple[str, Any]]:
        """The events of one stream: the whole, then what changes, and a tick each second."""
        shown, number = self._wait(-1, 0.0)
        yield "status", shown
        ticks_at = time.monotonic() + TICK_S
        while not self._ended:
            after, number = self._wait(number, ticks_at - time.monotonic())
            if changes := patch(shown, after):
                shown = after
                yield "patch", changes
            if time.monotonic() >= ticks_at:
                ticks_at += TICK_S
                yield "tick", {"now": time.time()}

    def _wait(self, number: int, within_s: float) -> tuple[Any, int]:
        """What is shown, and its number: another than `number`, unless that takes too long."""
        with self._turn:
            self._turn.wait_for(lambda: self._ended or self._number != number, max(0.0, within_s))
            return self._document, self._number

    def page(self, name: str) -> Page:
        """What it says of any page."""
        parts = [PagePart(key="eu-west", count=1_000, age_s=0.2), PagePart(key="us-west", count=234, age_s=1.5)]
        return Page(
            page=name, total=1_234, parts=parts, dc="eu-west", instance="collector-2", minutes=[each % 17 for each in range(60)]
        )  # fmt: skip

    def close(self) -> None:
        """End it, and all streams."""
        with self._turn:
            self._ended = True
            self._turn.notify_all()
        self.shutdown()
        self.server_close()


def main() -> None:
    """Play one of the samples until it is interrupted."""
    named = sys.argv[1] if len(sys.argv) > 1 else "healthy"
    status: Status = getattr(samples, named)(time.time())
    stage = Stage(status, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    sys.stdout.write(f"{stage.url} shows {named}\n")
    sys.stdout.flush()
    began = time.monotonic()
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(0.5)
            stage.show(beaten(status, int(time.monotonic() - began), time.time()))


if __name__ == "__main__":
    main()
