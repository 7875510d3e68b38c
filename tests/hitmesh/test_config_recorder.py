"""Where recorders are, and what they keep, by the configuration."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hitmesh.config import Placement, dump, load, parse, ports_of
from tests.hitmesh.dev_config import DEV, Change, configured, mistake


def recorder(**what: object) -> Change:
    return lambda data: data["recorder"].update(what)


def test_a_recorder_takes_two_ports_for_records_and_for_who_reads_them() -> None:
    first, second = configured(lambda data: data["nodes"]["local"].update(recorder=2)).instances("recorder")
    assert first == Placement("recorder", "recorder-1", "local", "127.0.0.1", 8036)
    assert (ports_of(first), ports_of(second)) == ([8036, 8037], [8038, 8039])


def test_a_datacenter_needs_no_recorder_and_a_file_without_one_says_nothing_of_it() -> None:
    config = configured(lambda data: data["nodes"]["local"].pop("recorder"))
    assert config.instances("recorder") == []
    assert "recorder" not in dump(config), "a release before would refuse the file"


def test_the_password_s_file_is_relative_to_the_file_and_read_back_from_a_dump(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    text = DEV.read_text().replace('postgresql = ""', 'postgresql = "postgresql://me@db/hits"')
    path.write_text(text.replace('postgresql_password_file = ""', 'postgresql_password_file = "the.password"'))
    config = load(path)
    assert config.recorder.postgresql_password_file == str(tmp_path / "the.password")
    assert parse(tomllib.loads(dump(config)), source="dumped").recorder == config.recorder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (recorder(max_bytes=1000), "recorder.max_bytes must be a whole number >= 16777216, not 1000"),
        (recorder(postgresql_password_file="x"), "recorder.postgresql_password_file means nothing without"),
        (recorder(postgresql="postgresql://me:secret@db/hits"), "recorder.postgresql has a password in it"),
        (recorder(postgresql="postgresql://me@db/hits?password=secret"), "recorder.postgresql has a password in it"),
        (recorder(postgresql="mysql://me@db/hits"), "recorder.postgresql isn't of the form postgresql://USER@HOST"),
        (recorder(postgresql="postgresql://me@db"), "recorder.postgresql isn't of the form postgresql://USER@HOST"),
        (recorder(postgresql="postgresql://me@db:port/hits"), "recorder.postgresql isn't of the form"),
        (recorder(postgresql="postgresql://[/hits"), "recorder.postgresql isn't of the form"),
        (lambda d: d["ports"].update(recorder=8030), "recorder-1 and dashboard-1 both want port 8030 of 127.0.0.1"),
    ],
)
def test_a_mistake_is_told_in_words_and_no_password_is(change: Change, message: str) -> None:
    said = mistake(change)
    assert said.startswith(message)
    assert "secret" not in said
