"""What is said of stores that can't be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from hitmesh.cli import picture, readiness
from hitmesh.cli.stores import trouble
from hitmesh.config import Config, parse
from tests.services import free_port

NODE = {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 1, "balancer": 1}


def datacenter(**stores: str) -> Config:
    return parse({"name": "dc", "nodes": {"local": NODE}, "stores": stores}, source="test")


def nobody() -> str:
    return f"consul://127.0.0.1:{free_port()}/hitmesh"


def test_stores_that_can_be_read_are_no_trouble(tmp_path: Path) -> None:
    assert trouble(datacenter(), tmp_path) == ""


@pytest.mark.parametrize("store", ["totals", "settings"])
def test_a_store_that_refuses_connections_is_said(tmp_path: Path, store: str) -> None:
    said = trouble(datacenter(**{store: nobody()}), tmp_path)
    assert said.startswith(f"the {store} store can't be read: ")
    assert "refused" in said


@pytest.mark.parametrize(("missing", "is_said"), [(["2 of 32 partitions"], True), (["nexus-1"], False)])
def test_up_says_of_partitions_that_nobody_takes_what_is_wrong_with_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: list[str], is_said: bool
) -> None:
    monkeypatch.setattr(picture, "ask", lambda _: None)
    monkeypatch.setattr(picture, "missing", lambda *_: list(missing))
    config = datacenter(totals=nobody())
    found = readiness.stores_trouble(readiness.lacking_in([config]), [config], tmp_path)
    assert ("the totals store can't be read" in readiness.as_text(found)) == is_said
