"""The mesh on the bed as a table: what each datacenter says, how old, and which links are cut."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tests.wan.datacenter import Datacenter
from tests.wan.mesh import Mesh

POLL_S: Final = 0.5
OLD_S: Final = 3.0  # an age that is worth looking at
HISTORY: Final = 6  # of what was said


@dataclass
class Look:
    """What one datacenter last said."""

    total: int | None = None  # None: it doesn't answer, or its rows are being brought back
    own: int = 0
    ages_s: dict[str, float] = field(default_factory=dict)  # the oldest of each datacenter's parts
    alive: int = 0  # of its own instances


class Picture:
    """Asked for by a thread a datacenter, so that a dead one holds up nothing."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._looks = {dc.name: Look() for dc in mesh}
        self._said: list[str] = []
        self._ending = threading.Event()
        self._begun = time.monotonic()
        self.on_say: Callable[[str], object] = lambda _: None

    def say(self, text: str) -> None:
        """What happens now."""
        line = f"{time.monotonic() - self._begun:6.1f} s  {text}"
        self._said.append(line)
        self.on_say(line)

    @contextlib.contextmanager
    def kept_up(self) -> Iterator[None]:
        """Keep asking until the block's end."""
        threads = [threading.Thread(target=self._follow, args=(dc,), daemon=True) for dc in self._mesh]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ending.set()
            for thread in threads:
                thread.join()

    def table(self) -> Group:
        """What is to be shown now."""
        table = Table(title="hitmesh: several datacenters, one number")
        table.add_column("datacenter")
        table.add_column("says", justify="right")
        table.add_column("counted here", justify="right")
        for name in self._looks:
            table.add_column(f"age of {name}", justify="right")
        table.add_column("instances", justify="right")
        for name, look in self._looks.items():
            if look.total is None:
                table.add_row(name, "-", "-", *("-" for _ in self._looks), str(look.alive), style="red")
                continue
            ages = (_age(look.ages_s.get(other)) for other in self._looks)
            table.add_row(name, f"{look.total:,}", f"{look.own:,}", *ages, str(look.alive))
        return Group(table, self._links(), *(Text(line) for line in self._said[-HISTORY:]))

    def _links(self) -> Text:
        text = Text()
        for one, other in self._mesh.bed.links:
            is_cut = self._mesh.bed.is_cut(one, other)
            text.append(f"  {one} {'--x--' if is_cut else '====='} {other}", style="red" if is_cut else "green")
        return text

    def _follow(self, dc: Datacenter) -> None:
        while not self._ending.wait(POLL_S):
            self._looks[dc.name] = _look(dc)


def _look(dc: Datacenter) -> Look:
    alive = sum(whose == dc.name for whose, _ in dc.living())
    try:
        entries = dc.totals().values()
    except (OSError, http.client.HTTPException, AssertionError):
        return Look(alive=alive)
    ages: dict[str, float] = {}
    for entry in entries:
        for name, part in entry["dcs"].items():
            ages[name] = max(ages.get(name, 0.0), part["age_s"])
    if any(entry["total"] is None for entry in entries):
        return Look(alive=alive)
    own = sum(entry["dcs"].get(dc.name, {"count": 0})["count"] for entry in entries)
    return Look(sum(entry["total"] for entry in entries), own, ages, alive)


def _age(age_s: float | None) -> Text:
    if age_s is None:
        return Text("-")
    return Text(f"{age_s:.1f} s", style="bold red" if age_s >= OLD_S else "green")
