"""`hitmesh-backup-store`: where backups are kept, as the forced command of a key in `authorized_keys`. Standard library only.

    command="hitmesh-backup-store write /srv/backups",restrict ssh-ed25519 AAAA... hosts
    command="hitmesh-backup-store operate /srv/backups",restrict ssh-ed25519 AAAA... operator

Who writes may `put NAME`, and nothing else: whoever takes over a host that serves can neither read a backup,
nor change or remove one. Who operates may also `list`, `get NAME` and `forget NAME`. A file gets its name when
all of it is on disk and its own checksum is right, never in place of another, and is read-only from then on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from hitmesh.deploy.retention import moment_of

TRAILER_BYTES: Final = 72  # "sha256 ", 64 digits of hexadecimal and a line's end, as hitmesh.cli.backup_file has it
MAX_BYTES: Final = 64 * 1024**3  # of one backup: a thousand million pages
FREE_PART: Final = 20  # a twentieth of the disk stays free, whatever is sent
CLOCKS_S: Final = 24 * 3600.0  # that a name's moment may be off: names in the future would keep later ones from staying
BLOCK_BYTES: Final = 1024 * 1024
PARTIAL: Final = ".partial-"  # how begins what a put writes to until it is whole
PARTIAL_S: Final = 24 * 3600.0  # without a write; a put that goes on writes each second

USAGE: Final = (
    "hitmesh-backup-store write|operate FOLDER; then `put NAME`, and for who operates `list`, `get`, `forget`"
)


class Refused(Exception):
    """What isn't done, and why."""


def main() -> int:
    """What sshd runs; the command of whoever has logged in is in the environment."""
    os.umask(0o077)
    try:
        return serve(sys.argv[1:], os.environ.get("SSH_ORIGINAL_COMMAND", ""), sys.stdin.buffer, sys.stdout.buffer)
    except (Refused, OSError) as error:
        sys.stderr.write(f"hitmesh-backup-store: {getattr(error, 'strerror', '') or error}\n")
    return 1


def serve(arguments: Sequence[str], command: str, given: IO[bytes], out: IO[bytes], now_s: float | None = None) -> int:
    """Carry out one command. Raises Refused or OSError; `now_s` is wall clock."""
    if len(arguments) != 2 or arguments[0] not in ("write", "operate"):
        raise Refused(USAGE)
    folder = Path(arguments[1])
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    match words:
        case ["put", name]:
            out.write(f"{put(folder, _checked(name), given, time.time() if now_s is None else now_s)}\n".encode())
        case ["list"] if arguments[0] == "operate":
            for path in sorted(folder.iterdir()):
                if moment_of(path.name):
                    out.write(f"{path.name} {path.stat().st_size}\n".encode())
        case ["get", name] if arguments[0] == "operate":
            with _there(folder, name).open("rb") as file:
                shutil.copyfileobj(file, out, BLOCK_BYTES)
        case ["forget", name] if arguments[0] == "operate":
            _there(folder, name).unlink()
            _sync(folder)
        case _:
            raise Refused(f"{command!a:.200} is not for this key" if words else USAGE)
    out.flush()
    return 0


def put(folder: Path, name: str, given: IO[bytes], now_s: float) -> str:
    """Keep what comes, under a name that is not there yet; its SHA-256 in hexadecimal."""
    moment = moment_of(name)
    if moment is not None and abs(moment.timestamp() - now_s) > CLOCKS_S:
        raise Refused(f"{name} is not of today: is a clock wrong?")
    if (folder / name).exists():
        raise Refused(f"{name} is there already")
    _sweep(folder, now_s)
    with contextlib.closing(tempfile.NamedTemporaryFile(dir=folder, prefix=PARTIAL, delete=False)) as file:
        partial = Path(file.name)
        try:
            digest = _receive(given, file, folder)
            file.flush()
            partial.chmod(0o400)
            os.fsync(file.fileno())
            try:
                os.link(partial, folder / name)  # never in place of another, also of one that came meanwhile
            except FileExistsError as error:
                raise Refused(f"{name} is there already") from error
        finally:
            partial.unlink(missing_ok=True)
    _sync(folder)
    return digest


def _sweep(folder: Path, now_s: float) -> None:
    """Remove what puts have left that were killed: nothing has been written to it for a day."""
    for path in folder.glob(f"{PARTIAL}*"):
        with contextlib.suppress(OSError):  # another put was faster, or it is none of ours
            if path.lstat().st_mtime < now_s - PARTIAL_S:
                path.unlink()


def _receive(given: IO[bytes], file: IO[bytes], folder: Path) -> str:
    """Write what comes, which must end with the checksum of what is before; the digest of all of it."""
    all_of_it, before = hashlib.sha256(), hashlib.sha256()
    tail, size = b"", 0
    while block := given.read(BLOCK_BYTES):
        size += len(block)
        disk = shutil.disk_usage(folder)
        if size > MAX_BYTES or disk.free < len(block) + disk.total // FREE_PART:
            raise Refused("there is no room for it")
        file.write(block)
        all_of_it.update(block)
        tail += block
        before.update(tail[:-TRAILER_BYTES])
        tail = tail[-TRAILER_BYTES:]
    if tail != f"sha256 {before.hexdigest()}\n".encode():
        raise Refused("it isn't a whole backup: its checksum isn't that of what came")
    return all_of_it.hexdigest()


def _checked(name: str) -> str:
    if moment_of(name) is None:
        raise Refused(f"{name!a:.200} is no backup's name, such as hitmesh-2026-11-30T000501Z.backup")
    return name


def _there(folder: Path, name: str) -> Path:
    path = folder / _checked(name)
    if not path.is_file():
        raise Refused(f"there is no {name}")
    return path


def _sync(folder: Path) -> None:
    """Have the folder's names on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
