"""Which tests start processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.services import Server, wait_for
from tests.starting import can_start


def start() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def start_by_another() -> None:
    def later() -> None:
        start()

    later()


class Derived(Server):
    """One that starts what it is derived from starts."""


def wait() -> None:
    wait_for(lambda: True)


@pytest.mark.parametrize("thing", [start, start_by_another, Server, Derived])
def test_what_names_something_that_starts_processes_can_start_them(thing: object) -> None:
    assert can_start(thing)


def test_what_only_stands_beside_such_a_thing_cannot() -> None:
    assert not can_start(wait)


def test_a_test_that_names_one_is_a_system_test(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("system") is not None
    start()


def test_others_are_not_and_start_none(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("system") is None
    hidden = vars(sys.modules[__name__])["start"]
    with pytest.raises(pytest.fail.Exception, match="it starts a process"):
        hidden()
