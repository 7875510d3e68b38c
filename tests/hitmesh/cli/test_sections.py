"""supervisord.conf as text: one program more, one fewer, and nothing else touched."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from hitmesh.cli import sections
from hitmesh.cli.layout import program_text, role_program
from hitmesh.config import Placement
from hitmesh.errors import CommandError
from tests.hitmesh.cli.test_layout import laid_out, options, shipped_text, supervisor_conf


@pytest.fixture
def text() -> str:
    return supervisor_conf(options())


def sections_of(text: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections()}


def third_collector() -> str:
    config = laid_out(options()).datacenters[0]
    placement = Placement("collector", "collector-3", "local", "127.0.0.1", 8012)
    program = role_program(config, placement, Path("/srv/mesh/eu-west/hitmesh.toml"), python="/usr/bin/python3")
    return program_text(program, Path("/srv/mesh/log"), shipped_text("collector"))


def test_every_program_is_found(text: str) -> None:
    assert sections.programs(text) == [
        name.partition(":")[2] for name in sections_of(text) if name.startswith("program:")
    ]


def test_one_more_is_like_its_siblings(text: str) -> None:
    before, after = sections_of(text), sections_of(sections.with_program(text, third_collector()))
    assert set(after) - set(before) == {"program:eu-west-collector-3"}
    assert {name: after[name] for name in before} == before
    sibling = {
        key: value.replace("collector-2", "collector-3") for key, value in before["program:eu-west-collector-2"].items()
    }
    assert after["program:eu-west-collector-3"] == sibling


def test_one_fewer_leaves_the_others(text: str) -> None:
    before = sections_of(text)
    for name in sections.programs(text):
        after = sections_of(sections.without_program(text, name))
        assert after == {other: keys for other, keys in before.items() if other != f"program:{name}"}


def test_what_came_goes_without_a_trace(text: str) -> None:
    assert sections.without_program(sections.with_program(text, third_collector()), "eu-west-collector-3") == text


def test_comments_above_the_next_program_stay(text: str) -> None:
    comment = shipped_text("processor").splitlines()[0]
    assert comment.startswith(";")
    found = sections.without_program(text, "eu-west-nexus-2").count(comment)
    assert found == text.count(comment) > 0


def test_what_somebody_wrote_by_hand_stays(text: str) -> None:
    own = "\n; mine\n[program:mine]\ncommand = sleep 1000\n\n[eventlistener:e]\ncommand = true\n"
    changed = sections.without_program(sections.with_program(text + own, third_collector()), "us-west-collector-1")
    assert own.strip() in changed


def test_a_program_that_is_not_there_changes_nothing(text: str) -> None:
    assert sections.without_program(text, "eu-west-collector-9") == text


def test_the_interpreter_of_the_roles_is_known_even_from_an_odd_folder() -> None:
    text = supervisor_conf(options(python="/srv/my venv/100%/bin/python"))
    assert sections.python_of(text, "us-west") == "/srv/my venv/100%/bin/python"


@pytest.mark.parametrize("text", ["", "no section", "[program:eu-west-nexus-1]\n"])
def test_a_file_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="doesn't say what runs eu-west-nexus-1"):
        sections.python_of(text, "eu-west")
