"""What tests of every package share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tests.examples  # noqa: F401 - its profile is in force from here on
from hitmesh import compiled
from hitmesh.compiled import EXTENSIONS
from tests.access_log import lines
from tests.services.releases import PREVIOUS, WIRE_1, unpack
from tests.starting import starts_processes

# Whoever runs the tests in the background has it ignored, and so had whatever they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What is compiled and doesn't go with the sources is used by no process; they needn't all say so.
HOT_MODULES = compiled.in_words()
if compiled.trouble():
    os.environ[compiled.SWITCH] = "0"

REPOSITORY = Path(__file__).resolve().parent.parent
LONGEST = (
    *("tests/hosts", "tests/wan", "tests/system", "tests/hitmesh/cli"),
    *("all others with system tests", "state machines, one test each"),
)


def find_access_log(named: str, beside: Path, made: Path) -> Path:
    """The log that is `named`, else the one `beside` the checkout, else one that is made as `made`."""
    if named:
        assert Path(named).is_file(), f"HITMESH_ACCESS_LOG names {named}, which is not a file"
        return Path(named)
    if beside.is_file():
        return beside
    made.write_bytes(b"".join(lines()))
    return made


@pytest.fixture(scope="session")
def access_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10,000 requests in combined log format: a real site's where there is one, else made here.

    HITMESH_ACCESS_LOG names one; a checkout may have one beside it, in shared/data.
    """
    return find_access_log(
        os.environ.get("HITMESH_ACCESS_LOG", ""),
        REPOSITORY.parent / "shared" / "data" / "access.log",
        tmp_path_factory.mktemp("access-log") / "access.log",
    )


@pytest.fixture(scope="session")
def previous_release(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment in which `sys.executable` runs the release before this one."""
    return unpack(PREVIOUS, tmp_path_factory.mktemp("previous-release"))


@pytest.fixture(scope="session")
def wire_1_release(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The same for the last release that can only read wire format 1."""
    return unpack(WIRE_1, tmp_path_factory.mktemp("wire-1-release"))


def pytest_report_header() -> str:
    """Which of the two is tested."""
    return f"hot modules: {HOT_MODULES}"


@pytest.fixture
def monkeypatch() -> Iterator[pytest.MonkeyPatch]:
    """pytest's, but that a test which replaces something in compiled code is left to the interpreted run.

    Compiled code wouldn't look at it.
    """
    patch = pytest.MonkeyPatch()
    replace = patch.setattr

    def checked(target: Any, *arguments: Any, **options: Any) -> None:
        match target:
            case str():
                name = target.rpartition(".")[0]
            case ModuleType():
                name = target.__name__
            case _:
                name = (target if isinstance(target, type) else type(target)).__module__
        if EXTENSIONS in str(getattr(sys.modules.get(name), "__file__", "")):
            pytest.skip(f"it replaces something in {name}, which is compiled; `make test` also tries it interpreted")
        replace(target, *arguments, **options)

    vars(patch)["setattr"] = checked
    yield patch
    patch.undo()


@pytest.hookimpl(tryfirst=True)  # before they are selected by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts processes is a system test; `make test-fast` runs the others.

    A worker gets one module after the other, with what that shares: those of whole meshes first, since they last, and
    none of the long ones at the end, where a single worker would still have something to do.
    """
    others, machines = len(LONGEST) - 2, len(LONGEST) - 1
    first = dict.fromkeys((item.path for item in items), len(LONGEST))
    for item in items:
        if starts_processes(item):
            item.add_marker("system")
            folder = item.path.parent.relative_to(REPOSITORY).as_posix()
            first[item.path] = min(first[item.path], LONGEST.index(folder) if folder in LONGEST else others)
        elif item.name == "runTest":  # hypothesis's name for it
            first[item.path] = min(first[item.path], machines)
    items.sort(key=lambda item: first[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """No other test starts any."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("system") is None:
            patch.setattr(subprocess.Popen, "__init__", _refuse)
        return (yield)


def _refuse(*_: object, **__: object) -> None:
    pytest.fail("it starts a process, which tests/starting.py doesn't see: give it the marker `system`")
