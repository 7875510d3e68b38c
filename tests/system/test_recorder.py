"""Recorders of a real mesh: killed, stopped, restarted and full under load, and nobody's hit fails; what they keep is read
by `hitmesh logs`, and what is missing is named.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from hitmesh.protocol.messages import MAX_ENTRY_CHARS, Entry
from tests.hitmesh.recorder.senders import Sender, launch, loads, state_of
from tests.services import wait_for
from tests.services.disks import full, small_disk
from tests.system.mesh import Mesh
from tests.system.visitors import Visitor, accepted, at_work

PAIR = ("recorder-1", "recorder-2")
OTHERS = ("nexus-1", "processor-1", "collector-1")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """One of each role and a pair of recorders, the first of which has a small disk."""
    folder = tmp_path_factory.mktemp("recorders")
    with small_disk(folder / "dc-test" / "recorder-1", "6m"), Mesh(folder, recorders=2) as mesh:
        yield mesh


def logs(mesh: Mesh, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hitmesh", "logs", "--config", str(mesh.file), "--state-dir", str(mesh.folder)]
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, check=False)


def texts(mesh: Mesh, *words: str) -> list[str]:
    done = logs(mesh, "--json", *words)
    assert done.returncode == 0, done.stderr
    return [json.loads(one)["text"] for one in done.stdout.splitlines()]


def wait_until_kept(mesh: Mesh, text: str, recorder: str = "") -> None:
    wait_for(lambda: text in texts(mesh, "--grep", text), what=f"{text!r} to be kept {recorder}")


def test_recorders_that_die_hang_and_come_back_change_nothing_for_anybody(mesh: Mesh) -> None:
    before = {name: mesh.pid(name) for name in OTHERS}
    visitor = Visitor(f"http://127.0.0.1:{mesh.address()[1]}", [f"load/{number}" for number in range(20)], pause_s=0.0)
    with at_work(visitor):
        for turn in range(3):
            for name in PAIR:
                goes_on(visitor)
                if turn % 2:
                    mesh.pause(name)
                    goes_on(visitor)
                    mesh.resume(name)
                mesh.kill(name)
                goes_on(visitor)
                mesh.launch(name)
        mesh.pause(PAIR[0])
        mesh.kill(PAIR[1])
        goes_on(visitor)
    mesh.resume(PAIR[0])
    launch(mesh, PAIR[1])
    assert (visitor.failed, visitor.refused) == (Counter(), Counter())
    wait_for(mesh.is_settled, what="the spool to be empty")
    wait_for(lambda: mesh.totals() == dict(accepted(visitor)), what="the totals to be exact")
    assert {name: mesh.pid(name) for name in OTHERS} == before
    with Sender(mesh, PAIR[0]) as sender:
        sender.say("all is over")
    wait_until_kept(mesh, "all is over")


def goes_on(visitor: Visitor) -> None:
    before = sum(accepted(visitor).values())
    wait_for(lambda: sum(accepted(visitor).values()) > before + 50, what="hits to be accepted")


def test_a_full_disk_is_said_and_what_was_lost_meanwhile_is_named(mesh: Mesh) -> None:
    disk = mesh.folder / "dc-test" / "recorder-1"
    with Sender(mesh, "recorder-1", "collector-8") as sender:
        sender.say("the first")
        wait_until_kept(mesh, "the first")
        with full(disk):
            entry = Entry(int(time.time() * 1000), 20, "tests", os.urandom(MAX_ENTRY_CHARS // 2).hex(), {})
            for _ in range(180):  # more than it may keep in memory
                sender.send(sender.records(*[entry] * 7))
            wait_for(lambda: "the disk is full" in state_of(mesh, "recorder-1"), what="the recorder to say so")
            wait_for(lambda: loads(mesh, "recorder-1").get("entries_dropped", 0) > 0, what="entries to be dropped")
        wait_for(lambda: state_of(mesh, "recorder-1") == "up", what="the recorder to write again")
        sender.say("the last")
    wait_until_kept(mesh, "the last")
    dropped = loads(mesh, "recorder-1")["entries_dropped"]
    said = logs(mesh).stderr
    assert f"{dropped:.0f} lines are missing of recorder-1 of dc-test" in said
    assert "the disk is full" in said
    assert "lines are missing of collector-8 of dc-test" in said, "whose they were"


def test_what_a_killed_recorder_had_not_kept_is_named_by_its_numbers(mesh: Mesh) -> None:
    with Sender(mesh, "recorder-2", "collector-7") as sender:
        sender.say("kept")
        wait_until_kept(mesh, "kept")
        mesh.pause("recorder-2")
        for number in range(10):
            sender.say(f"lost {number}")
        mesh.kill("recorder-2")
        launch(mesh, "recorder-2")
        sender.say("kept again")
    wait_until_kept(mesh, "kept again")
    done = logs(mesh, "--instance", "collector-7")
    assert "10 lines are missing of collector-7 of dc-test between" in done.stderr
    assert "lost" not in done.stdout


def test_only_a_senders_own_words_are_taken_and_whatever_else_comes_is_counted(mesh: Mesh) -> None:
    with Sender(mesh, "recorder-1", "collector-6") as sender:
        sender.send(sender.records(Entry(1, 20, "tests", "forged", {}), name="collector-1"))
        sender._socket.send(b"\x93garbage")
        sender.say("own words")
        wait_until_kept(mesh, "own words")
    assert texts(mesh, "--since", "1970-01-02", "--grep", "forged") == []
    found = wait_for(lambda: loads(mesh, "recorder-1"), what="its heartbeat")
    wait_for(lambda: loads(mesh, "recorder-1").get("turned_away.records.wrong_name") == 1, what="it to be counted")
    assert found["bad_frames"] == 1


def test_lines_are_chosen_by_role_level_and_pattern_and_hostile_ones_are_text(mesh: Mesh) -> None:
    with Sender(mesh, "recorder-1", "collector-5") as sender:
        sender.say("\x1b[2J\u202e a \n2026-01-01 forged", level=40)
        sender.say("harmless")
    wait_until_kept(mesh, "harmless")
    done = logs(mesh, "--instance", "collector-5", "--level", "error")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first.endswith("dc-test collector-5 ERROR tests: \\x1b[2J\\u202e a ")
    assert second == "    2026-01-01 forged"
    assert any("is up" in one for one in texts(mesh, "--role", "recorder", "--grep", "is .p"))
    assert {json.loads(one)["role"] for one in logs(mesh, "--json", "--role", "nexus").stdout.splitlines()} == {"nexus"}
    assert texts(mesh, "--since", "2026-01-01T00:00Z", "--until", "2026-01-01T01:00Z") == []
    assert len(texts(mesh, "--limit", "3")) == 3


def test_who_does_not_answer_is_read_from_its_files_and_named(mesh: Mesh) -> None:
    mesh.pause("recorder-2")
    try:
        done = logs(mesh, "--instance", "collector-7")
        assert "kept again" in done.stdout
        assert "recorder-2 of dc-test: it doesn't answer; these are its files" in done.stderr
    finally:
        mesh.resume("recorder-2")
    folder = mesh.folder / "dc-test" / "recorder-2"
    away = folder.rename(folder.with_name("away"))
    mesh.pause("recorder-2")
    try:
        done = logs(mesh)
        assert done.returncode == 0
        assert "recorder-2 of dc-test: " in done.stderr
        assert "kept again" not in done.stdout
    finally:
        away.rename(folder)
        mesh.resume("recorder-2")


def test_what_comes_is_followed(mesh: Mesh) -> None:
    command = [
        sys.executable,
        "-m",
        "hitmesh",
        "logs",
        "-f",
        "--config",
        str(mesh.file),
        "--state-dir",
        str(mesh.folder),
    ]
    with subprocess.Popen([*command, "--grep", "news"], stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        with Sender(mesh, "recorder-2", "collector-4") as sender:
            for number in range(3):
                sender.say(f"news {number}")
                assert f"news {number}" in following.stdout.readline()
        following.send_signal(signal.SIGINT)
        assert following.wait(30) == 0


def test_mistakes_are_told_in_words(mesh: Mesh) -> None:
    for words, said in (
        (["--since", "soon"], "--since 'soon' is no time (such as 15m"),
        (["--grep", "("], "--grep '(' is no regular expression"),
        (["--role", "recorders"], "'recorders' is no role; did you mean recorder?"),
        (["--level", "warn"], "'warn' is no level; did you mean warning?"),
        (["--dc", "mars"], "there is no datacenter mars here"),
        (["-f", "--until", "1h"], "--until means nothing with --follow"),
    ):
        done = logs(mesh, *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
    done = logs(mesh, "--since", "1h", "--until", "2h")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--since isn't before --until" in done.stderr
    done = logs(mesh, "--instance", "colector-1")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no line that was read is of colector-1; did you mean collector-1?" in done.stderr


def test_a_volume_that_can_not_be_read_is_named_and_hides_nothing_else(mesh: Mesh) -> None:
    path = mesh.folder / "dc-test" / "recorder-2" / "2020-01-01T12.000000.records"
    path.mkdir()
    try:
        with Sender(mesh, "recorder-2", "collector-3") as sender:
            sender.say("beside it")
            wait_until_kept(mesh, "beside it")
        said = logs(mesh).stderr
        assert "some lines are missing of recorder-2 of dc-test between 2020-01-01T12:00:00.000Z and " in said
        assert f"it couldn't read them: {path.name}: " in said
    finally:
        path.rmdir()
