"""Retiring a datacenter: what is asked before, what is written, what is shown."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hitmesh.cli import datacenter
from hitmesh.cli.main import run
from hitmesh.config import Config, dump, load
from hitmesh.protocol.messages import Head, Instance, Origin, Position, Seen, encode, make
from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.store import Done, Write
from hitmesh.store.sqlite import SqliteTotals
from tests.hitmesh.mesh.instances import instance
from tests.services.nexus import NexusProcess, free_ports

DEV = Path(__file__).parents[3] / "config" / "dev.toml"
DCS = ("ap-south", "eu-west", "us-west")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Three datacenters, none of which runs; eu-west's copy of us-west is the furthest, ap-south's of af-east."""
    for number, (dc, hits) in enumerate(zip(DCS, (3, 5, 0), strict=True)):
        template = load(DEV)
        ports = msgspec.structs.replace(template.ports, nexus=free_ports(6), collector=8010 + 100 * number)
        peers = {other: ("127.0.0.1:9",) for other in (*DCS, "af-east") if other != dc}
        config = msgspec.structs.replace(template, name=dc, ports=ports, peers=peers)
        (tmp_path / dc).mkdir()
        (tmp_path / dc / "hitmesh.toml").write_text(dump(config))
        copies = {"us-west": hits, "af-east": 8 - hits} if hits else {}
        now_s = int(time.time())
        origins = {of: Origin(Position("theirs", 1, 1), each, {}, now_s - 100 * each) for of, each in copies.items()}
        head = encode(make(Head, "ledger", 1, "owner", 1, 0, {}, (), origins, False, 0))
        store = SqliteTotals(tmp_path / dc / "totals.db")
        outcomes = store.write([Write(partition, 0, head, []) for partition in (0, 7)])
        store.close()
        assert all(isinstance(outcome, Done) for outcome in outcomes)
    return tmp_path


def settings(state: Path, dc: str) -> dict[str, bytes]:
    with contextlib.closing(SqliteSettings(state / dc / "settings.db")) as store:
        return {key: each.value for key, each in store.list("datacenters/").items()}


def command(state: Path, *arguments: str) -> int:
    return run(["datacenter", *arguments, "--state-dir", str(state)])


def listed(state: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert command(state, "list", "--json") == 0
    return {each["dc"]: each for each in json.loads(capsys.readouterr().out)}


def test_every_datacenter_that_is_known_is_listed_with_its_furthest_copy(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = listed(state, capsys)
    assert list(found) == ["af-east", "ap-south", "eu-west", "us-west"]
    assert {each["state"] for each in found.values()} == {"silent"}
    assert (found["us-west"]["hits"], found["us-west"]["copy_in"]) == (10, "eu-west")
    assert 500 <= found["us-west"]["behind_s"] < 560
    assert (found["af-east"]["hits"], found["af-east"]["copy_in"]) == (10, "ap-south")
    assert (found["eu-west"]["hits"], found["eu-west"]["behind_s"]) == (None, None)


def test_one_that_is_gone_is_retired_in_another_one_s_settings_and_taken_in_again(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(state, "retire", "us-west") == 0
    said = capsys.readouterr().out
    assert "10 hits that are in eu-west's copy stay in every total" in said
    assert "hitmesh datacenter return us-west" in said
    assert settings(state, "ap-south") == {"datacenters/us-west": b"retired"}
    assert settings(state, "us-west") == {}
    found = listed(state, capsys)["us-west"]
    assert found["state"] == "retired"
    assert found["retired_by"]
    assert abs(time.time() - found["retired_at"]) < 60
    assert command(state, "list") == 0
    assert "retired by" in capsys.readouterr().out
    assert command(state, "return", "us-west") == 0
    assert settings(state, "ap-south") == {}
    assert listed(state, capsys)["us-west"]["state"] == "silent"


def test_a_name_that_nobody_knows_is_refused_with_the_nearest_one(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("retire", "return"):
        assert command(state, verb, "us-wets") == 1
        assert "did you mean us-west?" in capsys.readouterr().err
    assert settings(state, "ap-south") == {}


def test_one_that_isn_t_retired_can_t_be_taken_in(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(state, "return", "us-west") == 1
    assert "us-west isn't retired" in capsys.readouterr().err


def test_the_first_settings_store_that_takes_it_has_it(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state / "ap-south" / "settings.db").write_bytes(b"not a database" * 100)
    assert command(state, "retire", "us-west") == 0
    assert settings(state, "eu-west") == {"datacenters/us-west": b"retired"}


def test_where_no_settings_can_be_read_nothing_is_said_to_be_done(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for dc in DCS:
        (state / dc / "settings.db").write_bytes(b"not a database" * 100)
    assert command(state, "retire", "us-west") == 1
    shown = capsys.readouterr()
    assert "retired" not in shown.out
    assert "no settings can be read" in shown.err


def test_nobody_retires_himself(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(state / "us-west" / "hitmesh.toml")
    assert command(state, "retire", "us-west", "--config", config) == 1
    assert "can't retire itself" in capsys.readouterr().err
    assert command(state, "retire", "eu-west", "--config", config) == 0
    assert settings(state, "us-west") == {"datacenters/eu-west": b"retired"}


def test_the_later_word_of_two_settings_stores_counts(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(state, "retire", "us-west") == 0
    with contextlib.closing(SqliteSettings(state / "ap-south" / "settings.db")) as here:
        editions = here.editions()
    with contextlib.closing(SqliteSettings(state / "eu-west" / "settings.db")) as there:
        there.merge(editions.values())
        there.delete("datacenters/us-west", author="somebody")
    assert listed(state, capsys)["us-west"]["state"] == "silent"


def heard(dc: str, *, alive: bool) -> Seen:
    return Seen(Instance(dc, "nexus", "nexus-1", f"{dc}-1", "up", 1, 1, {}, {}, {}), 1, 100, alive)


@pytest.mark.parametrize(("alive", "status"), [(True, 1), (False, 0)])
def test_one_that_another_s_nexus_hears_alive_is_refused(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, alive: bool, status: int
) -> None:
    def ask(config: Config) -> tuple[Seen, ...]:
        return (heard("us-west", alive=alive), heard("xx-new", alive=True)) if config.name == "eu-west" else ()

    monkeypatch.setattr(datacenter, "_heard", ask)
    assert command(state, "retire", "us-west") == status
    # eu-west runs, so it is told rather than ap-south.
    assert settings(state, "eu-west") == ({} if alive else {"datacenters/us-west": b"retired"})
    assert "xx-new" in listed(state, capsys)


@pytest.fixture
def nexus(state: Path) -> Iterator[NexusProcess]:
    """us-west's Nexus, which runs."""
    config = load(state / "us-west" / "hitmesh.toml")
    server = NexusProcess(state / "us-west", msgspec.structs.replace(config, peers={}), 1)
    server.start()
    yield server
    server.stop()


def test_one_that_runs_is_refused_unless_forced(
    state: Path, capsys: pytest.CaptureFixture[str], nexus: NexusProcess
) -> None:
    assert command(state, "retire", "us-west") == 1
    assert "us-west is alive" in capsys.readouterr().err
    assert settings(state, "ap-south") == {}
    assert command(state, "retire", "us-west", "--force") == 0
    assert settings(state, "ap-south") == {"datacenters/us-west": b"retired"}
    assert settings(state, "us-west") == {}
    assert listed(state, capsys)["us-west"]["state"] == "retired"


def owner(name: str, ages: dict[str, float], *, dc: str = "eu-west", alive: bool = True, owns: bool = True) -> Seen:
    load = {f"age_s.{other}": age_s for other, age_s in ages.items()}
    one = instance(name, dc=dc, load=load, owns={1: 1} if owns else {})
    return Seen(one, 1, 500, alive)


@pytest.mark.parametrize(
    ("heard", "age_s"),
    [
        ([owner("processor-1", {"us-west": 2.0}), owner("processor-2", {"us-west": 3.0})], 3.5),
        ([owner("processor-1", {"us-west": 2.0}), owner("processor-2", {"us-west": 9.0}, owns=False)], 2.5),
        ([owner("processor-1", {"us-west": 2.0}), owner("processor-2", {"us-west": 9.0}, alive=False)], 2.5),
        ([owner("processor-1", {"us-west": 2.0}), owner("processor-1", {"us-west": 9.0}, dc="ap-south")], 2.5),
        ([owner("processor-1", {"us-west": 2.0}), owner("processor-2", {"ap-south": 1.0})], None),
        ([], None),
    ],
    ids=["the oldest", "not of who owns nothing", "nor of the dead", "nor elsewhere", "one doesn't say", "nobody"],
)
def test_a_copy_is_as_old_as_its_owners_say_if_all_do(heard: list[Seen], age_s: float | None) -> None:
    assert datacenter.age_said("us-west", "eu-west", heard) == age_s


def test_what_the_owners_say_goes_before_what_the_heads_say(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads say when they were written: of a datacenter without hits that is long ago."""
    monkeypatch.setattr(datacenter, "_heard", lambda _: (owner("processor-1", {"us-west": 2.0}),))
    found = listed(state, capsys)
    assert (found["us-west"]["copy_in"], found["us-west"]["behind_s"]) == ("eu-west", 2.5)
    assert found["af-east"]["behind_s"] > 100
    assert (found["us-west"]["behind_is_said"], found["af-east"]["behind_is_said"]) == (True, False)
    assert command(state, "list") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["us-west"].endswith("10 hits copied, in eu-west, 2 s ago")
    assert lines["af-east"].endswith(" s ago; whether that is all of it, nobody who runs there says")
