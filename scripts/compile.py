"""Compile the hot modules, which setup.cfg lists, by mypyc: `python scripts/compile.py [--must] [CHECKOUT]`.

What comes of it lies in hitmesh/extensions, in no source's way, and is used while those sources are as they are now
(`hitmesh.compiled`). Nothing is done when it is there already. Without a C compiler, Python's headers or mypy one line
says so, and all stays interpreted. So it does when they fail, which with --must is a failure.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

CHECKOUT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))  # whatever is installed, how a manifest is written is this checkout's to say

from hitmesh.compiled import COMPILED, EXTENSIONS, GROUP, MANIFEST, READ, SUFFIX, Manifest, digest

PACKAGES: Final = ("hitmesh", "nexus", "balancer")
# What mypyc writes where it has something that must be None, and where in the source that is.
_INSISTS: Final = re.compile(r'CPy_TypeError\("None", [^}]*\}[^}]*CPy_AddTraceback\("([^"]+)", "[^"]+", ([0-9]+)')
IN_CHILD: Final = "--in"  # the folder for what the compilers write


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description="Compile the hot modules, which setup.cfg lists, by mypyc.")
    parser.add_argument("checkout", nargs="?", type=Path, default=CHECKOUT)
    parser.add_argument("--must", action="store_true", help="fail when the compilers do")
    parser.add_argument(IN_CHILD, dest="folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    itself = Path(__file__).resolve()
    os.chdir(given.checkout)
    hot = listed(Path("setup.cfg"))
    if given.folder is not None:
        build(hot, given.folder)
        return 0
    if lacking := missing():
        print(f"not compiled, as there is no {lacking}: the same code runs interpreted", file=sys.stderr)
        return 0
    manifest = Manifest(SUFFIX, f"mypy {importlib.metadata.version('mypy')}", sources(hot))
    if is_there(manifest):
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own, of whose chatter only a failure is shown.
        command = [sys.executable, str(itself), IN_CHILD, folder, os.curdir]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            sys.stderr.write(done.stdout.decode(errors="replace"))
            print("not compiled, see above: the same code runs interpreted", file=sys.stderr)
            return int(given.must)
        place(Path(folder, "lib"), manifest)
    print(f"compiled {len(hot)} modules in {time.monotonic() - began:.0f} s")
    return 0


def listed(setup: Path) -> list[Path]:
    """The sources to compile."""
    config = configparser.ConfigParser()
    config.read(setup)
    return [Path(*name.split(".")).with_suffix(".py") for name in config["hitmesh:compiled"]["modules"].split()]


def missing() -> str:
    """What is needed to compile, and isn't here."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if not shutil.which(compiler):
        return f"C compiler ({compiler})"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python.h (Debian's python3-dev)"
    for package in ("mypyc", "setuptools"):
        if importlib.util.find_spec(package) is None:
            return f"{package} (the extra `compile`)"
    return ""


def sources(hot: Sequence[Path]) -> dict[str, tuple[str, str]]:
    """What the compiled code depends on: them, and whatever of ours they import, of which constants go into it."""
    found: dict[str, tuple[str, str]] = {}
    todo = list(hot)
    while todo:
        path = todo.pop()
        if str(path) not in found:
            text = path.read_bytes()
            found[str(path)] = COMPILED if path in hot else READ, digest(text)
            todo += imported(text)
    return found


def imported(text: bytes) -> Iterator[Path]:
    """The sources of ours that one imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
    for name in names:
        parts = name.split(".")
        if parts[0] in PACKAGES:
            both = Path(*parts).with_suffix(".py"), Path(*parts, "__init__.py")
            yield from (path for path in both if path.is_file())


def is_there(manifest: Manifest) -> bool:
    """Whether just this was compiled before."""
    try:
        return Path(EXTENSIONS, MANIFEST).read_text(encoding="utf-8") == str(manifest)
    except OSError:
        return False


def build(hot: Sequence[Path], folder: Path) -> None:
    """Compile into `folder`/lib. Ends the process where that fails."""
    import setuptools  # noqa: F401 - mypyc's has to be the one that is imported already
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    paths = [str(path) for path in hot]
    group = GROUP.removesuffix("__mypyc")
    extensions = mypycify(paths, debug_level="0", group_name=group, target_dir=str(folder / "c"))
    if found := taken_for_none(folder / "c"):
        print(*found, sep="\n")
        sys.exit(1)
    command: Any = build_ext(Distribution({"name": "hitmesh", "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "tmp")
    command.parallel = os.cpu_count()
    command.ensure_finalized()
    command.run()


def taken_for_none(code: Path) -> list[str]:
    """Where the C would raise TypeError though the source is right, in words.

    After `self.x = None` mypy takes `self.x` for None until the method ends, also when a call has set it meanwhile;
    interpreted code looks, compiled code insists. What stands alone is a call, whose answer is None indeed.
    """
    texts = (path.read_text(encoding="utf-8") for path in code.glob("*.c"))
    found = {(match[1], int(match[2])) for text in texts for match in _INSISTS.finditer(text)}
    return [
        f"{path}:{line}: error: mypy takes something here for None that was set to it before, and may be something else by now"
        for path, line in sorted(found)
        if not any(first <= line <= last for first, last in _calls(Path(path)))
    ]


def _calls(source: Path) -> Iterator[tuple[int, int]]:
    """The first and last lines of statements that are a call."""
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node.lineno, node.end_lineno or node.lineno


def place(made: Path, manifest: Manifest) -> None:
    """Put what was made where it is used from. While that is done there is no manifest, so that nobody mixes them."""
    into = Path(EXTENSIONS)
    into.mkdir(exist_ok=True)
    (into / MANIFEST).unlink(missing_ok=True)
    names = {path.relative_to(made) for path in made.rglob(f"*{SUFFIX}")}
    for old in into.rglob("*.so"):
        if old.relative_to(into) not in names:
            old.unlink()
    for name in names:
        # Never written over: a process may have it mapped.
        draft = into / f"{name}.draft"
        draft.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made / name, draft)
        draft.replace(into / name)
    draft = into / f"{MANIFEST}.draft"
    draft.write_text(str(manifest), encoding="utf-8")
    draft.replace(into / MANIFEST)


if __name__ == "__main__":
    sys.exit(main())
