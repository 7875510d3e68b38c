"""Clients of a mesh on the bed, each on its datacenter's host for clients: guests, and `hitmesh replay`."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from hitmesh.cli.accesslog import hit_path
from hitmesh.protocol.pages import page_from_path
from tests.system.visitors import ANSWER_S, PAUSE_S, Visitor
from tests.wan.datacenter import Datacenter

HITMESH: Final = [sys.executable, "-m", "hitmesh"]
REPLAY_S: Final = 900.0  # two cores that are busy otherwise take 200 hits/s


@dataclass(frozen=True)
class Part:
    """A datacenter's part of an answered total."""

    asked: float  # monotonic
    at: float  # when it was answered
    page: str
    dc: str
    age_s: float


class Guest(Visitor):
    """Hits pages at one collector of its datacenter, one request at a time: only a collector's own answers never fall.

    Beside what every answer must be: a datacenter's own part of a total never falls either, also when that
    datacenter has lost everything; and of a part that was known something is known for ever.
    """

    def __init__(
        self,
        dc: Datacenter,
        pages: Sequence[str],
        *,
        collector: int = 1,
        pause_s: float = PAUSE_S,
        counts: Mapping[tuple[str, str], int] | None = None,
    ) -> None:
        """`counts` are parts that must never be undercut, by page and datacenter."""
        super().__init__(dc.collector(collector), pages, pause_s=pause_s)
        self.dc = dc
        self.counts = dict(counts or {})
        self.parts: list[Part] = []
        self.times_s: list[float] = []

    def run(self) -> None:
        self.dc.client.enter()
        super().run()

    def request(self, method: str, path: str) -> tuple[int, Any] | None:
        if self._connection is None:
            connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=ANSWER_S)
            try:
                connection.connect()
            except ConnectionRefusedError:  # nobody has seen this request: it isn't counted
                return http.client.SERVICE_UNAVAILABLE, {"title": "Not counted"}
            except OSError:
                return None
            self._connection = connection
        return super().request(method, path)

    def ask(self, page: str) -> None:
        began = time.monotonic()
        answer = self.request("POST", f"/hit/{page}")
        now = time.monotonic()
        self.times_s.append(now - began)
        if answer is None:
            self.failed[page] += 1
        elif answer[0] == http.client.OK:
            self.accepted[page] += 1
            self._look(began, now, page, answer[1])
        elif answer[1]["title"] == "Not counted":
            self.refused[page] += 1
        else:
            self.failed[page] += 1

    def _look(self, asked: float, now: float, page: str, answer: Mapping[str, Any]) -> None:
        # None while this datacenter's own rows are being brought back: said to be unknown, not to be less.
        self.saw(page, answer["total"], more=1)
        if answer["total"] is None:
            return
        parts = answer["dcs"]
        for dc, part in parts.items():
            before = self.counts.get((page, dc), 0)
            if part["count"] < before:
                self.wrong.append(f"{page}: {dc}'s part was {before}, and then {part['count']}")
            self.counts[page, dc] = part["count"]
            self.parts.append(Part(asked, now, page, dc, part["age_s"]))
        gone = [dc for named, dc in self.counts if named == page and dc not in parts]
        if gone:
            self.wrong.append(f"{page}: no part of {', '.join(gone)} any more")
        if sum(part["count"] for part in parts.values()) != answer["total"]:
            self.wrong.append(f"{page}: {answer}: the parts don't sum to the total")

    @property
    def troubles(self) -> int:
        """Requests that weren't answered 200."""
        return self.failed.total() + self.refused.total()

    def ages_of(self, dc: str, since: float, until: float) -> list[float]:
        """The ages of that datacenter's parts in answers of a span of time, in order."""
        return [part.age_s for part in self.parts if part.dc == dc and since <= part.at < until]


def pages_in(log: Path, site: str, *, limit: int | None = None) -> Counter[str]:
    """The hits that an access log stands for, or the first so many of them."""
    with log.open(errors="surrogateescape") as lines:
        return Counter(page_from_path(hit_path(line, site=site)) for line in islice(lines, limit))


@dataclass(frozen=True)
class Replayed:
    """What `hitmesh replay` said."""

    accepted: int
    failed: int
    seconds: float
    reasons: Mapping[str, int]


def replay_into(
    datacenters: Iterable[Datacenter], log: Path, site: str, *, clients: int = 8, limit: int | None = None
) -> dict[str, Replayed]:
    """Replay a log, or its first hits, into all of these at once, with so many clients each; by datacenter."""
    running: dict[str, subprocess.Popen[str]] = {}
    try:
        for dc in datacenters:
            options = ["--to", dc.url, "--site", site, "--concurrency", str(clients), "--json"]
            options += ["--limit", str(limit)] if limit is not None else []
            with dc.client.inside():
                running[dc.name] = subprocess.Popen(
                    [*HITMESH, "replay", str(log), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
        found = {}
        for name, process in running.items():
            out, err = process.communicate(timeout=REPLAY_S)
            assert out, f"{name}: {err}"
            said = json.loads(out)
            found[name] = Replayed(said["accepted"], said["failed"], said["seconds"], said["reasons"])
        return found
    finally:
        for process in running.values():
            process.kill()
            process.wait()
