"""Whether all datacenters say the same, page by page: the one number."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.wan.mesh import Mesh

POLL_S: Final = 0.2
SHOWN: Final = 5  # pages in a message
COLLECTORS: Final = (1, 2)

Totals = dict[str, int]


def said(mesh: Mesh, prefix: str, *, collector: int = 1) -> dict[str, Totals]:
    """Every page's total as each datacenter answers it; of a datacenter that doesn't answer nothing."""

    def ask(name: str) -> tuple[str, Totals]:
        try:
            entries = mesh[name].totals(prefix, collector=collector)
        except (OSError, http.client.HTTPException, AssertionError):
            return name, {}
        return name, {page: entry["total"] for page, entry in entries.items()}

    names = mesh.bed.datacenters
    with ThreadPoolExecutor(len(names)) as threads:
        return dict(threads.map(ask, names))


def wait_for_agreement(mesh: Mesh, prefix: str, expected: Mapping[str, int], *, within_s: float) -> float:
    """Wait until every collector everywhere says just this; how long that took. AssertionError with the difference."""
    begun = time.monotonic()
    waiting = list(COLLECTORS)
    while True:
        found = said(mesh, prefix, collector=waiting[0])
        if all(totals == expected for totals in found.values()):
            waiting.pop(0)
            if not waiting:
                return time.monotonic() - begun
            continue
        if time.monotonic() - begun > within_s:
            raise AssertionError(f"no agreement after {within_s:g} s: {_difference(found, expected)}")
        time.sleep(POLL_S)


def _difference(found: Mapping[str, Totals], expected: Mapping[str, int]) -> str:
    parts = []
    for name, totals in found.items():
        wrong = [page for page in expected.keys() | totals.keys() if totals.get(page) != expected.get(page)]
        shown = ", ".join(f"{page} {totals.get(page)} for {expected.get(page)}" for page in sorted(wrong)[:SHOWN])
        parts.append(
            f"{name}: {sum(totals.values())} hits of {sum(expected.values())}, {len(wrong)} pages differ: {shown}"
        )
    return "; ".join(parts)
