"""The host that keeps backups, set up as the page on backups says, over a real sshd. What is kept is test_vault's of deploy.

How it goes with `fab`, and all the way to a restore of two datacenters, is shown by `bench/run backups`.
"""

from __future__ import annotations

import base64
import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitmesh.cli.backup_file import Header, Writer
from hitmesh.deploy.release import Built
from hitmesh.deploy.retention import MOMENT
from tests.hosts.bed import Bed
from tests.hosts.vault import ADDRESS, USER, Vault

WORDS = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new", f"{USER}@{ADDRESS}"]


class Keeping:
    """A vault, a host that serves with a key of its own, and what it has put there."""

    def __init__(self, bed: Bed, folder: Path, release: Built) -> None:
        self.bed, self.vault = bed, Vault(bed)
        self.app = bed.host("app-1", "10.2.0.11", dc="us-west", disk_mb=64)
        bed.up()
        (folder / "var/releases").mkdir(parents=True)
        (folder / "var/releases" / release.tar.name).hardlink_to(release.tar)
        self.vault.set_up(folder)
        made = self.app.run(
            ["sh", "-c", "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519; cat ~/.ssh/id_ed25519.pub"]
        )
        self.vault.let_in("write", made.stdout.strip())
        self.name = time.strftime(MOMENT, time.gmtime())
        self.whole = a_backup(folder / "one")

    def from_app(self, *command: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """What the vault answers the host that serves."""
        return self.app.run([*WORDS, *command], input=given)

    def from_operator(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        """What it answers who operates."""
        at = ["ssh", f"{USER}@{ADDRESS}", *command]
        return subprocess.run(at, capture_output=True, check=False, env=self.bed.environment, stdin=subprocess.DEVNULL)


def a_backup(path: Path) -> bytes:
    """A whole one, of nothing."""
    header = Header(release="0.2.0", at="2026-11-30T00:05:01Z", partitions=8, datacenters={})
    with contextlib.closing(Writer(path.parent)) as writer, path.open("wb") as out:
        writer.finish(header, out)
    return path.read_bytes()


@pytest.fixture(scope="module")
def keeping(release: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeping]:
    with Bed() as bed:
        yield Keeping(bed, tmp_path_factory.mktemp("vault"), release)


def test_a_host_that_serves_puts_a_backup_by_its_own_key(keeping: Keeping) -> None:
    put = f"base64 -d | {' '.join(WORDS)} put {keeping.name}"
    done = keeping.app.run(["sh", "-c", put], input=base64.b64encode(keeping.whole).decode())
    assert done.returncode == 0, done.stderr
    assert keeping.vault.names() == [keeping.name]
    assert keeping.vault.read(keeping.name) == keeping.whole


@pytest.mark.parametrize(
    "command",
    ["list", "get NAME", "forget NAME", "put NAME", "put", "", "cat /srv/backups/NAME", "rm /srv/backups/NAME",
     "scp -f /srv/backups/NAME", "/usr/lib/openssh/sftp-server"],
)  # fmt: skip
def test_and_neither_lists_reads_changes_nor_removes_one(keeping: Keeping, command: str) -> None:
    done = keeping.from_app(command.replace("NAME", keeping.name), given="something else")
    assert (done.returncode, done.stdout) == (1, "")
    assert "hitmesh-backup-store: " in done.stderr
    assert keeping.vault.read(keeping.name) == keeping.whole


def test_nor_does_its_key_lead_any_further(keeping: Keeping) -> None:
    done = keeping.app.run([*WORDS[:-1], "-W", "127.0.0.1:22", WORDS[-1]], input="")
    assert "administratively prohibited" in done.stderr


def test_who_operates_lists_gets_and_forgets(keeping: Keeping) -> None:
    assert keeping.from_operator("list").stdout.decode() == f"{keeping.name} {len(keeping.whole)}\n"
    assert keeping.from_operator("get", keeping.name).stdout == keeping.whole
    assert keeping.from_operator("forget", keeping.name).returncode == 0
    assert keeping.vault.names() == []
