"""A release as it is built here: what is compiled here is what a host runs, which has no compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from hitmesh import __version__
from hitmesh.compiled import EXTENSIONS, GROUP, SUFFIX, SWITCH
from hitmesh.deploy import release
from hitmesh.deploy.host.rules import is_wheel
from tests.hosts.fab import copy_checkout

pytestmark = pytest.mark.system


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One whose releases have no other wheel but its own."""
    monkeypatch.setattr(release, "locked", lambda _project: [])
    return copy_checkout(tmp_path / "checkout", __version__)


def needs_a_compiler() -> None:
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if not shutil.which(compiler):
        pytest.skip(f"there is no C compiler ({compiler})")


def unpacked(built: release.Built, into: Path) -> Path:
    """What the release's wheel puts into a host's environment."""
    shutil.unpack_archive(built.tar, into, "tar")
    (wheel,) = (into / "wheels").iterdir()
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(into / "site")
    return into / "site"


def says(site: Path) -> str:
    """What hitmesh says there of itself, on a host that has nothing on its PATH."""
    env = {"PYTHONPATH": str(site), "PATH": "", SWITCH: "1"}
    command = [sys.executable, "-m", "hitmesh", "--version"]
    return subprocess.run(command, cwd=site, env=env, capture_output=True, text=True, check=True).stdout


def test_a_release_brings_its_compiled_modules_to_hosts_without_a_compiler(checkout: Path, tmp_path: Path) -> None:
    needs_a_compiler()
    built = release.build(checkout, tmp_path / "releases")
    assert built.note == ""
    (name,) = built.release.wheels
    assert is_wheel(name)
    assert name.endswith(
        f"-cp{sys.version_info.major}{sys.version_info.minor}-{sysconfig.get_platform().replace('-', '_')}.whl"
    )
    site = unpacked(built, tmp_path / "host")
    assert (site / EXTENSIONS / f"{GROUP}{SUFFIX}").is_file()
    assert says(site) == f"hitmesh, version {__version__} (compiled)\n"


def test_the_same_sources_are_the_same_release_whoever_has_compiled_them(checkout: Path, tmp_path: Path) -> None:
    needs_a_compiler()
    here = release.build(checkout, tmp_path / "here")
    library = checkout / EXTENSIONS / f"{GROUP}{SUFFIX}"
    library.write_bytes(library.read_bytes() + b"another compiler's")
    there = release.build(checkout, tmp_path / "there")
    assert here.release.wheels != there.release.wheels
    assert here.release.id == there.release.id


def test_a_release_is_built_without_a_compiler_and_says_so(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(checkout / EXTENSIONS, ignore_errors=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    built = release.build(checkout, tmp_path / "releases")
    assert built.note.startswith("not compiled, as there is no C compiler ")
    assert [name.partition("-py3-")[2] for name in built.release.wheels] == ["none-any.whl"]
    assert says(unpacked(built, tmp_path / "host")) == f"hitmesh, version {__version__} (interpreted)\n"
