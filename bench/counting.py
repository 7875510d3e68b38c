"""A mesh of one of each role, and wrk that hits its collector."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench import seats
from bench.ports import free_block
from hitmesh.cli import folder as state_folder

HERE: Final = Path(__file__).parent
TEMPLATE: Final = HERE / "bench.toml"
BIN: Final = Path(sys.executable).parent
CONNECTIONS: Final = 64


def up(state_dir: Path, template: Path = TEMPLATE, *, embedded: bool) -> str:
    """Start a mesh; the URL of its collector."""
    base = free_block()
    words = ["--config", str(template), "--dcs", "bench", "--state-dir", str(state_dir), "--base-port", str(base)]
    words += [] if embedded else ["--consul", "--beanstalkd"]
    subprocess.run([str(BIN / "hitmesh"), "up", "-d", *words], check=True, stdout=subprocess.DEVNULL)
    return f"http://127.0.0.1:{base + 10}"


def down(state_dir: Path) -> None:
    """Stop it."""
    subprocess.run(
        [str(BIN / "hitmesh"), "down", "--state-dir", str(state_dir)],
        check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def audit(state_dir: Path) -> Any:
    """Its books."""
    found = subprocess.run(
        [str(BIN / "hitmesh"), "audit", "--json", "--state-dir", str(state_dir)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return json.loads(found.stdout)


def load(url: str, script: str, seconds: int) -> float:
    """Hits per second that wrk gets answered."""
    command = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "-s", str(HERE / script)]
    output = subprocess.run([*command, f"{url}/hit/example.com/front"], capture_output=True, text=True, check=True)
    if "Non-2xx" in output.stdout or "Socket errors" in output.stdout:
        print(f"  errors from {url}:\n{output.stdout}", file=sys.stderr)
    found = re.search(r"Requests/sec:\s+([0-9.]+)", output.stdout)
    assert found, output.stdout
    return float(found[1])


class Roles:
    """The processes of a running mesh, by role: its stores and the supervisor are roles here, too."""

    def __init__(self, state_dir: Path) -> None:
        said = subprocess.run(
            [str(BIN / "supervisorctl"), "-c", str(state_folder.conf_path(state_dir)), "status"],
            capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip
        found = re.findall(r"^(?:\S+:)?(\S+)\s+RUNNING\s+pid (\d+),", said, re.MULTILINE)
        self._programs = [(re.sub(r"(^bench-)|(-\d+$)", "", name), int(pid)) for name, pid in found]
        self._supervisor = int(state_folder.pid_path(state_dir).read_text())

    def cpu_s(self) -> Mapping[str, float]:
        """Processor seconds that each has used so far: its programs with their children, the supervisor without."""
        used: dict[str, float] = defaultdict(float)
        for role, pid in self._programs:
            used[role] += seats.cpu_s(pid)
        used["supervisor"] = seats.cpu_s(self._supervisor) - sum(used.values())
        return used
