"""Keeps a bed's disks mounted, in a mount namespace of their own, and removes the bed when its maker is gone.

    python -m tests.hosts.keeper CONTROL PREFIX

CONTROL is a socket, over which the keeper says the pid of a process in that mount namespace. When the other end
is closed, by the bed or because its process has died, the keeper kills the hosts and removes namespaces and
files; the disks go with the last process that sees them.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.wan import netns

MEMORY: Final = Path("/dev/shm")  # a tmpfs: quick, and never itself an overlay, as / is in a container
AMONG_DISKS: Final = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private")


def folder_of(prefix: str) -> Path:
    """Where a bed has its files."""
    return MEMORY / prefix.rstrip("-")


def remove(prefix: str) -> None:
    """All of a bed: processes, namespaces, files; what is gone already is well."""
    netns.remove(prefix)
    shutil.rmtree(folder_of(prefix), ignore_errors=True)


def sweep() -> None:
    """Remove what beds have left whose keeper was killed as well."""
    for prefix in netns.abandoned(each.name for each in MEMORY.glob(f"{netns.PREFIX}-*")):
        remove(prefix)


def main() -> None:
    """The command."""
    control, prefix = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # of the terminal: whoever made the bed says when
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(control)) as sock:
        holder = subprocess.Popen([*AMONG_DISKS, "sleep", "infinity"])
        mine = Path("/proc/self/ns/mnt").readlink()
        while Path(f"/proc/{holder.pid}/ns/mnt").readlink() == mine:
            time.sleep(0.005)
        with contextlib.suppress(ConnectionError):
            sock.send(str(holder.pid).encode())
            sock.recv(1)
    holder.kill()
    holder.wait()
    remove(prefix)


if __name__ == "__main__":
    main()
