"""A whole mesh under supervisord, as a user runs it; every kind of process is killed with SIGKILL
while an access log is replayed, and comes back. The counts must be exact all the same.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hitmesh.protocol.pages import partition_of
from tests.services import require, wait_for

HITMESH = [sys.executable, "-m", "hitmesh"]


class User:
    """Somebody at a terminal with a mesh in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str, within_s: float = 90) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*HITMESH, *words, "--state-dir", str(self.folder)], capture_output=True, text=True, timeout=within_s
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
        from hitmesh.config import load
        from hitmesh.store.open import open_store
        from hitmesh.store.totals import read_books

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


@pytest.fixture(params=["embedded", "real"])
def user(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[User]:
    user = User(tmp_path / "var")
    words = ["up", "-d", "--dcs", "eu-west", "--base-port", str(free_block())]
    if request.param == "real":
        require("consul")
        require("beanstalkd")
        words += ["--consul", "--beanstalkd"]
    started = user.run(*words)
    try:
        assert started.returncode == 0, started.stderr
        yield user
    finally:
        user.run("down")


def expected(log: Path) -> Counter[str]:
    """The log's pages, counted by awk: not by our parser. Only what awk's fields can say: the path's text."""
    found = subprocess.run(
        ["awk", r"""{ p = $7; sub(/\?.*/, "", p); n[p]++ } END { for (p in n) print n[p] "\t" p }""", str(log)],
        capture_output=True, check=True,
    )  # fmt: skip
    counts: Counter[str] = Counter()
    for line in found.stdout.splitlines():
        number, _, path = line.partition(b"\t")
        counts[path.decode("latin-1")] += int(number)
    return counts


def as_page(path: str) -> str:
    """What a request for this path counts, said independently of our parser."""
    from urllib.parse import unquote_to_bytes

    raw = unquote_to_bytes(path)
    try:
        text = raw.decode()
        if any(ord(char) < 32 for char in text):
            text = path
    except UnicodeDecodeError:
        text = path
    return "example.com" + text.removesuffix("/")


def test_a_replayed_log_is_counted_page_by_page(user: User, access_log: Path) -> None:
    replayed = user.ask("replay", str(access_log), "--concurrency", "16")
    assert (replayed["sent"], replayed["accepted"], replayed["failed"]) == (10_000, 10_000, 0)
    pages: Counter[str] = Counter()
    for path, number in expected(access_log).items():
        pages[as_page(path)] += number
    wait_for(lambda: sum(user.totals().values()) == 10_000, what="the last commit")
    assert user.totals() == pages


def test_kill_9_of_everything_loses_and_doubles_nothing(user: User, access_log: Path) -> None:
    replay = subprocess.Popen(
        [*HITMESH, "replay", str(access_log), "--json", "--state-dir", str(user.folder), "--concurrency", "8"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: sum(user.totals().values()) > 300, within_s=30, what="the first hits")
        names = ["collector-1", user.owner_of("example.com/favicon.ico"), "nexus-1"]
        names += [name for name in user.supervised() if name in ("beanstalkd-1", "consul-1")]
        for name in names:
            pid = user.pid(name)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda name=name, pid=pid: user.pid(name) not in (0, pid), within_s=20, what=f"{name} to be back")
        last_kill_s = time.monotonic()
        stdout, stderr = replay.communicate(timeout=240)
    finally:
        replay.kill()
    assert stdout, stderr
    first = json.loads(stdout)
    assert first["sent"] == 10_000
    wait_for(
        lambda: user.ask("audit")["balanced"] and not user.ask("audit")["spooled"] + user.ask("audit")["in_flight"],
        within_s=max(15.0, 15.0 - (time.monotonic() - last_kill_s)),
        what="balanced books",
    )
    counted = sum(user.totals().values())
    assert first["accepted"] <= counted <= first["accepted"] + first["unanswered"], first
    second = user.ask("replay", str(access_log), "--concurrency", "16")
    assert second["accepted"] == 10_000
    wait_for(lambda: sum(user.totals().values()) == counted + 10_000, within_s=15, what="an exact second replay")
