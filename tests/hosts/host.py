"""A host of the bed as a machine of its own: booted, used, cut off, without power, booted again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.services import wait_for
from tests.wan.host import Host as Place
from tests.wan.netns import BedError

if TYPE_CHECKING:
    from tests.hosts.bed import Bed

BOOT: Final = Path(__file__).resolve().parent / "boot.sh"
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT: Final = ("env", "-i", f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb")
SSH_PORT: Final = 22
BOOT_S: Final = 60.0  # on a busy machine; one boots in half a second
ANSWER_S: Final = 5.0
KINDS: Final = ("mount", "uts", "ipc", "net", "pid")


class Host(Place):
    """Namespaces of its own of every kind but users, an overlay as its root on a disk of `disk_mb`, and sshd.

    Made by `Bed.host`. What it has written is there again after `power_cut` and `up`; its network, processes,
    /run, /tmp and /dev aren't. It may have commands started by /etc/rc2.d/S* and /etc/rc.local.
    """

    def __init__(self, bed: Bed, name: str, address: str, *, bridge: str, port: str, folder: Path) -> None:
        super().__init__(f"{bed.prefix}{name}", address)
        self.name, self.folder, self.ssh_config = name, folder, bed.ssh_config
        self._bed, self._bridge, self._port = bed, bridge, port
        self._boot: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Its first process's, as the machine sees it; 0 when it has no power."""

    # --- power ------------------------------------------------------------------------------

    def up(self) -> None:
        """Boot it, and wait until its sshd answers."""
        self.start()
        self.wait()

    def start(self) -> None:
        """Give it power, and a link that isn't cut."""
        assert not self.pid, f"{self.name} is up"
        self._bed.join(self.namespace, self.address, bridge=self._bridge, port=self._port)
        spaces = ["--mount", "--propagation", "private", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
        self._boot = super().popen(
            [*self._bed.among_disks, "unshare", *spaces, *ENVIRONMENT, "/bin/sh", str(BOOT), str(self.folder)],
            log=self.folder / "console",
        )
        children = Path(f"/proc/{self._boot.pid}/task/{self._boot.pid}/children")
        self.pid = int(
            wait_for(lambda: self._or_dead(children.read_text()), within_s=BOOT_S, what=f"{self.name}'s init")
        )

    def wait(self) -> None:
        """Until its sshd answers, as others see it."""
        wait_for(lambda: self._or_dead(self._answers()), within_s=BOOT_S, what=f"{self.name}'s sshd")

    def power_cut(self) -> None:
        """Every process is gone at once, and whatever wasn't on the disk."""
        assert self._boot is not None, f"{self.name} isn't up"
        os.kill(self.pid, signal.SIGKILL)
        self._boot.wait()  # the kernel has then killed all others
        self._bed.part(self.namespace, self._port)
        self._boot, self.pid = None, 0

    def reap(self) -> None:
        """The bed has killed it."""
        if self._boot is not None:
            self._boot.wait(BOOT_S)
        self._boot, self.pid = None, 0

    # --- its link ---------------------------------------------------------------------------

    def cut(self) -> None:
        """The switch forwards nothing from it or to it; the host sees its link up."""
        self._bed.set_port(self._port, forwards=False)

    def heal(self) -> None:
        """The switch forwards again."""
        self._bed.set_port(self._port, forwards=True)

    # --- what runs there --------------------------------------------------------------------

    def run(self, command: Sequence[str], *, user: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
        """subprocess.run on it, as root or another user, not by ssh; the status is the caller's to judge."""
        return super().run(self._on_it(command, user), **options)

    def popen(
        self, command: Sequence[str], *, log: Path | None = None, env: Mapping[str, str] | None = None, user: str = ""
    ) -> subprocess.Popen[bytes]:
        """Start a process on it that lasts; its output is appended to `log`, a file of the machine's."""
        words = [f"{name}={value}" for name, value in (env or {}).items()]
        return super().popen(self._on_it(["env", *words, *command], user), log=log)

    def read(self, path: str) -> str:
        """The text of a file there."""
        return Path(f"/proc/{self.pid}/root", path.lstrip("/")).read_text()

    def _on_it(self, command: Sequence[str], user: str) -> list[str]:
        assert self.pid, f"{self.name} isn't up"
        spaces = [f"--{kind}" for kind in KINDS]
        as_user = ["runuser", "-u", user, "--"] if user else []
        return ["nsenter", "--target", str(self.pid), *spaces, *ENVIRONMENT, *as_user, *command]

    # --- booting ----------------------------------------------------------------------------

    def _or_dead(self, answer: Any) -> Any:
        if self._boot is not None and self._boot.poll() is not None:
            console = (self.folder / "console").read_text(errors="replace")
            raise BedError(f"{self.name} doesn't boot: {console[-2000:]}")
        return answer

    def _answers(self) -> bool:
        with self._bed.place("operator").inside():
            sock = socket.socket()
        with sock, contextlib.suppress(OSError):
            sock.settimeout(ANSWER_S)
            sock.connect((self.address, SSH_PORT))
            return sock.recv(4) == b"SSH-"
        return False


def make_disk(bed: Bed, folder: Path, disk_mb: int) -> None:
    """A file system of that size, which lasts as long as the bed."""
    (folder / "disk").mkdir()
    options = f"mode=755,size={disk_mb}m"
    done = subprocess.run(
        [*bed.among_disks, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder / "disk")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BedError(f"{folder.name}'s disk can't be mounted: {done.stderr.strip()}")
