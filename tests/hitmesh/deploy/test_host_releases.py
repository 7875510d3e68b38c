from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hitmesh.errors import CommandError
from tests.hitmesh.deploy.here import Here

pytestmark = pytest.mark.system  # makes environments, which is pip's work

ID, OTHER = "0.2.0-0123456789ab", "0.2.1-ba9876543210"
PYTHON = ".".join(map(str, sys.version_info[:2]))


def wheel(version: str = "0.2.0", body: str = "") -> bytes:
    """A hitmesh that can only say its version."""
    packed = io.BytesIO()
    info = f"hitmesh-{version}.dist-info"
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("hitmesh/__init__.py", "")
        file.writestr("hitmesh/__main__.py", body or f"print('hitmesh, version {version}')\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: hitmesh\nVersion: {version}\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    return packed.getvalue()


def release(id_: str = ID, version: str = "0.2.0", **other: Any) -> dict[str, bytes]:
    """The files of a release."""
    content = other.pop("wheel", None) or wheel(version)
    name = f"hitmesh-{version}-py3-none-any.whl"
    about = {
        "id": id_,
        "version": version,
        "python": PYTHON,
        "platform": "any",
        "wheels": {name: hashlib.sha256(content).hexdigest()},
    }
    return {"release.json": json.dumps({**about, **other}).encode(), f"wheels/{name}": content}


def tar(files: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        for name, content in files.items():
            member = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if isinstance(content, tarfile.TarInfo) else content
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def link(name: str, to: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, to
    return member


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Here:
    here = Here(tmp_path_factory.mktemp("host"))
    here.ask("receive", ID, stdin=tar(release()))
    return here


def test_a_release_is_received_whole_and_starts_from_its_own_path(received: Here) -> None:
    folder = received.root / "opt/hitmesh/releases" / ID
    assert sorted(one.name for one in folder.parent.iterdir()) == [ID]
    assert {"bin", "lib", "wheels", "release.json", "pyvenv.cfg"} <= {one.name for one in folder.iterdir()}
    assert list(folder.glob("lib/python3*/site-packages/hitmesh/__pycache__/*.pyc")), "no role pays for compiling it"


def test_a_release_that_is_there_is_not_read_again(received: Here) -> None:
    assert received.ask("receive", ID, stdin=b"not looked at") == {"id": ID}


def test_a_host_says_what_it_has(received: Here) -> None:
    facts = received.facts()
    assert facts.releases == [ID]
    assert facts.python.startswith(PYTHON)
    assert facts.programs is None, "no supervisord runs there"


WHEEL = next(name for name in release() if name != "release.json")


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (tar(release())[:-20_000][:1500], "broke off"),
        (tar({**release(), "wheels/../../x-1-py3-none-any.whl": b""}), "a release has no"),
        (tar({**release(), "/etc/passwd": b""}), "a release has no"),
        (tar({**release(), "wheels/x-1-py3-none-any.whl": link("wheels/x-1-py3-none-any.whl", "/etc/shadow")}), "a release has no"),
        (tar({**release(), "wheels/x-1-py3-none-any.whl": b""}), "not as release.json has them"),
        (tar({**release(), WHEEL: b"other"}), "not as release.json has them: hitmesh"),
        (tar({"release.json": release()["release.json"]}), "the release lacks hitmesh"),
        (tar({WHEEL: b""}), "release.json can't be read"),
        (tar(release(id_=OTHER)), f"this is release '{OTHER}'"),
        (tar(release(python="3.9")), "is for Python 3.9"),
        (tar(release(wheel=b"no zip")), "can't be installed"),
        (tar(release(wheel=wheel(body="import nothing"))), "can't be installed: ModuleNotFoundError"),
        (tar(release(wheel=wheel(body="print('0.1.0')"))), "says that it is 0.2.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_release_that_is_not_whole_leaves_nothing_behind(here: Here, stream: bytes, why: str) -> None:
    with pytest.raises(CommandError, match=why):
        here.ask("receive", ID, stdin=stream)
    assert list((here.root / "opt/hitmesh/releases").iterdir()) == []


def test_an_instance_is_switched_and_its_release_is_kept(received: Here) -> None:
    assert received.ask("switch", "collector-1", ID) == {"was": ""}
    assert received.ask("switch", "collector-1", ID) == {"was": ID}
    assert received.facts().current == {"collector-1": ID}
    with pytest.raises(CommandError, match="collector-1 would start from"):
        received.ask("forget", ID)


def test_nothing_is_switched_to_a_release_that_is_not_there(received: Here) -> None:
    with pytest.raises(CommandError, match=f"there is no release {OTHER} here"):
        received.ask("switch", "collector-2", OTHER)


def test_a_release_that_nothing_runs_is_forgotten(here: Here) -> None:
    (here.root / "opt/hitmesh/releases" / OTHER).mkdir(parents=True)
    here.ask("forget", OTHER)
    assert here.facts().releases == []
