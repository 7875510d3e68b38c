"""The shipped example, changed: what is made of it, or what is said of the mistake."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hitmesh.config import Config, parse
from hitmesh.errors import ConfigError

DEV = Path(__file__).parents[2] / "config" / "dev.toml"
Change = Callable[[dict[str, Any]], object]


def tables() -> dict[str, Any]:
    return tomllib.loads(DEV.read_text())


def configured(change: Change = lambda _: None) -> Config:
    data = tables()
    change(data)
    return parse(data, source="x.toml")


def mistake(change: Change) -> str:
    with pytest.raises(ConfigError) as raised:
        configured(change)
    message = str(raised.value)
    assert message.startswith("x.toml: ")
    assert "\n" not in message
    return message.removeprefix("x.toml: ")
