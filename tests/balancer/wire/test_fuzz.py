"""A little of bench/fuzz.py, which does it a million times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COUNT = 4000
REPOSITORY = Path(__file__).resolve().parents[3]


def test_thousands_of_mutated_connections_are_answered_or_closed_and_nothing_is_lost() -> None:
    command = [sys.executable, "-m", "bench.fuzz", "--count", str(COUNT)]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{COUNT} connections" in ran.stdout
