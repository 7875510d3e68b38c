"""`hitmesh alerts` on the stores of a state folder in which nothing runs."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from hitmesh.cli.main import run
from hitmesh.config import dump, parse
from hitmesh.config.alerts import RULES
from hitmesh.dashboard.alerts.memory import Firing, Memory, encode, key_of
from hitmesh.dashboard.alerts.silences import key_of as silence_key
from hitmesh.dashboard.alerts.silences import silences_among, value_of
from hitmesh.settings import Setting
from hitmesh.settings.sqlite import SqliteSettings
from tests.hitmesh.dev_config import DEV
from tests.services import PATIENCE_S, free_port
from tests.services.receivers import Hook, Mailbox, talker

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def state(tmp_path: Path, hook: Hook, box: Mailbox) -> Path:
    """Two datacenters, one of which tells somebody."""
    for name, shift in (("eu-west", 0), ("us-west", 100)):
        data = tomllib.loads(DEV.read_text())
        data["name"] = name
        data["ports"] = {key: port + shift for key, port in data["ports"].items() if port}
        if name == "eu-west":
            mail = {
                "server": f"127.0.0.1:{box.port}",
                "security": "none",
                "sender": "a@example.com",
                "to": ["b@example.com"],
            }
            data["alerts"].update(webhook=[{"url": f"{hook.url}hunter2"}], mail=mail)
        (tmp_path / name).mkdir()
        (tmp_path / name / "hitmesh.toml").write_text(dump(parse(data, source="test")))
    return tmp_path


def store(state: Path, dc: str = "eu-west") -> SqliteSettings:
    return SqliteSettings(state / dc / "settings.db")


@pytest.fixture
def command(state: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Status, output and errors of `hitmesh alerts ...`."""

    def run_it(*arguments: str) -> tuple[int, str, str]:
        status = run(["alerts", *arguments, "--state-dir", str(state)])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run_it


def test_where_nothing_fires_that_is_said(command: Command) -> None:
    assert command("list") == (0, "nothing fires\n", "")


def test_what_fires_is_listed_with_who_silenced_it(command: Command, state: Path) -> None:
    firing = Firing(id="f1", rule="disk", level="bad", says="full\x1b[2J", since=1.8e9, told=2, told_at=1.8e9)
    store(state, "us-west").set(key_of("us-west"), encode(Memory({"disk/a": firing})), author="alerts")
    store(state, "us-west").set(
        silence_key("disk", "us-west"), b'{"until": 1.9e9, "why": "room is made"}', author="ann"
    )
    status, out, _ = command("list")
    assert (status, out.splitlines()) == (
        0,
        [
            "bad   us-west  disk/a  since 2027-01-15 08:00:00Z, silenced until 2030-03-17 17:46:40Z: full\\x1b[2J",
            "silenced in us-west until 2030-03-17 17:46:40Z: disk, by ann: room is made",
        ],
    )
    status, out, _ = command("list", "--json")
    found = json.loads(out)
    assert [(each["dc"], each["name"], each["id"], each["silenced_until"]) for each in found["firing"]] == [
        ("us-west", "disk/a", "f1", 1.9e9)
    ]
    assert found["rules"]["eu-west"]["disk"] == {"off": False, "for_s": 30.0, "threshold": 0.9}
    assert tuple(found["rules"]["us-west"]) == RULES
    assert command("list", "--dc", "eu-west")[1] == "nothing fires\n"


def test_one_store_that_is_away_hides_no_other(command: Command, state: Path) -> None:
    (state / "eu-west" / "settings.db").write_bytes(b"not a database at all" * 100)
    status, out, err = command("list")
    assert (status, out) == (0, "nothing fires\n")
    assert "what fires in eu-west can't be read" in err


def test_a_silence_is_set_seen_and_taken_back(command: Command, state: Path) -> None:
    before = time.time()
    status, out, _ = command("silence", "disk", "--for", "2h", "--why", "Ann makes room\u202e")
    assert (status, out.startswith("disk is silenced everywhere until ")) == (0, True)
    [held] = silences_among(store(state).list())
    assert (held.name, held.dc, held.why) == ("disk", "*", "Ann makes room\\u202e")
    assert before + 7200 <= held.until <= time.time() + 7200
    assert "@" in held.who
    assert command("silence", "hub_lag/collector-1", "--for", "30m", "--why", "x", "--dc", "us-west")[0] == 0
    assert [each.dc for each in silences_among(store(state, "us-west").list())] == ["us-west"]
    assert command("unsilence", "disk") == (0, "disk isn't silenced any more\n", "")
    assert command("list")[1].count("silenced") == 1
    status, _, err = command("unsilence", "hub_lag/collector-1")
    assert (status, "hub_lag/collector-1 isn't silenced everywhere" in err) == (1, True)


def test_a_new_silence_holds_beside_many_past_ones_and_removes_them(command: Command, state: Path) -> None:
    for number in range(101):
        store(state).set(silence_key(f"disk/past-{number:03}"), value_of(time.time() - 1, "room"), author="ann")
    store(state).set(silence_key("disk/live"), value_of(time.time() + 7200, "room"), author="ann")
    firing = Firing(id="f1", rule="trouble", level="bad", says="full", since=1.8e9, told=2, told_at=1.8e9)
    store(state).set(key_of("eu-west"), encode(Memory({"trouble": firing})), author="alerts")
    assert "silenced are: */disk/live)" in command("unsilence", "trouble")[2]
    assert command("silence", "trouble", "--for", "2h", "--why", "x")[0] == 0
    assert [each.name for each in silences_among(store(state).list())] == ["disk/live", "trouble"]
    [found] = json.loads(command("list", "--json")[1])["firing"]
    assert found["silenced_until"] is not None


def test_a_past_silence_that_somebody_renews_just_then_stays(
    command: Command, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(state).set(silence_key("disk"), value_of(time.time() - 1, "room"), author="ann")
    read = SqliteSettings.list

    def renewed(self: SqliteSettings, prefix: str = "") -> Mapping[str, Setting]:
        found = read(self, prefix)
        self.set(silence_key("disk"), value_of(time.time() + 7200, "room"), author="bob")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(SqliteSettings, "list", renewed)
        assert command("silence", "trouble", "--for", "2h", "--why", "x")[0] == 0
    assert [each.name for each in silences_among(store(state).list())] == ["disk", "trouble"]


def test_a_store_that_is_away_is_passed_over(command: Command, state: Path) -> None:
    (state / "eu-west" / "settings.db").write_bytes(b"not a database at all" * 100)
    assert command("silence", "disk", "--for", "2h", "--why", "x")[0] == 0
    assert len(silences_among(store(state, "us-west").list())) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("disks", "--for", "2h", "--why", "x"), "no rule is called 'disks' (did you mean disk?)"),
        (("disk", "--for", "2", "--why", "x"), "--for '2' is no time (such as 30m, 2h or 1d; 90d at most)"),
        (("disk", "--for", "91d", "--why", "x"), "--for '91d' is no time"),
        (("disk", "--for", "2h", "--why", " "), "--why is a text of 1 to 200 characters"),
        (("disk/a b", "--for", "2h", "--why", "x"), "'deploys/alerts/silences/*/disk/a b' is not a setting's key"),
        (("disk", "--for", "2h", "--why", "x", "--dc", "ap"), "there is no datacenter ap"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_silenced(
    command: Command, state: Path, arguments: tuple[str, ...], says: str
) -> None:
    status, out, err = command("silence", *arguments)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert says in err
    assert store(state).list() == {}


def test_a_test_goes_out_by_each_way_and_the_answers_are_shown(command: Command, hook: Hook, box: Mailbox) -> None:
    status, out, _ = command("test")
    assert (status, out.splitlines()) == (
        0,
        [
            f"eu-west webhook 1 (http://127.0.0.1:{hook.port}): ok: 200",
            f"eu-west mail (b@example.com by way of 127.0.0.1:{box.port}): ok: taken",
        ],
    )
    [alert], [mail] = hook.alerts, box.mails
    assert (alert["kind"], alert["rule"], alert["dc"]) == ("test", "test", "eu-west")
    assert mail["Subject"].startswith("[hitmesh eu-west] test: ")


def test_a_way_that_fails_says_why_and_the_others_are_tried(command: Command, hook: Hook, box: Mailbox) -> None:
    hook.status = 403
    status, out, _ = command("test", "--json")
    first, second = json.loads(out)
    assert (status, first["ok"], first["answer"], second["ok"]) == (1, False, "it answers 403: ", True)
    assert "hunter2" not in out
    assert len(box.mails) == 1


@pytest.mark.system
def test_a_way_that_never_ends_its_answer_is_given_up(state: Path) -> None:
    """In a process of its own: what is bounded is the command as `hitmesh` runs it, with a shorter bound."""

    def header() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n"
        for number in itertools.count():
            time.sleep(0.1)  # its pace
            yield b"X-%d: y\r\n" % number

    with talker(header) as port:
        path = state / "eu-west" / "hitmesh.toml"
        path.write_text(
            re.sub(r'url = "http://127\.0\.0\.1:\d+/hunter2"', f'url = "http://127.0.0.1:{port}/"', path.read_text())
        )
        done = subprocess.run(
            [sys.executable, "-c", _QUICK, "alerts", "test", "--state-dir", str(state)],
            capture_output=True, text=True, timeout=4 * PATIENCE_S, check=False,
        )  # fmt: skip
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr, len(lines)) == (1, "", 2)
    assert lines[0] == f"eu-west webhook 1 (http://127.0.0.1:{port}): FAILED: it takes more than 0.5 s"
    assert lines[1].startswith("eu-west mail ")


_QUICK = """
from hitmesh.cli import main as commands
run = commands.run
def quick():
    from hitmesh.dashboard.alerts import outbox
    outbox.TRY_S = 0.5
    return run()
commands.run = quick
from hitmesh.__main__ import main
main()
"""


def test_where_nobody_is_told_a_test_says_so(command: Command) -> None:
    status, _, err = command("test", "--dc", "us-west")
    assert (status, "nothing is sent anywhere" in err) == (1, True)


def test_check_config_says_what_is_wrong_with_alerts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dev.toml"
    path.write_text(DEV.read_text().replace("webhook = []", f'webhook = [{{url = "localhost:{free_port()}"}}]'))
    assert run(["check-config", str(path)]) == 1
    assert "alerts.webhook[0].url must be http://HOST... or https://HOST..." in capsys.readouterr().err
