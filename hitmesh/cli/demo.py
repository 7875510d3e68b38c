"""A few hits on a mesh that has just started, and their totals: what `hitmesh up --demo` shows."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Sequence
from pathlib import Path

from hitmesh.cli.endpoints import front
from hitmesh.cli.sending import explanation
from hitmesh.cli.totals import Totals, entry, line, read, sum_of
from hitmesh.config import Config
from hitmesh.errors import CommandError

HITS = {"example.com/front": 3, "example.com/about": 1}  # in each datacenter
TIMEOUT_S = 5.0
COMMITTED_S = 10.0  # twice the time after which a hit that was lost on its way comes from the spool
POLL_S = 0.1


def demonstrate(configs: Sequence[Config], state_dir: Path) -> list[str]:
    """Count HITS in each datacenter, wait until the stores have them; the totals, a line each."""
    before = read(state_dir).totals
    for config in configs:
        address = front(config)[0].removeprefix("http://")
        for page, count in HITS.items():
            for _ in range(count):
                _hit(address, page)
    deadline = time.monotonic() + COMMITTED_S
    while True:
        totals = read(state_dir).totals
        if all(_sum(totals, page) >= _sum(before, page) + len(configs) * count for page, count in HITS.items()):
            return [line(entry(page, totals[page])) for page in HITS]
        if time.monotonic() > deadline:
            raise CommandError(f"the hits aren't in the stores after {COMMITTED_S:g} s")
        time.sleep(POLL_S)


def _hit(address: str, page: str) -> None:
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.request("POST", f"/hit/{page}")
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(f"a hit had no answer: {error}", endpoint=address) from error
    if answer.status != http.client.OK:
        raise CommandError(f"a hit was refused: {explanation(body)}", endpoint=address)


def _sum(totals: Totals, page: str) -> int:
    return sum_of(totals.get(page, {}))
