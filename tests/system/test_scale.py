"""`hitmesh scale` on a running mesh under load: nothing fails, and every hit is counted once."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hitmesh.cli import folder as state_folder
from hitmesh.cli import picture, scaling, sections
from hitmesh.cli.main import run
from hitmesh.cli.processes import started
from hitmesh.mesh.keyring import read_list
from hitmesh.state.ownership import rendezvous
from tests.services import wait_for
from tests.system.user import DC, HITMESH, PATIENCE_S, PATIENT, STOPPED_S, User, mesh, up_again

SITE = "scale.example"
CONCURRENCY = 4
REPLAY_S = 300.0
GOODBYE_S = 30.0  # half of what it takes to notice a silence
HITS = 2_000  # of one replay: a few seconds


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A datacenter with a balancer, of a size that every test leaves as it was: two of each, one balancer."""
    with mesh(tmp_path_factory.mktemp("scale"), timing=PATIENT, balancer=1) as user:
        yield user
        user.wait_until_settled()
        user.assert_balanced()


def scale(user: User, *words: str) -> Any:
    answer = user.run("scale", "--dc", DC, *words, "--json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def refused(user: User, *words: str) -> str:
    """What it says; and nothing has changed."""
    before, programs = files(user), user.supervisorctl("avail")
    answer = user.run("scale", *words)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert (files(user), user.supervisorctl("avail")) == (before, programs)
    return answer.stderr


def files(user: User) -> dict[str, str]:
    paths = (user.config_path, user.config_path.with_name("scaled.json"), state_folder.conf_path(user.folder))
    return {path.name: path.read_text() if path.exists() else "" for path in paths}


def running(user: User, role: str) -> list[str]:
    """The instances of a role that supervisorctl shows, all of which must run."""
    lines = [line.split() for line in user.supervisorctl("status").splitlines()]
    found = [(words[0], words[1]) for words in lines if words[0].startswith(f"{DC}-{role}-")]
    assert {state for _, state in found} <= {"RUNNING", "STARTING"}, found
    return [name.removeprefix(f"{DC}-") for name, _ in found]


def numbered(role: str, count: int) -> list[str]:
    return [f"{role}-{number}" for number in range(1, count + 1)]


def shares(user: User, count: int) -> dict[int, str]:
    names = numbered("processor", count)
    return {partition: rendezvous(partition, names) for partition in range(user.config.partitions)}


def replay(log: Path, site: str) -> list[str]:
    return ["replay", str(log), "--site", site, "--concurrency", str(CONCURRENCY), "--limit", str(HITS)]


class Replays(threading.Thread):
    """Sends the same hits of an access log through the balancer again and again until `stop`, all of them each time."""

    def __init__(self, user: User, log: Path, site: str) -> None:
        super().__init__(daemon=True)
        self.reports: list[dict[str, Any]] = []
        self._words = [*replay(log, site), "--json"]
        self._user = user
        self._ending = threading.Event()

    def run(self) -> None:
        while not self._ending.is_set():
            self.reports.append(json.loads(self._user.run(*self._words, within_s=REPLAY_S).stdout))

    def stop(self) -> None:
        self._ending.set()
        self.join()


@contextlib.contextmanager
def replayed(user: User, log: Path, site: str) -> Iterator[None]:
    """Hits through the balancer meanwhile, none of which may fail, and all of which are counted once."""
    once = user.run(*replay(log, f"once.{site}"), within_s=REPLAY_S)
    assert once.returncode == 0, once.stderr
    replays = Replays(user, log, site)
    replays.start()
    try:
        wait_for(lambda: any(page.startswith(site) for page in user.committed(site)), within_s=PATIENCE_S, what="hits")
        yield
    finally:
        replays.stop()
    assert [(report["failed"], report["reasons"]) for report in replays.reports if report["failed"]] == []
    user.wait_until_settled()
    expected = {
        page.removeprefix("once."): count * len(replays.reports)
        for page, count in user.committed(f"once.{site}").items()
    }
    assert sum(expected.values()) == sum(report["accepted"] for report in replays.reports)
    assert user.committed(site) == expected


# --- more, and fewer ----------------------------------------------------------------------------


def test_it_grows_and_shrinks_under_load_and_everybody_agrees(user: User, access_log: Path) -> None:
    with replayed(user, access_log, SITE):
        grown = scale(user, "collector=4", "processor=3", "balancer=2")
        assert grown["roles"] == {
            "collector": {"from": 2, "to": 4}, "processor": {"from": 2, "to": 3}, "balancer": {"from": 1, "to": 2},
        }  # fmt: skip
        assert (grown["started"], grown["stopped"]) == (["processor-3", "collector-3", "collector-4", "balancer-2"], [])
        assert user.owned() == shares(user, 3)  # when it returns, not some time afterwards
        assert set(numbered("collector", 4)) | {"processor-3", "balancer-2"} <= set(user.living())
        assert [running(user, role) for role in ("collector", "processor", "balancer")] == [
            numbered("collector", 4), numbered("processor", 3), numbered("balancer", 2),
        ]  # fmt: skip
        assert {entry["name"]: entry["state"] for entry in user.ask("status") if entry["name"] == "collector-4"} == {
            "collector-4": "up"
        }
        endpoints = user.ask("endpoints")[DC]
        assert (len(endpoints["collector"]), len(endpoints["balancer"])) == (4, 2)
        assert endpoints["collector"] == user.collectors()  # on the ports of its block, not on any

        shrunk = scale(user, "collector=2", "processor=2", "balancer=1")
        assert (shrunk["started"], shrunk["stopped"]) == (
            [],
            ["balancer-2", "collector-4", "collector-3", "processor-3"],
        )
        assert user.owned() == shares(user, 2)
        assert [running(user, role) for role in ("collector", "processor", "balancer")] == [
            numbered("collector", 2), numbered("processor", 2), numbered("balancer", 1),
        ]  # fmt: skip
        wait_for(
            lambda: len(user.ask("endpoints")[DC]["collector"]) == 2, within_s=GOODBYE_S, what="the collectors' goodbye"
        )
    # supervisord would do the same if it read its file again
    assert user.supervisorctl("update") == ""
    gone = {"collector-3", "collector-4", "processor-3", "balancer-2"}
    wait_for(lambda: not gone & set(user.living()), within_s=GOODBYE_S, what="everybody's goodbye")


def test_every_key_is_changed_under_load_and_nobody_is_unheard(user: User, access_log: Path) -> None:
    def whose() -> dict[str, str]:
        return {key: str(one) for key, one in read_list(user.folder / "keys").items()}

    before = whose()
    with replayed(user, access_log, f"keys.{SITE}"):
        answer = user.run("keys", "rotate", within_s=STOPPED_S * len(before))
        assert answer.returncode == 0, answer.stderr
    after = whose()
    assert sorted(after.values()) == sorted(before.values())
    assert not after.keys() & before.keys()
    told = {endpoint.rpartition("/")[2] for one in user.living().values() for endpoint in one.endpoints.values()}
    assert {key for key in told if len(key) == 64} <= after.keys(), "somebody is where an old key is"
    wait_for(lambda: not picture.missing(user.config, picture.ask(user.config)), within_s=PATIENCE_S, what="everybody")


def test_what_is_drained_ends_by_itself(user: User) -> None:
    scale(user, "collector=3")
    log = user.folder / "log" / "supervisord.log"
    before = len(log.read_text())
    scale(user, "collector=2")
    assert f"stopped: {DC}-collector-3 (exit status 0)" in log.read_text()[before:]


def test_the_next_start_has_as_many(user: User) -> None:
    """Until the template says something new, which tests/hitmesh/cli/test_sizes.py shows."""
    wanted = {"processor": 3, "collector": 1}
    scale(user, *(f"{role}={count}" for role, count in wanted.items()))
    assert user.run("down").returncode == 0
    up_again(user)
    assert {role: running(user, role) for role in wanted} == {
        role: numbered(role, count) for role, count in wanted.items()
    }
    assert user.owned() == shares(user, 3)
    scale(user, "processor=2", "collector=2")


# --- refused: nothing changes -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nexus=3"], "hitmesh: nexus can't be scaled on a running mesh: "),
        (["processor=0"], "hitmesh: processor=0: a datacenter can't do without a processor"),
        (["collector=4", "colector=3"], "hitmesh: 'colector' is no role to be scaled (did you mean collector?)"),
        (
            ["processor=3", "collector=11"],
            "hitmesh: collector=11: a datacenter of `hitmesh up` has ports for 10 of them",
        ),
        (["--dc", "eu-east", "collector=3"], "hitmesh: no datacenter 'eu-east' runs in "),
    ],
)
def test_what_cannot_be_is_refused(user: User, words: Sequence[str], message: str) -> None:
    assert refused(user, *words).startswith(message)


def test_where_nothing_runs_there_is_nothing_to_scale(tmp_path: Path) -> None:
    answer = User(tmp_path / "var").run("scale", "collector=3")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith(f"hitmesh: no mesh in {tmp_path / 'var'}")
    assert not (tmp_path / "var").exists()


def test_a_port_that_somebody_has_is_refused(user: User) -> None:
    port = user.config.ports.collector + 2
    with socket.create_server(("127.0.0.1", port)):
        assert refused(user, "processor=3", "collector=3").startswith(
            f"hitmesh: port {port} of 127.0.0.1, for {DC}-collector-3"
        )


def test_an_instance_that_somebody_started_by_hand_is_not_displaced(user: User) -> None:
    with user.by_hand("processor", "processor-3") as process:
        wait_for(lambda: "processor-3" in user.living(), within_s=PATIENCE_S, what="its heartbeat")
        said = refused(user, "processor=3")
        assert said.startswith(f"hitmesh: started by hand, and alive: processor-3 (pid {process.pid}) (stop them first")
        assert started(process.pid)
        process.signal(signal.SIGTERM)
        assert process.wait(STOPPED_S) == 0
    wait_for(lambda: user.owned() == shares(user, 2), within_s=PATIENCE_S, what="its partitions to come back")


def test_two_at_a_time_are_refused(user: User) -> None:
    with (user.folder / "scale.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert refused(user, "collector=3").startswith("hitmesh: another `hitmesh scale` is at work in ")


# --- half-way -----------------------------------------------------------------------------------


def interrupt(user: User, *words: str, when: Callable[[], object]) -> str:
    """Ctrl-C at a `hitmesh scale` under way; what it says."""
    command = [*HITMESH, "scale", *words, "--state-dir", str(user.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(when, within_s=PATIENCE_S, what="the moment to interrupt")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, err
    return err.splitlines()[-1]


def test_interrupted_while_it_grows_the_same_command_finishes(user: User) -> None:
    pid = user.pid("processor-1")
    os.kill(pid, signal.SIGSTOP)  # so that its share doesn't come before the interrupt does
    try:
        said = interrupt(user, "processor=3", when=lambda: "processor-3" in user.living())
    finally:
        os.kill(pid, signal.SIGCONT)
    assert said.startswith("hitmesh: interrupted; so far started processor-3")
    assert "the same command again goes on" in said
    scale(user, "processor=3")
    assert (running(user, "processor"), user.owned()) == (numbered("processor", 3), shares(user, 3))
    scale(user, "processor=2")


def test_interrupted_while_it_shrinks_it_says_what_is_left_and_the_same_command_finishes(user: User) -> None:
    scale(user, "collector=4")
    pid = user.pid("collector-4")
    os.kill(pid, signal.SIGSTOP)  # so that its draining takes as long as we like
    try:
        said = interrupt(user, "collector=2", when=lambda: "STOPPING" in user.supervisorctl("status"))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert said.startswith(
        "hitmesh: interrupted; so far nothing was started or stopped; still to be stopped: collector-4, collector-3"
    )
    assert scale(user, "collector=2")["stopped"][-1] == "collector-3"
    assert running(user, "collector") == numbered("collector", 2)


def test_what_cannot_start_is_told_with_its_log_and_the_same_command_finishes(
    user: User, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scaling, "READY_S", 5.0)
    path = user.config_path
    good = path.read_text()
    real = state_folder.replace_text

    def spoil(at: Path, text: str) -> None:
        real(at, text + ("\n[nonsense]\n" if at == path else ""))

    monkeypatch.setattr(state_folder, "replace_text", spoil)
    try:
        assert run(["scale", "processor=3", "--state-dir", str(user.folder)]) == 1
    finally:
        monkeypatch.undo()
        path.write_text(good)  # also for the tests after this one
    said = capsys.readouterr().err
    assert f"--- {DC}-processor-3: " in said
    assert "unknown" in said or "nonsense" in said
    assert "hitmesh: not there after 5 s: processor-3; so far started processor-3 (the configuration says" in said
    scale(user, "processor=3")
    assert user.owned() == shares(user, 3)
    scale(user, "processor=2")


def test_a_file_that_supervisord_cannot_read_leaves_everything_as_it_was(
    user: User, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(user)
    real = sections.with_program
    monkeypatch.setattr(sections, "with_program", lambda text, section: real(text, section + "\nstartsecs = soon\n"))
    assert run(["scale", "collector=3", "--state-dir", str(user.folder)]) == 1
    assert capsys.readouterr().err.startswith("hitmesh: supervisord refuses reloadConfig: CANT_REREAD")
    assert files(user) == before
    assert running(user, "collector") == numbered("collector", 2)
