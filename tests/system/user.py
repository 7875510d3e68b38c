"""Somebody at a terminal: runs the commands of a mesh as a user does, in a state folder of the test's."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from hitmesh.config import load
from hitmesh.protocol.pages import partition_of
from hitmesh.store.open import open_store
from hitmesh.store.totals import read_books

HITMESH = [sys.executable, "-m", "hitmesh"]


class User:
    """Somebody at a terminal with a mesh in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str, within_s: float = 90) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*HITMESH, *words, "--state-dir", str(self.folder)],
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def ask(self, *words: str) -> Any:
        answer = self.run(*words, "--json")
        assert answer.stdout, answer.stderr
        return json.loads(answer.stdout)

    def totals(self) -> dict[str, int]:
        return {entry["page"]: entry["total"] for entry in self.ask("top", "-n", "100000")}

    def pid(self, name: str) -> int:
        (found,) = [entry["pid"] for entry in self.ask("status") if entry["name"] == name]
        return int(found)

    def owner_of(self, page: str) -> str:
        """The name of the processor that owns the page's partition, by the head's owner in the books."""
        config = load(self.folder / "eu-west" / "hitmesh.toml")
        store = open_store(config, self.folder / "eu-west")
        try:
            books = {one.partition: one for one in read_books(store, config.name)}
        finally:
            store.close()
        return books[partition_of(page, config.partitions)].owner.split(".")[0]

    def supervised(self) -> list[str]:
        return [entry["name"] for entry in self.ask("status")]


def free_block() -> int:
    """The start of a hundred ports that are all free now."""
    for base in range(33_000, 60_000, 100):
        try:
            for port in range(base, base + 60):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise AssertionError("no hundred free ports")
