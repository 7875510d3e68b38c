"""Releases on a host: taken in whole, switched to, forgotten.

A release is a folder of a virtual environment, its wheels and `release.json`; it is whole when its name has no
PARTIAL. It is installed from its own wheels: no registry is asked, and nothing of it is run as root.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from hitmesh.deploy.facts import Release
from hitmesh.deploy.host.machine import Machine, ids
from hitmesh.deploy.host.rules import check_instance, check_release_id, is_wheel
from hitmesh.deploy.paths import CURRENT, HOME, RELEASES, user_of
from hitmesh.errors import CommandError

PARTIAL: Final = ".partial"
RELEASE_JSON: Final = "release.json"
MAX_JSON_BYTES: Final = 1024 * 1024  # some twenty wheels, and their names
MAX_WHEELS: Final = 200
MAX_WHEEL_BYTES: Final = 128 * 1024 * 1024  # the largest today has 3 MiB
INSTALL_S: Final = 600.0  # it takes 10 s
# What runs as root must be told nothing by an environment, nor by a file of pip's.
ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


class Releases:
    """The releases of a host."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def ids(self) -> list[str]:
        """Those that are whole, the oldest first."""
        found = [one for one in self._folders(RELEASES) if not one.name.endswith(PARTIAL) and not one.is_symlink()]
        return [one.name for one in sorted(found, key=lambda one: (one.stat().st_mtime, one.name))]

    def reads(self, id_: str) -> Mapping[str, int]:
        """The formats that one says it can read; none, when it can't be read what it says."""
        try:
            text = self._machine.at(f"{RELEASES}/{id_}/{RELEASE_JSON}").read_bytes()
            return msgspec.json.decode(text, type=Release).formats
        except (OSError, msgspec.MsgspecError):
            return {}

    def current(self) -> dict[str, str]:
        """The release that each instance has."""
        return {one.name: one.readlink().name for one in self._folders(CURRENT) if one.is_symlink()}

    def receive(self, id_: str, stream: IO[bytes]) -> None:
        """Take a release in from a tar; done at once when it is there. Raises CommandError, and then nothing is left."""
        check_release_id(id_)
        folder = self._machine.at(f"{RELEASES}/{id_}")
        if folder.is_dir():
            return
        self._machine.make_folder(RELEASES)
        partial = folder.with_name(id_ + PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(mode=0o755)
            _unpack(stream, partial)
            _check_sums(id_, partial)
            self._install(partial)
            _run(["sync", "-f", str(partial)])  # on disk before its name says that it is whole
            partial.rename(folder)
        except OSError as error:
            raise _unreadable(error) from error
        except tarfile.TarError as error:
            raise CommandError(f"the release broke off, or is no tar: {error}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def forget(self, id_: str) -> None:
        """Remove a release that nothing runs. Raises CommandError."""
        check_release_id(id_)
        folder = self._machine.at(f"{RELEASES}/{id_}")
        if users := sorted(instance for instance, its in self.current().items() if its == id_):
            raise CommandError(f"{', '.join(users)} would start from {id_}", hint="switch them first")
        if pids := _running_from(folder):
            raise CommandError(f"pid {', '.join(map(str, pids))} runs from {id_}", hint="stop that first")
        if folder.is_dir():
            gone = folder.with_name(id_ + PARTIAL)
            shutil.rmtree(gone, ignore_errors=True)
            folder.rename(gone)
            shutil.rmtree(gone)

    def switch(self, instance: str, id_: str) -> str:
        """Have an instance start from this release; which it had. Raises CommandError."""
        check_instance(instance)
        check_release_id(id_)
        if not self._machine.at(f"{RELEASES}/{id_}").is_dir():
            raise CommandError(f"there is no release {id_} here", hint=f"here are {', '.join(self.ids()) or 'none'}")
        was = self.current().get(instance, "")
        self._machine.make_folder(CURRENT)
        link = self._machine.at(f"{CURRENT}/{instance}")
        new = link.with_name(f".{instance}.new")
        new.unlink(missing_ok=True)
        new.symlink_to(f"../releases/{id_}")
        new.replace(link)
        return was

    def _folders(self, path: str) -> list[Path]:
        try:
            return [one for one in self._machine.at(path).iterdir() if not one.name.startswith(".")]
        except FileNotFoundError:
            return []

    def _install(self, folder: Path) -> None:
        """Make the environment, and see that hitmesh starts in it."""
        python = folder / "bin" / "python"
        _run([sys.executable, "-I", "-m", "venv", "--without-pip", str(folder)])
        pip = [sys.executable, "-I", "-m", "pip", "--python", str(python)]
        wheels = sorted(str(one) for one in (folder / "wheels").iterdir())
        # No dependency is looked for: a release has them all.
        _run([*pip, "install", "--quiet", "--no-index", "--no-deps", "--no-compile", *wheels])
        _name_finally(folder)
        site = next((folder / "lib").glob("python3*/site-packages"))
        # Compiled by our own python, of the same version: no start of a role pays for it.
        _run(
            [sys.executable, "-I", "-m", "compileall", "-q", "-x", "/tests/|/pygments/lexers/", str(site)],
            may_fail=True,
        )
        # What the release brought is run from here on, by whatever starts its python (site-packages/*.pth).
        said = _run([str(python), "-I", "-m", "hitmesh", "--version"], user=self._nobody())
        release = msgspec.json.decode((folder / RELEASE_JSON).read_bytes(), type=Release)
        if release.version not in said.split():
            raise CommandError(
                f"the release says that it is {release.version}, and hitmesh in it says {said.strip()!r}"
            )

    def _nobody(self) -> tuple[int, int] | None:
        return ids(user_of("operator")) if self._machine.is_real else None


def _unpack(stream: IO[bytes], folder: Path) -> None:
    """Write `release.json` and `wheels/`, and nothing else, from a tar."""
    (folder / "wheels").mkdir()
    count = 0
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if member.isdir() and member.name.rstrip("/") in (".", "./wheels", "wheels"):
                continue
            name = member.name.removeprefix("./")
            wheel = name.removeprefix("wheels/")
            is_json, limit = name == RELEASE_JSON, MAX_JSON_BYTES if name == RELEASE_JSON else MAX_WHEEL_BYTES
            if not member.isreg() or not (is_json or (wheel != name and is_wheel(wheel))):
                raise CommandError(f"a release has no {member.name[:100]!r}")
            count += 1
            if member.size > limit or count > MAX_WHEELS:
                raise CommandError(f"a release isn't so large: {name} has {member.size} bytes")
            content = tar.extractfile(member)
            assert content is not None, "a regular file"
            with (folder / name).open("xb") as file:
                shutil.copyfileobj(content, file)
            (folder / name).chmod(0o644)


def _check_sums(id_: str, folder: Path) -> None:
    try:
        release = msgspec.json.decode((folder / RELEASE_JSON).read_bytes(), type=Release)
    except (FileNotFoundError, msgspec.MsgspecError) as error:
        raise CommandError(f"{RELEASE_JSON} can't be read: {error}") from error
    if release.id != id_:
        raise CommandError(f"this is release {release.id[:100]!r}, and not {id_}")
    python = ".".join(map(str, sys.version_info[:2]))
    if release.python != python:
        raise CommandError(f"the release is for Python {release.python}, and here is {python}", hint="deploy.python")
    found = {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in (folder / "wheels").iterdir()}
    _compare(release.wheels, found)


def _compare(said: Mapping[str, str], found: Mapping[str, str]) -> None:
    if missing := sorted(said.keys() - found.keys()):
        raise CommandError(f"the release lacks {', '.join(missing)}")
    if others := sorted(name for name in found if found[name] != said.get(name)):
        raise CommandError(f"not as {RELEASE_JSON} has them: {', '.join(others)}", hint="it was altered on its way")


def _run(argv: Sequence[str], *, user: tuple[int, int] | None = None, may_fail: bool = False) -> str:
    """Run a program to its end; what it prints. Raises CommandError."""
    uid, gid = user or (None, None)
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, env=ENVIRONMENT, cwd="/", stdin=subprocess.DEVNULL,
            errors="replace", timeout=INSTALL_S, user=uid, group=gid, extra_groups=[] if user else None,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{argv[0]} took longer than {INSTALL_S:g} s") from error
    if done.returncode and not may_fail:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        if any(os.strerror(errno.ENOSPC) in line for line in lines):
            raise _no_room()
        raise CommandError(f"the release can't be installed: {lines[-1] if lines else f'status {done.returncode}'}")
    return done.stdout


def _name_finally(folder: Path) -> None:
    """Have the scripts of the environment name the folder as it will be."""
    for script in (folder / "bin").iterdir():
        if script.is_file() and not script.is_symlink():
            content = script.read_bytes()
            script.write_bytes(content.replace(os.fsencode(folder), os.fsencode(folder).removesuffix(PARTIAL.encode())))


def _running_from(folder: Path) -> list[int]:
    """Processes whose program is in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(os.fsencode(folder) + b"/"):
                found.append(int(entry.name))
    return found


def _no_room() -> CommandError:
    return CommandError(
        f"the disk of {HOME} is full: the release needs 100 MB", hint="`fab releases` shows what is there"
    )


def _unreadable(error: OSError) -> CommandError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _no_room()
    return CommandError(f"{error.filename or RELEASES}: {error.strerror}")
