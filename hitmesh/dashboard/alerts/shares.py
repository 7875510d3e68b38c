"""Which share of the balancers' requests were answered with an error, in the last minute. Pure: `now` comes in."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from hitmesh.dashboard.status import Instance
from hitmesh.state.standing import DEAD, SILENT

WINDOW_S: Final = 60.0
STEP_S: Final = 5.0  # what is added up together: a window has a dozen of these
LEAST: Final = 50  # answers in the window, below which a single error would be a share


class Share(Struct, frozen=True):
    """Of the answers of a window."""

    errors: int = 0
    answers: int = 0  # 0: fewer than LEAST


class Shares:
    """The answers of a datacenter's balancers, from what each says that it has counted since it began."""

    def __init__(self) -> None:
        self._counted: dict[str, tuple[int, int]] = {}  # by balancer: errors and answers
        self._steps: deque[tuple[float, int, int]] = deque()  # since when, errors, answers

    def look(self, instances: Sequence[Instance], now: float) -> Share | None:
        """The share as of now; None where there are balancers, and none is heard."""
        balancers = [row for row in instances if row.role == "balancer"]
        heard = [row for row in balancers if row.state not in (DEAD, SILENT) and "requests" in row.load]
        if balancers and not heard:
            return None
        errors = answers = 0
        for row in heard:
            counted = int(row.load.get("failed", 0)), int(row.load["requests"])
            before = self._counted.get(row.name, counted)  # what was before we looked isn't of this minute
            if counted[1] < before[1]:
                before = (0, 0)  # it has begun anew
            errors += max(0, counted[0] - before[0])
            answers += counted[1] - before[1]
            self._counted[row.name] = counted
        if not self._steps or now - self._steps[-1][0] >= STEP_S:
            self._steps.append((now, errors, answers))
        else:
            began, *sums = self._steps[-1]
            self._steps[-1] = began, sums[0] + errors, sums[1] + answers
        while now - self._steps[0][0] > WINDOW_S:
            self._steps.popleft()
        share = Share(sum(each[1] for each in self._steps), sum(each[2] for each in self._steps))
        return share if share.answers >= LEAST else Share()
