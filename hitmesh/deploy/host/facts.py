"""What a host says of itself, gathered."""

from __future__ import annotations

import os
import re
import stat
import sys
import sysconfig
import time
from typing import Final

from hitmesh import __version__
from hitmesh.deploy.facts import Facts
from hitmesh.deploy.host.machine import Machine, ids
from hitmesh.deploy.host.programs import Programs
from hitmesh.deploy.host.releases import Releases
from hitmesh.deploy.host.rules import USERS, is_written
from hitmesh.deploy.paths import (
    CONSUL_CONF,
    FIREWALL_CONF,
    HOME,
    KEEPALIVED_CONF,
    KEYS,
    PROGRAMS,
    STARTED_WITH,
    SYSCTL_CONF,
    config_path,
    program_path,
    state_folder,
    user_of,
)
from hitmesh.supervisord import split_name

PROGRAM: Final = re.compile(r"[a-z0-9-]+-[a-z]+-[0-9]+\.conf")


def gather(machine: Machine, releases: Releases, programs: Programs, dc: str) -> Facts:
    """All that a deploy wants to know of this host."""
    machine.make_folder(HOME)
    room = os.statvfs(machine.at(HOME))
    return Facts(
        python=".".join(map(str, sys.version_info[:3])),
        platform=sysconfig.get_platform().replace("-", "_").replace(".", "_"),
        system=__version__,
        clock=time.time(),
        free_bytes=room.f_bavail * room.f_frsize,
        releases=(ids := releases.ids()),
        reads={id_: releases.reads(id_) for id_ in ids},
        current=(current := releases.current()),
        configs={name: started for name in current if (started := _started_with(machine, name))},
        loose=[path for path in _secrets(machine, dc) if _is_loose(machine, path)],
        files={path: digest for path in _paths(machine, dc) if (digest := machine.digest(path))},
        programs=programs.running(),
        others={other: names for other, names in _programs(machine).items() if other != dc},
    )


def texts(machine: Machine, dc: str, paths: list[str]) -> dict[str, str]:
    """What stands in these rendered files, of those that are there."""
    found = {path: machine.read(path) for path in paths if is_written(path, dc)}
    return {path: content.decode(errors="replace") for path, content in found.items() if content is not None}


def _started_with(machine: Machine, instance: str) -> str:
    """What an instance saw of the datacenter's file when it was last started (`fleet.sees`), which it says in its own folder; or nothing."""
    path = machine.at(f"{state_folder(instance)}/{STARTED_WITH}")
    try:
        # The folder is its user's, who could put anything there: a pipe, or a link to what only root may read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        found = re.match(rb"[0-9a-f]{64}", file.read(64) or b"")
    return found[0].decode() if found else ""


def _paths(machine: Machine, dc: str) -> list[str]:
    """The files that a deploy brings, secrets too."""
    programs = [program_path(dc, name) for name in _programs(machine).get(dc, ())]
    fixed = [config_path(dc), f"{KEYS}/allowed", CONSUL_CONF, KEEPALIVED_CONF, FIREWALL_CONF, SYSCTL_CONF]
    return [*fixed, *programs, *_secrets(machine, dc)]


def _programs(machine: Machine) -> dict[str, list[str]]:
    """The programs that supervisord has a file of here, by datacenter."""
    found: dict[str, list[str]] = {}
    for file in sorted(one.name for one in _entries(machine, PROGRAMS)):
        if PROGRAM.fullmatch(file):
            dc, name = split_name(file.removesuffix(".conf"))
            found.setdefault(dc, []).append(name)
    return found


def _secrets(machine: Machine, dc: str) -> list[str]:
    return sorted(
        f"{KEYS}/{dc}/{role.name}/{one.name}"
        for role in _entries(machine, f"{KEYS}/{dc}")
        for one in _entries(machine, f"{KEYS}/{dc}/{role.name}")
        if not one.name.startswith(".")
    )


def _is_loose(machine: Machine, path: str) -> bool:
    """Whether others than its role's user can read or change a secret."""
    role = path.split("/")[-2]
    if user_of(role) not in USERS:
        return False  # nothing that a deploy brought
    found = machine.at(path).lstat()
    is_its = not machine.is_real or found.st_uid == ids(user_of(role))[0]
    return not (is_its and stat.S_ISREG(found.st_mode) and found.st_mode & 0o077 == 0)


def _entries(machine: Machine, path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(machine.at(path)) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
