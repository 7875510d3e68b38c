"""What an operator is told of a host that can't be bootstrapped."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any, cast

import pytest

from hitmesh.config import parse
from hitmesh.deploy import bootstrap
from hitmesh.deploy.fleet import Fleet, Host
from hitmesh.deploy.remote import RemoteHost
from hitmesh.deploy.ssh import Result, Ssh
from hitmesh.errors import CommandError

NODES = {"app-1": {"address": "10.2.0.11", "nexus": 1, "processor": 1, "collector": 1, "balancer": 1}}
FLEET = Fleet.of(
    parse(
        {"name": "us-west", "insecure": True, "nodes": NODES, "ports": {"balancer_admin": 0}, "deploy": {"python": "python3.12"}},
        source="test",
    )
)  # fmt: skip


class Root:
    """At the place of ssh as root: whatever is asked ends so."""

    def __init__(self, status: int, said: str) -> None:
        self._result = Result(status, b"", said)

    def run(self, _host: Host, _argv: list[str], **_: Any) -> Result:
        return self._result


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (127, "sh: 1: python3.12: not found", "app-1: there is no python3.12 (install Python 3.11 or later; deploy.python names it)"),
        (1, '{"error": "here is Python 3.10.12, and hitmesh needs 3.11", "hint": "deploy.python"}',
         "app-1: here is Python 3.10.12, and hitmesh needs 3.11 (deploy.python)"),
        (1, "it broke", "app-1: bootstrap ended with 1: it broke"),
    ],
    ids=["without a Python", "with one too old", "otherwise"],
)  # fmt: skip
def test_a_host_that_cannot_be_bootstrapped_is_one_clear_line(
    status: int, said: str, told: str, tmp_path: Path
) -> None:
    release = tmp_path / "release.tar"
    with tarfile.open(release, "w"):
        pass
    root = cast(Ssh, Root(status, said))
    with pytest.raises(CommandError) as caught:
        bootstrap.bootstrap(FLEET, "", RemoteHost(FLEET.hosts[0], root, "us-west"), root, release, [], {})
    assert str(caught.value) == told
