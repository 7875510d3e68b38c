"""`hitmesh drain`, `undrain`, `weight`: what they refuse, and what they leave in the settings store."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from hitmesh.cli import hands, in_force, picture
from hitmesh.cli.main import run
from hitmesh.protocol.messages import Answer
from hitmesh.settings.sqlite import SqliteSettings
from tests.hitmesh.cli.test_picture import answer, seen

DEV = Path(__file__).parents[3] / "config" / "dev.toml"
LIVING = ("collector-1", "collector-2", "processor-1", "processor-2", "nexus-1", "balancer-1")


class Folder:
    """A state folder of two datacenters, of which the Nexuses say what the test wants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.living: dict[str, tuple[str, ...]] = {"eu-west": LIVING, "us-west": LIVING}
        for index, dc in enumerate(self.living):
            (path / dc).mkdir()
            text = DEV.read_text().replace('"dev"', f'"{dc}"').replace("80", f"8{index}")
            (path / dc / "hitmesh.toml").write_text(text)

    def ask(self, dc: str) -> Answer:
        return answer(*(seen(name) for name in self.living[dc]))

    def run(self, *words: str) -> int:
        return run([*words, "--state-dir", str(self.path)])

    def settings(self, dc: str) -> dict[str, str]:
        with contextlib.closing(SqliteSettings(self.path / dc / "settings.db")) as store:
            return {key: each.value.decode() for key, each in store.list().items()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    made = Folder(tmp_path)
    monkeypatch.setattr(picture, "ask", lambda config: made.ask(config.name))
    monkeypatch.setattr(in_force.Wait, "run", lambda self, within_s: None)  # nobody is there to have it in force
    return made


def test_an_instance_is_drained_and_undrained(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert folder.run("drain", "collector-1", "--dc", "us-west", "--within", "0") == 0
    assert folder.settings("us-west") == {"drained/us-west/collector-1": "drained"}
    assert "drained/us-west/collector-1 = drained (was not set)" in capsys.readouterr().out
    assert folder.run("drain", "collector-1", "--dc", "us-west", "--within", "0") == 0
    assert "is drained already" in capsys.readouterr().out
    assert folder.run("undrain", "collector-1", "--dc", "us-west") == 0
    assert folder.settings("us-west") == {}
    assert folder.run("undrain", "collector-1", "--dc", "us-west") == 0
    assert "was not set" in capsys.readouterr().out


def test_which_datacenter_is_meant_must_be_said_where_several_have_the_name(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert folder.run("drain", "collector-1") == 1
    assert capsys.readouterr().err == (
        "hitmesh: collector-1 is in eu-west and in us-west (--dc says which one is meant)\n"
    )
    folder.living["us-west"] = (*LIVING, "collector-9")
    assert folder.run("weight", "collector-9", "50") == 0
    assert folder.settings("us-west") == {"weights/us-west/collector-9": "50"}
    folder.living["us-west"] = LIVING
    assert folder.run("weight", "collector-9", "100") == 0, "of one that has gone it can be taken back"
    assert folder.settings("us-west") == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("drain colector-1", "no instance or backend is called 'colector-1' (did you mean collector-1?)"),
        ("undrain colector-1", "no instance or backend is called 'colector-1' (did you mean collector-1?)"),
        ("weight colector-1 50", "no instance or backend is called 'colector-1' (did you mean collector-1?)"),
        ("drain nexus-1 --dc eu-west", "a nexus can't be drained"),
        ("weight processor-1 50 --dc eu-west", "a processor has no weight"),
        ("config set weights/nowhere/collector-1 50", "there is no datacenter nowhere ("),
        ("config set weights/eu-wset/collector-1 50", "there is no datacenter eu-wset (did you mean eu-west?)"),
        ("config set weights/eu-west/colector-1 50", "called 'colector-1' (did you mean collector-1?)"),
        ("config set drained/us-west/colector-1 drained", "called 'colector-1' (did you mean collector-1?)"),
        ("config set weights/eu-west/processor-1 50", "a processor has no weight"),
        ("config set drained/eu-west/nexus-1 drained", "a nexus can't be drained"),
        ("drain collector-1 --dc eu", "there is no datacenter eu; known here: eu-west, us-west"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_and_changes_nothing(
    folder: Folder, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    assert folder.run(*words.split()) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert said in told.err
    assert folder.settings("eu-west") == folder.settings("us-west") == {}


@pytest.mark.parametrize("number", ["0", "-1", "1001", "half"])
def test_a_weight_is_from_1_to_1000(folder: Folder, number: str) -> None:
    assert folder.run("weight", "collector-1", number, "--dc", "eu-west") == 2


def test_the_last_one_is_drained_by_force_only(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.living["eu-west"] = ("collector-1", "nexus-1")
    assert folder.run("drain", "collector-1", "--dc", "eu-west") == 1
    assert "collector-1 is the last collector that is up and not drained" in capsys.readouterr().err
    assert folder.settings("eu-west") == {}
    assert folder.run("drain", "collector-1", "--dc", "eu-west", "--force", "--within", "0") == 0
    assert folder.settings("eu-west") == {"drained/eu-west/collector-1": "drained"}


def test_of_the_last_processor_it_is_said_at_once_that_its_partitions_stay(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(*_: object) -> int:
        raise AssertionError("nobody can take them: there is nothing to wait for")

    folder.living["eu-west"] = ("processor-1", "nexus-1")
    monkeypatch.setattr(hands, "_wait_drained", wait)
    assert folder.run("drain", "processor-1", "--dc", "eu-west", "--force") == 1
    told = capsys.readouterr().err
    assert "processor-1 is drained, and its 0 partitions stay with it: no other processor is up and not drained" in told
    assert folder.settings("eu-west") == {"drained/eu-west/processor-1": "drained"}


def test_of_two_that_are_drained_in_the_same_moment_not_both_are(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(_: object, within_s: float) -> None:
        with contextlib.closing(SqliteSettings(folder.path / "eu-west" / "settings.db")) as store:
            store.set("drained/eu-west/collector-2", b"drained", author="somebody")

    monkeypatch.setattr(in_force.Wait, "run", wait)
    assert folder.run("drain", "collector-1", "--dc", "eu-west", "--within", "0") == 1
    told = capsys.readouterr().err
    assert "collector-1 is the last collector that is up and not drained" in told
    assert "others were drained in the same moment (--force drains it)" in told
    assert folder.settings("eu-west") == {"drained/eu-west/collector-2": "drained"}


def test_a_backend_that_a_live_route_names_has_a_weight(folder: Folder) -> None:
    with contextlib.closing(SqliteSettings(folder.path / "eu-west" / "settings.db")) as store:
        store.set("routes/a.example", b'{"action": "proxy", "backends": ["10.0.0.1:80"]}', author="anna")
    assert folder.run("weight", "10.0.0.1:80", "250") == 0
    assert folder.settings("eu-west")["weights/eu-west/10.0.0.1:80"] == "250"


def test_one_that_does_not_drain_in_time_is_said(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert folder.run("drain", "processor-1", "--dc", "eu-west", "--within", "0.1") == 1
    assert "processor-1 drains, and after 0.1 s it hasn't said so" in capsys.readouterr().err
