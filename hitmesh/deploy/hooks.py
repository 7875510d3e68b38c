"""The operator's own programs, which are told what a deploy does."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from hitmesh.errors import CommandError

TIMEOUT_S: Final = 300.0


def run(
    program: str, folder: Path, event: Mapping[str, Any], *, tell: Callable[[str], None], must: bool = True
) -> None:
    """Run a hook, if there is one, with the event as JSON on its standard input.

    Raises CommandError when it fails; where nothing can be stopped any more (`must` is false) that is only told.
    """
    if not program:
        return
    path = folder / program
    try:
        done = subprocess.run([str(path)], input=msgspec.json.encode(event), check=False, timeout=TIMEOUT_S, cwd=folder)
        problem = f"ended with {done.returncode}" if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem and must:
        raise CommandError(f"the hook {path} {problem}", hint="nothing was changed")
    if problem:
        tell(f"the hook {path} {problem}")
