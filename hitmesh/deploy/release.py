"""A release: the wheels of hitmesh and of all that it needs, of the versions that it was tested with.

Built from the checkout and from what its environment has installed, so that what runs on the hosts is what ran
here. Hosts need no package registry and no compiler: the hot modules are compiled here. Its id is VERSION-DIGEST, of what is
in the wheels: the same sources make the same release, whoever builds it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from hitmesh import __version__
from hitmesh.compiled import EXTENSIONS, MANIFEST
from hitmesh.deploy.facts import Release
from hitmesh.errors import CommandError
from hitmesh.protocol.formats import THIS

PROJECT: Final = "hitmesh"
JSON_NAME: Final = "release.json"
DIGEST_CHARS: Final = 12
EPOCH_S: Final = "315532800"  # 1980, the first that a zip can say: the same sources make the same bytes
COMPILE: Final = "scripts/compile.py"
FILES: Final = ("setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE", COMPILE)
FOLDERS: Final = ("hitmesh", "nexus", "balancer", "config", "supervisor", "docs/consul")
MAX_SAID_CHARS: Final = 500
MAX_JSON_BYTES: Final = 1024 * 1024  # a hundred wheels take 20 KiB

_NAME = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


class Built(msgspec.Struct, frozen=True):
    """A release on this machine."""

    release: Release
    tar: Path
    note: str = ""  # what is to be known of how it was built


def build(checkout: Path, folder: Path) -> Built:
    """Build the release of a checkout below `folder`, or find it there. Raises CommandError."""
    folder.mkdir(parents=True, exist_ok=True)
    note = _compile(checkout)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as made:
        wheels = Path(made)
        with tempfile.TemporaryDirectory() as clean:  # what an earlier build has left would go into the wheel
            _pip_wheel([str(_copied(checkout, Path(clean) / PROJECT))], wheels, "--no-build-isolation")
        lock = locked(PROJECT)
        known = folder / "wheels"
        known.mkdir(exist_ok=True)
        _pip_wheel([line for line in lock if not list(known.glob(_pattern(line)))], known)
        for line in lock:
            found = sorted(known.glob(_pattern(line)))
            if not found:
                raise CommandError(f"no wheel came of {line}", hint=f"pip wheel --no-deps {line} says why")
            (wheels / found[0].name).hardlink_to(found[0])
        release = _described(wheels, lock)
        tar = folder / f"{release.id}.tar"
        try:
            _whole(tar)
        except CommandError:  # not there, or cut
            _pack(release, wheels, tar)
    return Built(release, tar, note)


def wanted() -> Release:
    """What a release that is built here needs of a host; it has no name yet."""
    return Release(
        id="",
        version=__version__,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        platform=sysconfig.get_platform().replace("-", "_"),
        wheels={},
        formats=THIS.reads,
    )


def built(folder: Path) -> dict[str, Built]:
    """The releases that were built in a folder, by id. Raises CommandError for what isn't one."""
    every = [(_whole(tar), tar) for tar in sorted(folder.glob("*.tar"))]
    return {release.id: Built(release, tar) for release, tar in every}


def _whole(tar: Path) -> Release:
    """The release that is in a file, all of whose wheels are there. Raises CommandError."""
    try:
        with tarfile.open(tar, "r:") as packed:
            text = packed.extractfile(JSON_NAME)
            release = msgspec.json.decode(text.read(MAX_JSON_BYTES) if text else b"", type=Release)
            there = packed.getnames()  # which goes to the end of the file
    except (OSError, tarfile.TarError, KeyError, msgspec.MsgspecError) as error:
        raise CommandError(f"{tar} isn't a release: {error}", hint="remove it") from error
    if lacking := [name for name in release.wheels if f"wheels/{name}" not in there]:
        raise CommandError(f"{tar} isn't a release: it lacks {', '.join(lacking)}", hint="remove it")
    return release


def locked(project: str) -> list[str]:
    """NAME==VERSION of everything that `project` needs, as this environment has it, but for itself. Raises CommandError."""
    found: dict[str, str] = {}
    todo = [project]
    while todo:
        name = todo.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise CommandError(
                f"{name} isn't installed here, and a release needs it", hint="`make venv` installs it"
            ) from error
        found[_normal(name)] = distribution.version
        todo += [need for need in _needs(distribution.requires or []) if _normal(need) not in found]
    del found[_normal(project)]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _compile(checkout: Path) -> str:
    """Compile the hot modules of a checkout, unless they are; why they aren't then, in a line, or nothing."""
    command = [sys.executable, "-P", str(checkout / COMPILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip().rpartition("\n")[2]


def _copied(checkout: Path, into: Path) -> Path:
    """What the project's wheel is made of. Raises CommandError."""
    into.mkdir()
    try:
        for name in FILES:
            (into / name).parent.mkdir(exist_ok=True)
            shutil.copy(checkout / name, into / name)
        for name in FOLDERS:
            shutil.copytree(checkout / name, into / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    except OSError as error:
        raise CommandError(f"{checkout} isn't a checkout of {PROJECT}: {error}") from error
    return into


def _needs(requires: Iterable[str]) -> list[str]:
    """The names of what is needed here: without extras, and without what other systems need."""
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in requires]
    return [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]


def _pip_wheel(what: list[str], into: Path, *options: str) -> None:
    if not what:
        return
    command = [
        sys.executable,
        "-P",  # pip is not what happens to be in the caller's folder
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        "-w",
        str(into),
        *options,
        *what,
    ]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH_S}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise CommandError(f"pip wheel {' '.join(what)} failed: {done.stderr.strip()[-MAX_SAID_CHARS:]}")


def _described(wheels: Path, lock: list[str]) -> Release:
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(wheels.glob("*.whl"))}
    digest = hashlib.sha256()
    for path in sorted(wheels.glob("*.whl")):
        digest.update(path.name.encode())
        for name, text in _contents(path).items():
            # The manifest has the compiler and the sources of what was compiled; another machine's gcc writes it otherwise.
            if not name.startswith(f"{EXTENSIONS}/") or name.endswith(f"/{MANIFEST}"):
                digest.update(name.encode() + hashlib.sha256(text).digest())
    id_ = f"{__version__}-{digest.hexdigest()[:DIGEST_CHARS]}"
    return msgspec.structs.replace(wanted(), id=id_, wheels=sums, lock=lock)


def _contents(wheel: Path) -> Mapping[str, bytes]:
    with zipfile.ZipFile(wheel) as opened:
        names = [name for name in sorted(opened.namelist()) if not name.endswith(".dist-info/RECORD")]  # of the others
        return {name: opened.read(name) for name in names}


def _pack(release: Release, wheels: Path, tar: Path) -> None:
    draft = tar.with_suffix(".draft")
    (wheels / JSON_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(release)))
    with tarfile.open(draft, "w") as packed:  # wheels are compressed already
        packed.add(wheels / JSON_NAME, JSON_NAME)
        for name in sorted(release.wheels):
            packed.add(wheels / name, f"wheels/{name}")
    draft.replace(tar)


def _pattern(line: str) -> str:
    """What the wheel's file of NAME==VERSION is called."""
    name, _, version = line.partition("==")
    return f"{_normal(name).replace('-', '[-_.]')}-{version}-*.whl"


def _normal(name: str) -> str:
    found = _NAME.match(name)
    return re.sub(r"[-_.]+", "-", found[1] if found else name).lower()
