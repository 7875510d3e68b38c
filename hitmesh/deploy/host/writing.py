"""Rendered files on a host: checked, written, and told to whoever reads them. All or nothing."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from hitmesh.deploy.files import File, Then
from hitmesh.deploy.host.machine import Machine
from hitmesh.deploy.host.programs import Programs
from hitmesh.deploy.host.releases import ENVIRONMENT
from hitmesh.deploy.host.rules import MAX_FILES, check_file, program_values
from hitmesh.deploy.paths import FIREWALL_CONF, PROGRAMS, STATE, SYSCTL_CONF, state_folder
from hitmesh.errors import CommandError

TELL_S: Final = 30.0  # of nft, sysctl


def write(machine: Machine, programs: Programs, dc: str, files: Sequence[File]) -> list[str]:
    """Write these files; the paths of those that changed. Raises CommandError, and then all are as they were."""
    if len(files) > MAX_FILES:
        raise CommandError(f"{len(files)} files at once; at most {MAX_FILES}")
    for file in files:
        check_file(file, dc)
    changed = [file for file in files if not _is_as_wanted(machine, file)]
    for file in changed:
        if file.path == FIREWALL_CONF and file.text and machine.is_real:
            _check_firewall(file.text)
    before = {file.path: _content(machine, file.path) for file in changed}
    try:
        for file in changed:
            _put(machine, file)
        for then in dict.fromkeys(file.then for file in changed):
            _tell(machine, programs)[then]()
        _stop_removed(programs, changed)
    except (CommandError, OSError) as error:
        _put_back(machine, before)
        if isinstance(error, CommandError):
            raise
        raise CommandError(f"{error.filename or 'a file'} can't be written: {error.strerror}") from error
    return [file.path for file in changed]


def apply_firewall(machine: Machine) -> None:
    """Put the rules of the firewall in force; without a file there are none of ours. Raises CommandError."""
    if not machine.is_real:
        return
    if machine.read(FIREWALL_CONF) is None:
        _call(["nft", "-f", "-"], "table inet hitmesh\ndelete table inet hitmesh\n")
    else:
        _call(["nft", "-f", FIREWALL_CONF])


def _check_firewall(text: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".nft") as file:
        file.write(text)
        file.flush()
        _call(["nft", "-c", "-f", file.name])


def _is_as_wanted(machine: Machine, file: File) -> bool:
    if not file.text:
        return machine.read(file.path) is None
    return machine.is_as(file.path, file.text.encode(), file.owner, file.mode)


def _put(machine: Machine, file: File) -> None:
    if not file.text:
        machine.remove(file.path)
        return
    if file.path.startswith(PROGRAMS + "/"):
        # The folder that its program works in is its user's alone.
        name = Path(file.path).stem
        values = program_values(file.text, name)
        role, number = name.rsplit("-", 2)[1:]
        machine.make_folder(state_folder(f"{role}-{number}"), values["user"], 0o700)
    machine.replace(file.path, file.text.encode(), file.owner, file.mode)


def _content(machine: Machine, path: str) -> tuple[bytes, int, int, int] | None:
    content = machine.read(path)
    if content is None:
        return None
    found = machine.at(path).stat()
    return content, found.st_mode & 0o7777, found.st_uid, found.st_gid


def _put_back(machine: Machine, before: Mapping[str, tuple[bytes, int, int, int] | None]) -> None:
    for path, was in before.items():
        if was is None:
            machine.remove(path)
        else:
            machine.replace(path, was[0], "root", was[1])
            if machine.is_real:
                os.chown(machine.at(path), was[2], was[3])


def _stop_removed(programs: Programs, changed: Sequence[File]) -> None:
    """Have no program run that has no file any more."""
    if programs.running() is None:
        return  # none runs
    for file in changed:
        if file.path.startswith(PROGRAMS + "/") and not file.text:
            programs.stop("-".join(Path(file.path).stem.rsplit("-", 2)[1:]))


def _tell(machine: Machine, programs: Programs) -> Mapping[Then, Callable[[], None]]:
    return {
        "": lambda: None,
        "supervisor": programs.reread,
        "keepalived": lambda: programs.signal("keepalived", "HUP"),
        "consul": lambda: programs.signal("consul", "HUP"),
        "nftables": lambda: apply_firewall(machine),
        "sysctl": lambda: _call(["sysctl", "-q", "-p", SYSCTL_CONF]) if machine.is_real else None,
    }


def _call(argv: Sequence[str], stdin: str = "") -> None:
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, check=False, timeout=TELL_S, env=ENVIRONMENT, cwd=STATE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{argv[0]} can't be run: {error}") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise CommandError(f"{' '.join(argv[:2])}: {said[0] if said else f'status {done.returncode}'}")
