"""Who is in the way of a restore: whoever counts, and whoever would start them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hitmesh.cli.restore import check_stopped
from hitmesh.errors import CommandError


def heard(name: str) -> Any:
    instance = SimpleNamespace(dc="eu", role=name.rpartition("-")[0], name=name)
    return SimpleNamespace(heard={"eu": [SimpleNamespace(alive=True, instance=instance)]})


@pytest.mark.parametrize("name", ["collector-9", "processor-1", "scaler-1"])
def test_a_living_one_of_these_is(name: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=f"the mesh counts: eu-{name} run"):
        check_stopped(heard(name), tmp_path)


@pytest.mark.parametrize("name", ["nexus-1", "dashboard-1", "balancer-1"])
def test_one_of_those_isnt(name: str, tmp_path: Path) -> None:
    check_stopped(heard(name), tmp_path)
