"""What a deploy and a check refuse of a file, since hosts run with another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hitmesh.deploy import bootstrap, tasks
from hitmesh.deploy.paths import config_path
from hitmesh.errors import CommandError
from tests.hitmesh.deploy.test_tasks import Operator

FILE = config_path("dc")
EIGHT = "dc has 8 partitions on its hosts, and the file says 32: totals can't be moved; put 8 back"


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.setattr("hitmesh.deploy.runner.POLL_S", 0.02)
    return Operator(tmp_path, monkeypatch)


def refused_by_check(operator: Operator) -> str:
    with pytest.raises(CommandError) as caught:
        tasks.check(operator.desk)
    return str(caught.value)


def stands(operator: Operator, text: str, *hosts: str) -> None:
    for host in hosts:
        operator.hosts.files[host][FILE] = text


@pytest.mark.parametrize("asked", [{}, {"dry": True}, {"force": True}, {"only": "a"}])
@pytest.mark.parametrize("hosts", [["a", "b"], ["b"]], ids=["on all hosts", "on one host"])
def test_another_number_of_partitions_than_hosts_count_with_is_refused_however_it_is_asked(
    operator: Operator, hosts: list[str], asked: dict[str, object]
) -> None:
    stands(operator, operator.desk.text, "a", "b")
    stands(operator, f"partitions = 8\n{operator.desk.text}", *hosts)
    assert EIGHT in operator.refused(**asked)
    assert EIGHT in refused_by_check(operator)
    assert operator.hosts.calls == []


def test_hosts_that_disagree_about_partitions_are_both_named(operator: Operator) -> None:
    stands(operator, f"partitions = 8\n{operator.desk.text}", "a")
    stands(operator, f"partitions = 16\n{operator.desk.text}", "b")
    assert "has 8 and 16 partitions on its hosts, and the file says 32" in operator.refused()


def test_a_file_whose_hosts_never_ran_anything_or_that_cannot_be_read_is_no_objection(operator: Operator) -> None:
    stands(operator, "partitions = ", "b")
    operator.hosts.current = dict.fromkeys(operator.hosts.current, "")
    stands(operator, f"partitions = 8\n{operator.desk.text}", "a")  # a bootstrap's
    operator.deploy(dry=True)


def test_a_bootstrap_of_a_host_that_counts_with_other_partitions_changes_nothing(
    operator: Operator, tmp_path: Path
) -> None:
    stands(operator, f"partitions = 8\n{operator.desk.text}", "a")
    desk = operator.desk
    with pytest.raises(CommandError, match="has 8 partitions on its hosts"):
        bootstrap.bootstrap(desk.fleet, desk.text, desk.hosts["a"], desk.ssh, tmp_path / "none.tar", [], {})
    assert operator.hosts.calls == []
