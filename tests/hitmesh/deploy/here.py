"""A host in a folder, as the host program sees it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec

from hitmesh.deploy.facts import Facts
from hitmesh.deploy.files import File
from hitmesh.deploy.host.machine import Machine
from hitmesh.deploy.host.main import answer


class Here:
    """A host in a folder."""

    def __init__(self, root: Path, dc: str = "us-west") -> None:
        self.root, self.dc = root, dc

    def ask(self, *words: str, stdin: bytes = b"") -> Any:
        return msgspec.to_builtins(answer(["--dc", self.dc, *words], Machine(self.root), io.BytesIO(stdin)))

    def write(self, *files: File) -> list[str]:
        changed: list[str] = self.ask("write", stdin=msgspec.json.encode(files))["changed"]
        return changed

    def facts(self) -> Facts:
        return msgspec.convert(self.ask("facts"), Facts)
