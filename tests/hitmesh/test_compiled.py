"""What is compiled is used while it is what the sources say, and only then. A checkout of three modules stands for ours."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
from configparser import ConfigParser
from pathlib import Path

import msgspec
import pytest

import hitmesh
from hitmesh.compiled import COMPILED, EXTENSIONS, GROUP, MANIFEST, READ, SUFFIX, SWITCH, Manifest, digest

REPOSITORY = Path(__file__).resolve().parents[2]
COMPILE = REPOSITORY / "scripts/compile.py"
SAYS = "import hitmesh.hot, hitmesh.compiled as c; print(hitmesh.hot.answer(), hitmesh.hot.__file__[-3:], c.in_words())"
HOT = "from typing import Final\n\nfrom hitmesh.constants import LIMIT\n\nFACTOR: Final = 2\n\ndef answer() -> int:\n    return LIMIT * FACTOR\n"
PLATFORM_COMPILER = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]


class Checkout:
    """A checkout, of which one module is compiled: it has a constant of another one within."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hot, self.constants = root / "hitmesh/hot.py", root / "hitmesh/constants.py"
        self.extensions = root / EXTENSIONS

    def fill(self) -> None:
        """Write the sources."""
        self.hot.parent.mkdir(parents=True)
        for name in ("__init__.py", "compiled.py"):
            shutil.copy(Path(hitmesh.__file__).with_name(name), self.hot.with_name(name))
        self.hot.write_text(HOT)
        self.constants.write_text("from typing import Final\n\nLIMIT: Final = 21\n")
        (self.root / "setup.cfg").write_text("[hitmesh:compiled]\nmodules =\n    hitmesh.hot\n")

    def compile(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the script, to its end."""
        return self.run(str(COMPILE), *options, str(self.root), PYTHONPATH=str(REPOSITORY), **environment)

    def says(self, **environment: str) -> str:
        """What a process that imports the hot module says of it."""
        done = self.run("-c", SAYS, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python, to its end, on these sources."""
        env = {**os.environ, "PYTHONPATH": str(self.root), SWITCH: "1", **environment}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that was compiled, to be copied."""
    if not shutil.which(PLATFORM_COMPILER):
        pytest.skip(f"there is no C compiler ({PLATFORM_COMPILER})")
    checkout = Checkout(tmp_path_factory.mktemp("made") / "checkout")
    checkout.fill()
    done = checkout.compile("--must")
    assert done.returncode == 0, done.stderr
    return checkout.root


@pytest.fixture
def checkout(made: Path, tmp_path: Path) -> Checkout:
    shutil.copytree(made, tmp_path / "checkout")
    return Checkout(tmp_path / "checkout")


def test_what_is_compiled_is_what_runs(checkout: Checkout) -> None:
    assert checkout.says() == "42 .so compiled"


def test_an_edited_source_is_what_runs_at_once(checkout: Checkout) -> None:
    checkout.hot.write_text(HOT.replace("FACTOR: Final = 2", "FACTOR: Final = 3"))
    assert checkout.says() == "63 .py interpreted: hitmesh/hot.py has changed since it was compiled"


def test_an_edited_constant_of_a_source_that_is_not_compiled_is_what_counts(checkout: Checkout) -> None:
    checkout.constants.write_text("from typing import Final\n\nLIMIT: Final = 1\n")
    assert checkout.says() == "2 .py interpreted: hitmesh/constants.py has changed since it was compiled"


def test_a_source_that_is_gone_is_not_found_among_the_compiled(checkout: Checkout) -> None:
    checkout.hot.unlink()
    with pytest.raises(AssertionError, match="ModuleNotFoundError"):
        checkout.says()


def test_what_was_compiled_of_it_runs_again_once_an_edit_is_taken_back(checkout: Checkout) -> None:
    checkout.hot.write_text(HOT + "\n")
    assert ".py" in checkout.says()
    checkout.hot.write_text(HOT)
    assert checkout.says() == "42 .so compiled"


def test_it_is_compiled_anew_when_a_source_has_changed_and_only_then(checkout: Checkout) -> None:
    manifest = checkout.extensions / MANIFEST
    before = manifest.stat().st_ino
    assert checkout.compile().stdout == ""
    assert manifest.stat().st_ino == before
    checkout.hot.write_text(HOT.replace("FACTOR: Final = 2", "FACTOR: Final = 4"))
    assert checkout.compile().stdout.startswith("compiled 1 modules in ")
    assert checkout.says() == "84 .so compiled"


def test_one_that_is_not_to_be_compiled_any_more_leaves_nothing(checkout: Checkout) -> None:
    (checkout.root / "setup.cfg").write_text("[hitmesh:compiled]\nmodules =\n    hitmesh.constants\n")
    assert checkout.compile().returncode == 0
    assert checkout.says() == "42 .py compiled"
    assert [path.name for path in checkout.extensions.rglob("hot*")] == []


def test_the_same_code_runs_interpreted_when_the_environment_says_so(checkout: Checkout) -> None:
    assert checkout.says(**{SWITCH: "0"}) == "42 .py interpreted: HITMESH_COMPILED=0"


def test_what_another_system_cannot_load_is_not_used(checkout: Checkout) -> None:
    (checkout.extensions / f"{GROUP}{SUFFIX}").write_bytes(b"\x7fELF, and for another machine")
    assert checkout.says().startswith("42 .py interpreted: ")
    assert GROUP in checkout.says()


def test_what_another_python_has_compiled_is_not_used(checkout: Checkout) -> None:
    manifest = checkout.extensions / MANIFEST
    manifest.write_text(manifest.read_text().replace(SUFFIX, ".cpython-39-mips.so"))
    assert checkout.says().startswith("42 .py interpreted: it was compiled as .cpython-39-mips.so")


@pytest.mark.parametrize("command", [("hitmesh",), ("nexus",), ("balancer",)])
def test_every_program_says_which_of_the_two_it_is(command: tuple[str, ...]) -> None:
    words = "import hitmesh.compiled as c; print(c.in_words())"
    for switch in ("0", "1"):
        said, which = (
            subprocess.run(
                [sys.executable, *arguments],
                env={**os.environ, SWITCH: switch},
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            for arguments in (("-m", *command, "--version"), ("-c", words))
        )
        assert said == f"{command[0]}, version {hitmesh.__version__} ({which})"


def test_a_role_whose_sources_have_changed_says_so_in_its_first_line(checkout: Checkout) -> None:
    shutil.copytree(
        Path(hitmesh.__file__).parent,
        checkout.root / "hitmesh",
        ignore=shutil.ignore_patterns("extensions", "__pycache__"),
        dirs_exist_ok=True,
    )
    checkout.hot.write_text(HOT + "# edited\n")
    code = "from hitmesh.lines import Speaker; from hitmesh.logs import log_to_stderr; log_to_stderr(Speaker('dc', 'nexus', 'n'))"
    logged = [checkout.run("-c", code, **{SWITCH: switch}).stderr for switch in ("1", "0")]
    assert logged[0].endswith(
        " dc/nexus/n WARNING hitmesh: runs interpreted, which is slower: hitmesh/hot.py has changed since it was compiled\n"
    )
    assert logged[1] == ""


def test_without_a_compiler_it_says_so_and_all_goes_on(checkout: Checkout, tmp_path: Path) -> None:
    shutil.rmtree(checkout.extensions)
    done = checkout.compile(PATH=str(tmp_path))
    assert done.returncode == 0
    assert (
        done.stderr
        == f"not compiled, as there is no C compiler ({PLATFORM_COMPILER}): the same code runs interpreted\n"
    )
    assert checkout.says() == "42 .py interpreted"


def test_a_source_that_cannot_be_compiled_is_shown_with_its_line(checkout: Checkout) -> None:
    checkout.hot.write_text(HOT.replace("LIMIT * FACTOR", "'a text'"))
    for options, status in (((), 0), (("--must",), 1)):
        done = checkout.compile(*options)
        assert done.returncode == status
        assert "hitmesh/hot.py:8: error: Incompatible return value type" in done.stderr
    assert checkout.says().startswith("a text .py interpreted: ")


TAKEN_FOR_NONE = """
class Client:
    def __init__(self) -> None:
        self.exchange: int | None = 7

    def begin(self) -> None:
        self.exchange = 42

    def finished(self) -> bool:
        self.exchange = None
        self.begin()
        return self.exchange is None

def answer() -> int:
    return 0 if Client().finished() else 42
"""


def test_a_source_that_would_do_something_else_compiled_is_refused_with_its_line(checkout: Checkout) -> None:
    checkout.hot.write_text(TAKEN_FOR_NONE)
    assert checkout.says().startswith("42 .py interpreted: ")
    done = checkout.compile("--must")
    assert done.returncode == 1
    assert "hitmesh/hot.py:12: error: mypy takes something here for None" in done.stderr
    assert checkout.says().startswith("42 .py interpreted: ")


def test_a_manifest_that_was_cut_is_no_reason_to_stop(checkout: Checkout) -> None:
    manifest = checkout.extensions / MANIFEST
    manifest.write_text(manifest.read_text()[:-90])
    assert checkout.says().startswith("42 .py interpreted: ")


def test_a_manifest_reads_what_it_writes() -> None:
    sources = {"hitmesh/a.py": (COMPILED, digest(b"a")), "hitmesh/a b.py": (READ, digest(b"b"))}
    found = Manifest.parse(str(Manifest(SUFFIX, "mypy 2", sources)))
    assert (found.suffix, found.maker, found.sources) == (SUFFIX, "mypy 2", sources)
    assert found.modules() == ["hitmesh.a"]


def test_no_checks_of_what_comes_from_outside_are_lost_by_compiling() -> None:
    # mypyc leaves a class's annotations out, and what is given with its bases: msgspec would check nothing.
    setup = ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    for name in setup["hitmesh:compiled"]["modules"].split():
        own = [one for one in vars(importlib.import_module(name)).values() if getattr(one, "__module__", "") == name]
        assert [one for one in own if isinstance(one, type) and issubclass(one, msgspec.Struct)] == []
