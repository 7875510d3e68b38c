"""`hitmesh spool` on the files and servers of a state folder in which nothing runs."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from hitmesh.cli import job_lines
from hitmesh.cli import spool as spool_cli
from hitmesh.cli.main import run
from hitmesh.config import dump, parse
from hitmesh.protocol.messages import Job, Part, encode, make
from hitmesh.spool import Held
from hitmesh.spool.sqlite import SqliteSpool
from tests.hitmesh.dev_config import DEV
from tests.services import free_port
from tests.services.nexus import free_ports

Command = Callable[..., tuple[int, str, str]]
DELAY_S = 60.0  # a job waits for longer than a test lasts
FILES = {"eu-west": ["sqlite:///one.db", "sqlite:///two.db"], "us-west": ["sqlite:///three.db"]}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Two datacenters: one whose spool is two files, and one with a single one."""
    ports = sorted(free_ports(20) for _ in FILES)
    for (name, spools), first in zip(FILES.items(), ports, strict=True):
        data = tomllib.loads(DEV.read_text())
        data["name"] = name
        data["ports"] = {"balancer": first, "balancer_admin": 0, "collector": first + 4, "nexus": first + 8}
        data["stores"]["spools"] = spools
        data["timing"]["retry_delay_s"] = DELAY_S
        (tmp_path / name).mkdir()
        (tmp_path / name / "hitmesh.toml").write_text(dump(parse(data, source="test")))
    return tmp_path


@pytest.fixture
def command(state: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Status, output and errors of `hitmesh spool ...`."""

    def run_it(*words: str) -> tuple[int, str, str]:
        status = run(["spool", *words, "--state-dir", str(state)])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run_it


def file(state: Path, name: str = "one.db", dc: str = "eu-west") -> SqliteSpool:
    return SqliteSpool(state / dc / name, claim_s=600.0, longest_delay_s=600.0)


def job(seq: int, age_s: float = 0.0, page: str = "a.example/x") -> bytes:
    made_ms = int((time.time() - age_s) * 1000)
    return encode(make(Job, "collector-1.a", made_ms, (Part(3, seq, 1, {page: 2, "b/y": 1}),)))


def bury(spool: SqliteSpool, body: bytes) -> None:
    spool.put(body, 0)
    [claimed] = spool.claim(1)
    spool.bury(claimed.id)


def test_every_copy_is_listed_and_no_file_is_made(state: Path, command: Command) -> None:
    spool = file(state)
    bury(spool, b"nonsense")
    spool.put(job(1, 7000.0), DELAY_S)
    spool.put(job(2, 10.0), 0)
    status, out, _ = command("list", "--json", "--jobs")
    assert status == 0
    first, second, third = json.loads(out)
    assert (first["dc"], first["copy"], first["usable"], first["why"]) == ("eu-west", 1, True, "")
    assert (first["waiting"], first["ready"], first["claimed"], first["buried"]) == (1, 1, 0, 1)
    assert 7000 <= first["oldest_s"] < 7100
    assert [(each["number"], each["state"], each["hits"]) for each in first["jobs"]] == [
        (1, "buried", None), (2, "waiting", 3), (3, "ready", 3),
    ]  # fmt: skip
    assert (second["url"], second["waiting"], second["oldest_s"]) == ("sqlite:///two.db", 0, None)
    assert third["dc"] == "us-west"
    assert not (state / "eu-west" / "two.db").exists()
    _, out, _ = command("list", "--jobs", "--dc", "eu-west")
    assert out.splitlines()[1].split()[:6] == ["eu-west", "1", "1", "1", "0", "1"]
    assert "not a job: " in out and "116 min old" in out


def test_a_server_that_is_away_is_listed_with_why(state: Path, command: Command) -> None:
    path = state / "us-west" / "hitmesh.toml"
    url = f"beanstalk://127.0.0.1:{free_port()}/jobs"
    path.write_text(path.read_text().replace("sqlite:///three.db", url))
    status, out, _ = command("list", "--json", "--dc", "us-west")
    [found] = json.loads(out)
    assert (status, found["usable"], found["url"]) == (0, False, url)
    assert "refused" in found["why"]
    assert command("kick", "--all", "--dc", "us-west")[0] == 1


def test_a_job_is_shown_decoded(state: Path, command: Command) -> None:
    file(state).put(job(41, 60.0), DELAY_S)
    status, out, _ = command("show", "1/1", "--dc", "eu-west")
    assert status == 0
    first, lane, part, *pages = out.splitlines()
    assert first.startswith("job 1/1 of eu-west: waiting, never given out, ")
    assert lane.startswith("lane of worker collector-1.a, made ") and lane.endswith(": 3 hits on 2 pages")
    assert part == "  partition 3, sequence 41 (all below 1 is done)"
    assert [line.split() for line in pages] == [["2", "a.example/x"], ["1", "b/y"]]
    _, out, _ = command("show", "1/1", "--dc", "eu-west", "--json")
    assert json.loads(out)["parts"] == [
        {"partition": 3, "sequence": 41, "low": 1, "counts": {"a.example/x": 2, "b/y": 1}}
    ]  # fmt: skip


def test_hostile_names_in_a_job_are_text() -> None:
    held = Held(1, "ready", 0, job(1, page="a/\x1b[2J\u202e\nx"))
    text = job_lines.job_text("eu", 1, held, time.time(), as_json=False)
    assert "a/\\x1b[2J\\u202e\\nx" in text
    assert all(line.isprintable() for line in text.split("\n"))


def test_jobs_that_were_set_aside_are_kicked(state: Path, command: Command) -> None:
    spool = file(state)
    for seq in (1, 2):
        bury(spool, job(seq))
    assert command("kick", "1/1", "--dc", "eu-west")[:2] == (0, "1 job is claimable now\n")
    assert (spool.stats()[0].ready, spool.stats()[0].buried) == (1, 1)
    assert command("kick", "--all", "--dc", "eu-west")[:2] == (0, "1 job is claimable now\n")
    assert (spool.stats()[0].ready, spool.stats()[0].buried) == (2, 0)
    assert command("kick", "--all", "--dc", "eu-west")[:2] == (0, "0 jobs are claimable now\n")


def test_a_text_in_a_jobs_place_is_deleted_when_somebody_says_yes(
    state: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = file(state)
    bury(spool, b"nonsense\x1b[2J")
    status, out, err = command("delete", "1/1", "--dc", "eu-west")
    assert (status, out) == (1, "")
    assert err == "hitmesh: job 1/1 stays (--yes deletes it without asking)\n"
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        return False

    monkeypatch.setattr(spool_cli, "_is_confirmed", no)
    assert command("delete", "1/1", "--dc", "eu-west")[0] == 1
    assert asked[0].startswith("delete job 1/1 of sqlite:///one.db, 12 bytes, ")
    assert spool.stats()[0].buried == 1
    assert command("delete", "1/1", "--dc", "eu-west", "--yes") == (0, "job 1/1 of sqlite:///one.db is deleted\n", "")
    assert spool.stats()[0].buried == 0


def test_a_job_that_can_be_read_is_deleted_with_its_hits_only_when_that_is_said(state: Path, command: Command) -> None:
    spool = file(state)
    bury(spool, job(1))
    status, out, err = command("delete", "1/1", "--dc", "eu-west", "--yes")
    assert (status, out) == (1, "")
    assert "job 1/1 can be read: 3 hits that may be in no total yet (`hitmesh spool kick 1/1`" in err
    assert spool.stats()[0].buried == 1
    said = (0, "job 1/1 of sqlite:///one.db is deleted, with 3 hits\n", "")
    assert command("delete", "1/1", "--dc", "eu-west", "--yes", "--lose-hits") == said
    assert spool.stats()[0].buried == 0


def test_jobs_are_moved_to_the_other_file_and_from_one_that_is_no_longer_configured(
    state: Path, command: Command
) -> None:
    file(state).put(job(1), 0)
    old = file(state, "old.db")
    old.put(job(2), 0)
    bury(old, job(3))
    status, out, _ = command("move", "1", "sqlite:///two.db", "--dc", "eu-west")
    assert (status, out) == (0, "1 job moved from sqlite:///one.db to sqlite:///two.db; nothing is left\n")
    status, out, _ = command("move", "sqlite:///old.db", "2", "--dc", "eu-west")
    assert (status, out) == (0, "1 job moved from sqlite:///old.db to sqlite:///two.db; 1 is buried\n")
    assert file(state, "two.db").stats()[0].ready == 2


def test_what_is_left_is_said(state: Path, command: Command) -> None:
    file(state).put(job(1), DELAY_S)
    status, out, _ = command("move", "1", "2", "--dc", "eu-west", "--within", "0")
    assert (status, out) == (1, "0 jobs moved from sqlite:///one.db to sqlite:///two.db; 1 waits\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("show 1/1", "--dc says whose spool is meant (eu-west, us-west)"),
        ("show 1/1 --dc eu", "there is no datacenter eu; known here: eu-west, us-west"),
        ("show 7 --dc eu-west", "eu-west has 2 copies (say which one: 1/7)"),
        ("show 3/7 --dc eu-west", "there is no copy 3 (eu-west has 2, from 1 on)"),
        ("show 1/7 --dc eu-west", "there is no job 7 in sqlite:///one.db"),
        ("show 9 --dc us-west", "there is no job 9 in sqlite:///three.db"),
        ("show x --dc us-west", "'x' is no job's ID (it is COPY/NUMBER, such as 1/4711)"),
        ("kick 1/1 --dc eu-west", "job 1 was never given out"),
        ("move 1 1 --dc eu-west", "1 and 1 are the same"),
        ("move 1 3 --dc eu-west", "no collector of eu-west uses 3, so nobody would count its jobs"),
        ("move 1 sqlite:///tow.db --dc eu-west", "did you mean sqlite:///two.db?"),
        ("move 3 1 --dc eu-west", "there is no copy 3 (eu-west has 2, from 1 on)"),
        ("move sqlite:///gone.db 1 --dc eu-west", "gone.db isn't there"),
        ("move ftp://x 1 --dc eu-west", "has an unknown scheme"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_and_changes_nothing(
    state: Path, command: Command, words: str, said: str
) -> None:
    spool = file(state)
    spool.put(job(1), DELAY_S)
    status, out, err = command(*words.split())
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert said in err
    assert (spool.stats()[0].waiting, spool.stats()[0].buried) == (1, 0)


def test_another_datacenters_jobs_are_not_moved_here(state: Path, command: Command) -> None:
    path = state / "us-west" / "hitmesh.toml"
    url = f"beanstalk://127.0.0.1:{free_port()}/jobs"
    path.write_text(path.read_text().replace("sqlite:///three.db", url))
    status, _, err = command("move", url, "1", "--dc", "eu-west")
    assert status == 1
    assert f"{url} is us-west's: what is spooled in one datacenter can't be counted in another" in err


def test_naming_jobs_and_all_of_them_is_a_contradiction(command: Command) -> None:
    assert command("kick", "--dc", "eu-west")[0] == command("kick", "1/1", "--all", "--dc", "eu-west")[0] == 2


@pytest.mark.parametrize("spelling", ["absolute", "a link", "with dots"])
def test_a_spool_is_never_moved_to_itself_however_it_is_spelt(state: Path, command: Command, spelling: str) -> None:
    spool = file(state)
    for seq in range(1, 21):
        spool.put(job(seq), 0)
    path = state / "eu-west" / "one.db"
    link = state / "link.db"
    link.symlink_to(path)
    url = {"absolute": path, "a link": link, "with dots": state / "eu-west" / ".." / "eu-west" / "one.db"}[spelling]
    status, out, err = command("move", f"sqlite:///{url}", "1", "--dc", "eu-west")
    assert (status, out) == (1, "")
    assert "are the same" in err
    assert spool.stats()[0].ready == 20


def test_another_datacenters_file_is_refused_however_it_is_spelt(state: Path, command: Command) -> None:
    spool = file(state, "three.db", "us-west")
    spool.put(job(1), 0)
    path = state / "us-west" / "three.db"
    status, _, err = command("move", f"sqlite:///{path}", "1", "--dc", "eu-west")
    assert status == 1
    assert "is us-west's" in err
    assert spool.stats()[0].ready == 1


@pytest.mark.parametrize("content", ["another table", "nothing", "text"])
def test_a_file_that_is_no_spool_stays_as_it_is(state: Path, command: Command, content: str) -> None:
    path = state / "other.db"
    if content == "another table":
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE heads (id INTEGER)")
            other.commit()
    else:
        path.write_text("" if content == "nothing" else "# Not a file of SQLite's\n" * 100)
    before = path.read_bytes()
    status, _, err = command("move", f"sqlite:///{path}", "1", "--dc", "eu-west")
    assert status == 1
    assert f"{path} is no spool" in err
    assert path.read_bytes() == before


def test_what_is_set_aside_is_kicked_and_listed_however_many_others_lie_before_it(
    state: Path, command: Command
) -> None:
    spool = file(state)
    for seq in range(1, 151):
        spool.put(job(seq), DELAY_S)
    for seq in range(151, 154):
        bury(spool, job(seq))
    _, out, _ = command("list", "--jobs", "--json", "--dc", "eu-west")
    assert [each["state"] for each in json.loads(out)[0]["jobs"][:4]] == ["buried", "buried", "buried", "waiting"]
    status, out, _ = command("kick", "--all", "--dc", "eu-west")
    assert (status, out) == (0, "3 jobs are claimable now\n")


def test_a_url_that_is_none_is_a_line(command: Command) -> None:
    status, out, err = command("move", "beanstalk://[::1/jobs", "1", "--dc", "eu-west")
    assert (status, out) == (1, "")
    assert "is no URL" in err


def test_a_text_in_the_place_of_a_job_is_no_job(state: Path, command: Command) -> None:
    spool = file(state)
    spool.put(job(1), DELAY_S)
    with contextlib.closing(sqlite3.connect(state / "eu-west" / "one.db")) as other:
        other.execute("UPDATE jobs SET body = 'by hand', ready_at = 0")
        other.commit()
    assert "not a job: " in command("list", "--jobs", "--dc", "eu-west")[1]
    [claimed] = spool.claim(1)
    assert claimed.body == b"by hand"
    assert [body for _, _, body in spool.jobs()] == [b"by hand"]


@pytest.mark.parametrize("within", ["nan", "inf", "-1"])
def test_a_time_has_an_end(command: Command, within: str) -> None:
    status, _, err = command("move", "1", "2", "--dc", "eu-west", "--within", within)
    assert status == 2
    assert "--within" in err
