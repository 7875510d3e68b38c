from __future__ import annotations

import json
from pathlib import Path

import pytest

from hitmesh.cli import picture, ready
from hitmesh.cli.main import run

DEV = Path(__file__).parents[3] / "config" / "dev.toml"
ILL = "collector-1 (/health: 503: no spool)"


@pytest.mark.parametrize(
    ("lacking", "ill", "warm", "found"),
    [
        ([], [], True, []),
        (["owners of 3 of 32 partitions"], [ILL], True, ["owners of 3 of 32 partitions", ILL]),
        (["collector-1"], [ILL], True, ["collector-1"]),  # it is named already
        ([], [], False, ["nexus-1 (doesn't know everybody yet)", "nexus-2 (doesn't know everybody yet)"]),
    ],
)
def test_whatever_is_lacking_is_said_at_once(
    lacking: list[str], ill: list[str], warm: bool, found: list[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "hitmesh.toml").write_text(DEV.read_text())
    monkeypatch.setattr(ready, "lacking_in", lambda configs: {"dev": lacking} if lacking else {})
    monkeypatch.setattr(ready, "unable", lambda config, role, highest: ill)
    monkeypatch.setattr(picture, "is_warm", lambda config, name: warm)
    status = run(["ready", "--json", "--state-dir", str(tmp_path)])
    assert json.loads(capsys.readouterr().out) == ({"dev": found} if found else {})
    assert status == (1 if found else 0)
