"""A whole mesh under supervisord, as a user runs it; every kind of process is killed with SIGKILL
while an access log is replayed, and comes back. The counts must be exact all the same.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from hitmesh.cli import folder as state_folder
from tests.services import require, wait_for
from tests.system.user import PATIENCE_S, SETTLED_S, User, free_block

HITS = 2_000  # of one replay while everything is killed: a few seconds
AGAIN = 500  # hits after all the kills
REPLAY_S = 600.0  # for 10,000 hits; two cores that are busy otherwise take 200 a second, or fewer


@pytest.fixture(scope="module", params=["embedded", "real"])
def user(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A mesh on each kind of store, whose tests have a site each."""
    folder = tmp_path_factory.mktemp(request.param)
    template = folder / "template.toml"
    text = state_folder.shipped("config/dev.toml").read_text()
    template.write_text(
        text.replace("dashboard = 1 ", "dashboard = 0 ", 1).replace("recorder = 1 ", "recorder = 0 ", 1)
    )
    user = User(folder / "var")
    words = ["up", "-d", "--config", str(template), "--dcs", "eu-west", "--base-port", str(free_block())]
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


def is_back(user: User, name: str, pid: int) -> bool:
    return user.pid(name) not in (0, pid)


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


def totals(user: User, site: str) -> dict[str, int]:
    """The totals of a site's pages."""
    return {page: total for page, total in user.totals().items() if page.partition("/")[0] == site}


def as_page(path: str) -> str:
    """What a request for this path counts, said independently of our parser."""
    raw = unquote_to_bytes(path)
    try:
        text = raw.decode()
        if any(ord(char) < 32 for char in text) or {".", ".."} & set(text.split("/")):
            text = path
    except UnicodeDecodeError:
        text = path
    return "counted.example" + text.removesuffix("/")


@pytest.mark.parametrize("user", ["embedded"], indirect=True)  # how a line is read is the same whatever it is stored in
def test_a_replayed_log_is_counted_page_by_page(user: User, access_log: Path) -> None:
    words = ["replay", str(access_log), "--site", "counted.example", "--concurrency", "16"]
    replayed = user.ask(*words, within_s=REPLAY_S)
    assert (replayed["sent"], replayed["accepted"], replayed["failed"]) == (10_000, 10_000, 0)
    pages: Counter[str] = Counter()
    for path, number in expected(access_log).items():
        pages[as_page(path)] += number
    wait_for(
        lambda: sum(totals(user, "counted.example").values()) == 10_000, within_s=SETTLED_S, what="the last commit"
    )
    assert totals(user, "counted.example") == pages


class Replays(threading.Thread):
    """Sends the first hits of an access log again and again until `stop`, all of them each time."""

    def __init__(self, user: User, log: Path, site: str) -> None:
        super().__init__(daemon=True)
        self.sent: Counter[str] = Counter()  # as the reports have it
        self._words = ["replay", str(log), "--site", site, "--concurrency", "8", "--limit", str(HITS), "--json"]
        self._user = user
        self._ending = threading.Event()

    def run(self) -> None:
        while not self._ending.is_set():
            report = json.loads(self._user.run(*self._words, within_s=REPLAY_S).stdout)
            self.sent.update({key: report[key] for key in ("sent", "accepted", "unanswered")})

    def stop(self) -> None:
        self._ending.set()
        self.join()


def test_kill_9_of_everything_loses_and_doubles_nothing(user: User, access_log: Path) -> None:
    site = "killed.example"
    replays = Replays(user, access_log, site)
    replays.start()
    try:
        wait_for(lambda: sum(totals(user, site).values()) > 300, within_s=PATIENCE_S, what="the first hits")
        names = ["collector-1", user.owner_of(f"{site}/favicon.ico"), "nexus-1"]
        names += [name for name in user.supervised() if name in ("beanstalkd-1", "consul-1")]
        for name in names:
            pid = user.pid(name)
            os.kill(pid, signal.SIGKILL)
            wait_for(partial(is_back, user, name, pid), within_s=PATIENCE_S, what=f"{name} to be back")
    finally:
        replays.stop()
    first = replays.sent
    assert first["sent"] >= HITS
    assert first["sent"] % HITS == 0
    wait_for(
        lambda: user.ask("audit")["balanced"] and not user.ask("audit")["spooled"] + user.ask("audit")["in_flight"],
        within_s=SETTLED_S,
        what="balanced books",
    )
    counted = sum(totals(user, site).values())
    assert first["accepted"] <= counted <= first["accepted"] + first["unanswered"], first
    again = ["replay", str(access_log), "--site", site, "--concurrency", "16", "--limit", str(AGAIN)]
    second = user.ask(*again, within_s=REPLAY_S)
    assert second["accepted"] == AGAIN
    wait_for(
        lambda: sum(totals(user, site).values()) == counted + AGAIN, within_s=SETTLED_S, what="an exact second replay"
    )
