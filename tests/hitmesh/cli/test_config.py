"""`hitmesh config` on the stores of a state folder in which nothing runs."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hitmesh.cli.live_lines import change_line, entries, table
from hitmesh.cli.main import run
from hitmesh.config import dump, parse
from hitmesh.config.live import LIVE
from hitmesh.settings import Edition
from hitmesh.settings.sqlite import SqliteSettings
from tests.hitmesh.dev_config import DEV, configured
from tests.services.nexus import free_ports

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Two datacenters, whose Nexuses nobody runs; the second one's file has a shorter retry delay."""
    ports = sorted(free_ports(20) for _ in range(2))  # the first ones are the first datacenter's
    for name, retry_delay_s, first in zip(("eu-west", "us-west"), (5.0, 2.0), ports, strict=True):
        data = tomllib.loads(DEV.read_text())
        data["name"] = name
        data["ports"] = {"balancer": first, "balancer_admin": 0, "collector": first + 4, "nexus": first + 8}
        data["timing"].update(retry_delay_s=retry_delay_s, read_s=0.7)
        (tmp_path / name).mkdir()
        (tmp_path / name / "hitmesh.toml").write_text(dump(parse(data, source="test")))
    return tmp_path


@pytest.fixture
def command(state: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Status, output and errors of `hitmesh config ...`; a change isn't waited for unless told."""

    def run_it(verb: str, *arguments: str, wait: bool = False) -> tuple[int, str, str]:
        unwaited = ["--no-wait"] if verb in ("set", "unset") and not wait else []
        status = run(["config", verb, *arguments, *unwaited, "--state-dir", str(state)])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run_it


def listed(command: Command, *options: str) -> dict[str, dict[str, Any]]:
    status, out, _ = command("list", "--json", *options)
    assert status == 0
    return {each["key"]: each for each in json.loads(out)}


# --- showing ----------------------------------------------------------------------------------


def test_every_live_setting_is_listed_with_where_its_value_comes_from(command: Command) -> None:
    command("set", "timing.commit_s", "0.1", "--author", "anna")
    found = listed(command)
    assert list(found) == list(LIVE)
    assert {key: found["timing.commit_s"][key] for key in ("value", "default", "from", "author", "version")} == {
        "value": "0.1", "default": "0.25", "from": "live", "author": "anna", "version": 1,
    }  # fmt: skip
    assert (found["timing.read_s"]["value"], found["timing.read_s"]["from"]) == ("0.7", "file")
    assert (found["timing.fresh_s"]["value"], found["timing.fresh_s"]["from"]) == ("0.5", "default")
    assert all(each["meaning"] for each in found.values())


def test_routes_and_retired_datacenters_are_listed_when_they_are_set(command: Command) -> None:
    command("set", "routes/www.example.com", '{"action": "empty", "status": 410}')
    command("set", "datacenters/ap-south", "retired")
    found = listed(command)
    assert found["routes/www.example.com"]["value"] == '{"action":"empty","status":410}'
    assert found["datacenters/ap-south"]["value"] == "retired"


def test_the_list_for_people_is_a_table(command: Command) -> None:
    command("set", "timing.commit_s", "0.1", "--author", "anna")
    status, out, err = command("list")
    assert (status, err) == (0, "")
    lines = {line.split()[0]: line.split() for line in out.splitlines()}
    assert lines["KEY"] == ["KEY", "VALUE", "FROM", "VERSION", "CHANGED", "BY"]
    assert lines["timing.commit_s"][1:6] == ["0.1", "live", "(default", "0.25)", "1"]
    assert lines["timing.commit_s"][-1] == "anna"


def test_one_setting_is_printed_as_it_is_in_force(command: Command) -> None:
    assert command("get", "timing.commit_s") == (0, "0.25\n", "")
    command("set", "timing.commit_s", "0.1")
    assert command("get", "timing.commit_s") == (0, "0.1\n", "")
    status, out, _ = command("get", "timing.commit_s", "--json")
    assert (status, json.loads(out)["version"]) == (0, 1)


def test_what_is_set_and_does_not_apply_is_listed_with_the_reason(command: Command, state: Path) -> None:
    SqliteSettings(state / "eu-west" / "settings.db").set("timing.commit_s", b"9", author="anna")
    found = listed(command)["timing.commit_s"]
    assert (found["value"], found["from"], found["version"]) == ("0.25", "default", 1)
    assert "must be below timing.retry_delay_s" in found["problem"]
    assert "timing.commit_s is set, and doesn't apply here" in command("list")[1]


# --- changing ---------------------------------------------------------------------------------


def test_a_setting_is_set_and_told_with_what_it_was(command: Command) -> None:
    status, out, err = command("set", "timing.commit_s", "1e-1", "--author", "anna")
    assert (status, out, err) == (0, "timing.commit_s = 0.1 (was 0.25 by default), version 1, by anna\n", "")
    status, out, err = command("set", "timing.commit_s", "0.2", "--author", "ben")
    assert (status, out, err) == (0, "timing.commit_s = 0.2 (was 0.1), version 2, by ben\n", "")


def test_what_a_file_says_is_called_so(command: Command) -> None:
    assert command("set", "timing.read_s", "0.3", "--author", "anna")[1] == (
        "timing.read_s = 0.3 (was 0.7 from the file), version 1, by anna\n"
    )


@pytest.mark.parametrize("value", ["-1", "-0.5", "-inf"])
def test_a_negative_value_is_no_option(command: Command, value: str) -> None:
    status, _, err = command("set", "timing.commit_s", value)
    assert status == 1
    assert "option" not in err
    assert err.startswith("hitmesh: timing.commit_s")


def test_an_option_that_there_is_not_is_still_wrong_use(command: Command) -> None:
    assert command("set", "timing.commit_s", "0.1", "--no-wiat")[0] == 2


def test_an_author_is_user_and_host_without_a_name(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "carla")
    command("set", "timing.commit_s", "0.1")
    assert listed(command)["timing.commit_s"]["author"].startswith("carla@")


def test_a_setting_is_unset_and_the_file_is_in_force_again(command: Command) -> None:
    command("set", "timing.read_s", "0.3")
    status, out, _ = command("unset", "timing.read_s", "--author", "anna")
    assert (status, out) == (0, "timing.read_s unset, now 0.7 from the file (was 0.3), version 2, by anna\n")
    assert command("get", "timing.read_s")[1] == "0.7\n"
    assert command("unset", "timing.read_s") == (0, "timing.read_s was not set\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["timing.comit_s", "1"], "timing.comit_s is not a setting; did you mean timing.commit_s?"),
        (["timing.heartbeat_s", "1"], "timing.heartbeat_s can't be changed while the mesh runs"),
        (["timing.commit_s", "soon"], 'timing.commit_s must be a number, not "soon"'),
        (["timing.commit_s", "7"], "timing.commit_s (7.0) must be below timing.retry_delay_s (5.0)"),
        (["timing.commit_s", "3"], "in us-west: timing.commit_s (3.0) must be below timing.retry_delay_s (2.0)"),
        (["routes/www.example.com", "{}"], "routes/www.example.com: action is missing"),
        (["datacenters/us-west", "dead"], "the only value is retired"),
        (
            ["timing.commit_s", "0.1", "--dc", "ap-south"],
            "there is no datacenter ap-south; known here: eu-west, us-west",
        ),
        (["timing.commit_s", "0.1", "--expect-version", "3"], "it is not there; version 3 was expected"),
        (["timing.commit_s", "0.1", "--author", "an\nna"], "an author is printable text"),
    ],
)
def test_what_is_wrong_is_refused_in_a_line_and_changes_nothing(
    command: Command, arguments: list[str], message: str
) -> None:
    status, out, err = command("set", *arguments)
    assert (status, out) == (1, "")
    assert err.startswith("hitmesh: ")
    assert err.count("\n") == 1
    assert message in err
    assert all(each["version"] is None for each in listed(command).values())


def test_a_change_that_expects_the_version_that_is_there_is_made(command: Command) -> None:
    assert command("set", "timing.commit_s", "0.1", "--expect-version", "0")[0] == 0
    assert command("set", "timing.commit_s", "0.2", "--expect-version", "0")[0] == 1
    assert command("set", "timing.commit_s", "0.2", "--expect-version", "1")[0] == 0
    assert command("unset", "timing.commit_s", "--expect-version", "1")[0] == 1
    assert command("unset", "timing.commit_s", "--expect-version", "2")[0] == 0


def test_what_others_need_is_not_unset(command: Command) -> None:
    command("set", "balancer.limits.client_rps", "5")
    command("set", "balancer.limits.client_burst", "9")
    status, _, err = command("unset", "balancer.limits.client_rps")
    assert (status, "while balancer.limits.client_burst is set" in err) == (1, True)
    assert listed(command)["balancer.limits.client_rps"]["value"] == "5"


@pytest.mark.parametrize("verb", ["get", "unset"])
def test_an_unknown_key_is_told_with_the_nearest_right_one(command: Command, verb: str) -> None:
    status, _, err = command(verb, "timing.comit_s")
    assert (status, "did you mean timing.commit_s?" in err) == (1, True)
    status, _, err = command("get", "routes/www.example.com")
    assert (status, "routes/www.example.com is not set in eu-west" in err) == (1, True)


def test_a_change_goes_to_the_named_datacenters_store(command: Command, state: Path) -> None:
    command("set", "timing.commit_s", "0.1", "--dc", "us-west")
    assert listed(command)["timing.commit_s"]["from"] == "default"
    assert listed(command, "--dc", "us-west")["timing.commit_s"]["from"] == "live"


def test_a_deployed_datacenters_file_is_as_good_as_a_state_folder(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = state / "us-west" / "hitmesh.toml"
    where = ["--config", str(file), "--state-dir", str(state)]
    assert run(["config", "set", "timing.commit_s", "0.1", "--no-wait", *where]) == 0
    assert SqliteSettings(state / "us-west" / "settings.db").list()["timing.commit_s"].value == b"0.1"
    assert run(["config", "set", "timing.commit_s", "3", "--no-wait", *where]) == 1
    assert "retry_delay_s (2.0)" in capsys.readouterr().err


def test_where_nothing_runs_it_is_set_and_in_force_later(command: Command) -> None:
    status, out, err = command("set", "timing.commit_s", "0.1", wait=True)
    assert (status, err) == (0, "")
    assert out.splitlines()[1] == "it is set, and no mesh is running: in force when it starts"


def test_a_store_that_does_not_answer_is_an_error_that_names_another(command: Command, state: Path) -> None:
    (state / "eu-west" / "settings.db").write_bytes(b"nothing of ours, but long enough to be a file" * 100)
    status, _, err = command("set", "timing.commit_s", "0.1")
    assert status == 1
    assert "the settings of eu-west can't be read" in err
    assert "--dc us-west asks another datacenter's" in err


# --- lines ------------------------------------------------------------------------------------

CONFIG = configured()


def edition(key: str, value: str | None, version: int = 1) -> Edition:
    return Edition(key, None if value is None else value.encode(), version, "anna", 0.0)


@pytest.mark.parametrize(
    ("before", "now", "line"),
    [
        (None, edition("routes/x", "1"), "routes/x = 1 (was not set), version 1, by anna"),
        (edition("routes/x", "1"), edition("routes/x", None, 2), "routes/x unset (was 1), version 2, by anna"),
        (edition("routes/x", None), edition("routes/x", "1", 2), "routes/x = 1 (was not set), version 2, by anna"),
        (edition("routes/x", "1"), Edition("routes/x", None, 0, "", 0.0), "routes/x unset (was 1), removed by hand"),
    ],
)
def test_a_change_is_told_in_a_line(before: Edition | None, now: Edition, line: str) -> None:
    assert change_line(CONFIG, "routes/x", before, now) == line


def test_a_change_is_told_in_json() -> None:
    line = change_line(CONFIG, "routes/x", edition("routes/x", "1"), edition("routes/x", None, 2), as_json=True)
    assert json.loads(line) == {
        "key": "routes/x", "value": None, "before": "1", "version": 2, "author": "anna", "changed_at": 0.0,
    }  # fmt: skip


def test_a_long_value_is_cut_in_the_table_and_nowhere_else() -> None:
    [line] = [each for each in entries(CONFIG, {"routes/x": edition("routes/x", "y" * 200)}) if each.key == "routes/x"]
    assert line.value == "y" * 200
    assert "y" * 57 + "..." in table([line])
