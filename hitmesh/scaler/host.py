"""How much room this host has, as its kernel says: CPUs, the share of them in use, memory that can be had."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hitmesh.scaler.figures import CPUS, FREE_MB, HOST_BUSY

STEP_MB: Final = 64  # told in multiples of this: each change is told to the whole mesh
LOOK_S: Final = 5.0  # looked back: a peak of a second is no reason to start nothing here


class HostMeter:
    """Of this host. `proc` is where the kernel tells."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._at = float("-inf")
        self._before: tuple[int, int] | None = None
        self._load: dict[str, float] = {}

    def load(self) -> Mapping[str, float]:
        """The figures of heartbeats; those that can't be told aren't there."""
        now = time.monotonic()
        if now - self._at >= LOOK_S:
            self._at = now
            self._load = {CPUS: float(len(os.sched_getaffinity(0))), **self._memory(), **self._used()}
        return self._load

    def _used(self) -> dict[str, float]:
        times = cpu_times(_text(self._proc / "stat"))
        before, self._before = self._before, times
        if before is None or times is None or times[1] <= before[1]:
            return {}
        return {HOST_BUSY: round((times[0] - before[0]) / (times[1] - before[1]), 2)}

    def _memory(self) -> dict[str, float]:
        free_mb = available_mb(_text(self._proc / "meminfo"))
        return {} if free_mb is None else {FREE_MB: free_mb // STEP_MB * STEP_MB}


def cpu_times(stat: str) -> tuple[int, int] | None:
    """Ticks in which CPUs worked, and all of them, since the boot, of /proc/stat (proc(5)); None: it doesn't say."""
    words = stat.partition("\n")[0].split()
    if len(words) < 9 or words[0] != "cpu" or not all(word.isdecimal() for word in words[1:9]):
        return None
    ticks = [int(word) for word in words[1:9]]  # user nice system idle iowait irq softirq steal
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def available_mb(meminfo: str) -> float | None:
    """What may be taken without swapping, of /proc/meminfo; None: it doesn't say."""
    for line in meminfo.splitlines():
        key, _, rest = line.partition(":")
        words = rest.split()
        if key == "MemAvailable" and words and words[0].isdecimal():
            return float(int(words[0]) // 1024)
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
