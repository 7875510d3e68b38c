"""A host of the bed that serves nothing and keeps backups, made so by the commands of docs/operations/backups.md."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

from tests.hosts.bed import REPOSITORY, Bed

ADDRESS: Final = "10.6.0.11"
USER: Final = "hitmesh-vault"
FOLDER: Final = "/srv/backups"
DISK_MB: Final = 128  # an environment of 20 MB, and backups
PAGE: Final = REPOSITORY / "docs/operations/backups.md"
AUTHORIZED: Final = f"~{USER}/.ssh/authorized_keys"


def commands(begin: str) -> str:
    """What the page has an operator type, in the block that begins so."""
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if block.startswith(begin))


def authorized(role: str, public_key: str) -> str:
    """The line of the page that lets a key in for that."""
    line = next(
        line for line in PAGE.read_text().splitlines() if line.startswith(f'command="hitmesh-backup-store {role} ')
    )
    return f"{line.partition(' ssh-ed25519 ')[0]} {public_key}\n"


class Vault:
    """The host, and who may come in."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self.host = bed.host("vault", ADDRESS, dc="vault", disk_mb=DISK_MB)

    def set_up(self, folder: Path) -> None:
        """From a host with sshd to one that keeps backups, and lets the bed's operator in; `folder` has `var/releases`."""
        take = commands("tar -xf").replace("vault.example.com", "vault")
        subprocess.run(["sh", "-ec", take], check=True, cwd=folder, env=self._bed.environment)
        self._said(f"set -e\n{commands('python3 -m venv')}")
        self.let_in("operate", (self._bed.ssh_config.parent / "id_ed25519.pub").read_text().strip())

    def let_in(self, role: str, public_key: str) -> None:
        """A line of the user's `authorized_keys`."""
        content = authorized(role, public_key).encode()
        self._said(f"cat >>{AUTHORIZED} && chown {USER}: {AUTHORIZED} && chmod 600 {AUTHORIZED}", content)

    def names(self) -> list[str]:
        """What is kept."""
        return self._said(f"ls -A {FOLDER}").decode().split()

    def read(self, name: str) -> bytes:
        """One that is kept."""
        return self._said(f"cat {FOLDER}/{name}")

    def _said(self, command: str, given: bytes = b"") -> bytes:
        done = subprocess.run(
            ["ssh", "vault", command], input=given, capture_output=True, check=False, env=self._bed.environment
        )
        assert not done.returncode, done.stderr.decode()
        return done.stdout
