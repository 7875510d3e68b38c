"""The repository itself: what must be in it, and what must not."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest

from hitmesh.cli.main import run
from hitmesh.config import load, nexus_endpoints
from hitmesh.config.outside import outside

REPOSITORY = Path(__file__).resolve().parent.parent

# Written so that they don't match themselves. Examples say /tmp/mesh, which is nobody's.
FOREIGN = {
    "a developer's folder": re.compile(r"(?<![\w.~$-])/(?:home/|Users/|root/|work/|tmp/(?!mesh\b))[\w.-]+"),
    "a registry's or a mirror's host": re.compile(
        r"\b(?:[\w-]+\.)*(?:pypi\.org|pythonhosted\.org|npmjs\.org|debian\.org|ubuntu\.com)\b"
    ),
}


def tracked_files() -> list[Path]:
    """Every file that is in the repository, or would be with the next commit."""
    if not shutil.which("git") or not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    names = listed.stdout.decode().split("\0")
    return [REPOSITORY / name for name in names if name and (REPOSITORY / name).is_file()]


@pytest.mark.parametrize("what", FOREIGN)
def test_no_file_names_a_machine_of_ours(what: str) -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {match[0]}"
        for path in tracked_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        for match in FOREIGN[what].finditer(line)
    ]
    assert not found, f"{what} in:\n" + "\n".join(found)


@pytest.mark.parametrize("folder", ["supervisor", "config"])
def test_a_folder_without_python_stays_so(folder: str) -> None:
    # supervisor/__init__.py would shadow the real package of that name
    assert not list((REPOSITORY / folder).glob("**/*.py"))


@pytest.mark.parametrize("path", sorted((REPOSITORY / "config").glob("*.toml")), ids=lambda path: path.name)
def test_every_datacenters_file_is_a_valid_config(path: Path) -> None:
    assert load(path).name


@pytest.mark.parametrize("name", ["dev.toml", "eu-west.toml", "us-west.toml"])
def test_check_config_accepts_the_files_that_come_with_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check-config", str(REPOSITORY / "config" / name)]) == 0
    assert capsys.readouterr().out.startswith(f"{REPOSITORY / 'config' / name}: ok: {name.removesuffix('.toml')}: ")


def test_the_deployed_datacenters_are_one_mesh() -> None:
    configs = [load(REPOSITORY / "config" / f"{name}.toml") for name in ("eu-west", "us-west")]
    assert len({config.partitions for config in configs}) == 1
    for config, other in (configs, configs[::-1]):
        endpoints = {outside(each, nexus_endpoints(each).heartbeats) for each in other.instances("nexus")}
        listeners = {endpoint.removeprefix("tcp://") for endpoint in endpoints}
        assert config.peers == {other.name: tuple(sorted(listeners))}
        assert len(config.nodes) > 1
        assert config.keys and not config.insecure  # one with keys hears nobody without
        assert config.stores.totals.startswith("consul://")
        assert [spool.partition(":")[0] for spool in config.stores.spools] == ["beanstalk", "beanstalk"]
    assert {node.address for node in configs[0].nodes.values()}.isdisjoint(
        node.address for node in configs[1].nodes.values()
    )


def test_secrets_beside_the_datacenters_files_are_never_committed() -> None:
    assert "/config/keys/" in (REPOSITORY / ".gitignore").read_text().splitlines()


def test_every_test_folder_is_a_package() -> None:
    # or pytest imports tests/hitmesh in place of hitmesh
    folders = {path.parent for path in (REPOSITORY / "tests").glob("**/test_*.py")}
    assert folders
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_every_script_can_be_run() -> None:
    scripts = [path for path in tracked_files() if path.read_bytes().startswith(b"#!")]
    assert len(scripts) >= 2
    assert [path.name for path in scripts if not path.stat().st_mode & 0o111] == []


def test_lint_types_and_tests_agree_on_the_oldest_python() -> None:
    package = ConfigParser()
    package.read(REPOSITORY / "setup.cfg")
    tools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]
    oldest = package["options"]["python_requires"].removeprefix(">=")
    assert tools["mypy"]["python_version"] == oldest
    assert tools["ruff"]["target-version"] == "py" + oldest.replace(".", "")


def pure_modules() -> set[str]:
    package = ConfigParser()
    package.read(REPOSITORY / "setup.cfg")
    return {
        module
        for contract in ("pure", "pure-roles")
        for module in package[f"importlinter:contract:{contract}"]["source_modules"].split()
    }


def modules_that_call_themselves_pure() -> list[str]:
    found = []
    for package in ("hitmesh", "nexus", "balancer"):
        for path in sorted((REPOSITORY / package).glob("**/*.py")):
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            if re.search(r"(?:^|[.:] )Pure\b", docstring, re.MULTILINE):
                parts = path.relative_to(REPOSITORY).with_suffix("").parts
                found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


@pytest.mark.parametrize("module", modules_that_call_themselves_pure())
def test_a_module_that_calls_itself_pure_is_held_to_it(module: str) -> None:
    covered = pure_modules()
    parents = [module.rsplit(".", level)[0] for level in range(module.count(".") + 1)]
    assert covered & {module, *parents}, f"{module} belongs into a contract for pure code in setup.cfg"
