"""The alert rules that come with hitmesh, read as Prometheus reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

REPOSITORY: Final = Path(__file__).resolve().parents[3]
FOLDER: Final = REPOSITORY / "config" / "prometheus"
RULES: Final = FOLDER / "hitmesh.rules.yml"
PAGE: Final = "docs/operations/alerts.md"
# What a rule compares, before the bound that it compares it with.
_BOUND: Final = re.compile(r" (?:==|>) [0-9.]+$")


def alerts() -> dict[str, Mapping[str, Any]]:
    """All of them, by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    found = [rule for group in groups for rule in group["rules"]]
    named = {rule["alert"]: rule for rule in found}
    assert len(named) == len(found), "two alerts have one name"
    return named


def compared(expr: str) -> str:
    """What is there whether or not the alert fires."""
    assert _BOUND.search(expr), expr
    return _BOUND.sub("", expr)
