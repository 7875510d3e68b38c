"""Earlier releases, beside the one under test: tests/releases has a wheel of each, since a clone may lack its commit."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

WHEELS: Final = Path(__file__).resolve().parents[1] / "releases"
PREVIOUS: Final = "0.2.0"
WIRE_1: Final = "0.1.0"  # the last release that can only read wire format 1


def unpack(version: str, folder: Path) -> Mapping[str, str]:
    """Put a release into `folder`; the environment in which this Python, with its dependencies, runs that one."""
    with zipfile.ZipFile(WHEELS / f"hitmesh-{version}-py3-none-any.whl") as wheel:
        wheel.extractall(folder)
    return {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}  # safe: not the one in the working folder
