"""Network namespaces by name: made, entered, emptied and removed. Root only.

Names say whose they are: a prefix, the process that made them and when that one started, so that what a
killed process left behind is told apart from what a living one uses, and removed (`sweep`).
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from hitmesh.cli.processes import started

PREFIX: Final = "hitmesh-bed"
PLACE: Final = Path("/run/netns")  # where ip keeps them
IP: Final = "ip"
NFT: Final = "nft"
PACKAGES: Final = {IP: "iproute2", NFT: "nftables"}  # Debian's
SBIN: Final = "/usr/sbin:/sbin"  # Debian's ip, which a user's PATH may leave out
GONE_S: Final = 30.0  # that killed processes get to disappear
_beds = itertools.count(1)
_CLONE_NEWNET: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class BedError(Exception):
    """Namespaces, bridges or the WAN can't be made, or not used; says why."""


def new_prefix() -> str:
    """What the names of one more bed of this process start with."""
    return f"{PREFIX}-{os.getpid()}-{started(os.getpid())}-{next(_beds)}-"


def ip(*commands: str, namespace: str = "") -> None:
    """Run commands of ip(8), in a namespace; stops at the first that fails, with a BedError."""
    words = [IP, *(["-n", namespace] if namespace else []), "-batch", "-"]
    _run(words, "\n".join(commands) + "\n")


def nft(rules: str, *, namespace: str) -> None:
    """Put nftables' rules into a namespace, with a BedError when they aren't right."""
    with inside(namespace):
        _run([NFT, "-f", "-"], rules)


def names(prefix: str) -> list[str]:
    """The namespaces whose names start with `prefix`."""
    try:
        return sorted(each.name for each in PLACE.iterdir() if each.name.startswith(prefix))
    except FileNotFoundError:
        return []


def enter(name: str) -> None:
    """Take the calling thread into a namespace: its sockets, its children's and new threads' are made there."""
    with (PLACE / name).open("rb") as file:
        _setns(file.fileno(), name)


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """The calling thread is in the namespace, and back again afterwards."""
    with Path("/proc/thread-self/ns/net").open("rb") as before:
        enter(name)
        try:
            yield
        finally:
            _setns(before.fileno(), "the one before")


def remove(prefix: str) -> None:
    """Kill every process in the namespaces with this prefix, and remove them; what is gone already is well."""
    found = names(prefix)
    deadline = time.monotonic() + GONE_S
    while (left := _processes_in(found)) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    for name in found:
        with contextlib.suppress(BedError):  # somebody else has just swept it
            ip(f"netns del {name}")


def sweep() -> list[str]:
    """Remove what processes that are gone have left; the prefixes of that."""
    dead = abandoned(names(PREFIX + "-"))
    for prefix in dead:
        remove(prefix)
    return dead


def abandoned(found: Iterable[str]) -> list[str]:
    """The prefixes of those names whose process is gone."""
    dead = set()
    for name in found:
        pid, begun, number = name.removeprefix(PREFIX + "-").split("-")[:3]
        if started(int(pid)) != begun:
            dead.add(f"{PREFIX}-{pid}-{begun}-{number}-")
    return sorted(dead)


def _processes_in(found: Sequence[str]) -> list[int]:
    """Everybody whose network namespace is one of these; dead ones that nobody has collected don't count."""
    inodes = set()
    for name in found:
        with contextlib.suppress(OSError):
            inodes.add((PLACE / name).stat().st_ino)
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "ns/net").stat().st_ino in inodes and started(int(entry.name)):
                    pids.append(int(entry.name))
    return [pid for pid in pids if pid != os.getpid()]


def _setns(file: int, name: str) -> None:
    if _libc.setns(file, _CLONE_NEWNET) != 0:
        raise BedError(f"namespace {name} can't be entered: {os.strerror(ctypes.get_errno())}")


def _run(words: Sequence[str], text: str) -> None:
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SBIN}"}
    try:
        subprocess.run(words, input=text, text=True, check=True, capture_output=True, env=environment)
    except FileNotFoundError as error:
        hint = f"scripts/install-services does it (Debian's {PACKAGES[words[0]]})"
        raise BedError(f"{words[0]} isn't installed; {hint}") from error
    except subprocess.CalledProcessError as error:
        raise BedError(f"{' '.join(words)}: {error.stderr.strip()}\n{text}") from error
