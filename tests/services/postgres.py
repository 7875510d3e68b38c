"""A real PostgreSQL, which refuses to run as root: as nobody then, in a folder of nobody's. Nothing is synced to a disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg

from tests.services import Server, free_port, require

USER: Final = "hitmesh"
NOBODY: Final = 65_534
_AS_NOBODY: Final = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups") if os.geteuid() == 0 else ()


class Postgres(Server):
    """One server with one database, `hitmesh`, of a user of that name, who has a password."""

    name = "postgres"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.password = "a secret of the tests"
        self._program = _program("postgres")
        own(self.folder)
        words = self.folder / "password"
        words.write_text(self.password)
        own(words)
        made = subprocess.run(
            [*_AS_NOBODY, _program("initdb"), "-D", str(self.folder / "data"), "-U", USER, "-A", "scram-sha-256",
             "--pwfile", str(words), "--no-sync", "--no-locale", "-E", "UTF8"],
            capture_output=True, text=True, check=False, cwd=self.folder,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def command(self) -> list[str]:
        return [
            *_AS_NOBODY, self._program, "-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1",
            "-k", "", "-F", "-c", "shared_buffers=16MB", "-c", "max_connections=20",
        ]  # fmt: skip

    def is_up(self) -> bool:
        with contextlib.suppress(psycopg.Error):
            self.rows("SELECT 1")
            return True
        return False

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What a statement answers. Raises psycopg.Error."""
        with psycopg.connect(self.url, password=self.password, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []


def _program(name: str) -> str:
    """Debian puts them beside the version, and not on PATH."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(beside[-1]) if beside else require(name)


def own(path: Path) -> None:
    """Give a file or folder to whom the server runs as."""
    if _AS_NOBODY:
        os.chown(path, NOBODY, NOBODY)


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """One that runs, until the end of the block; its folder is one that nobody can reach, and is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="hitmesh-postgres-"))
    try:
        server = Postgres(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
