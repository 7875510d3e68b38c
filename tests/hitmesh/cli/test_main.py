"""The command line as a whole: help, errors, exit status, what gets imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from msgspec.structs import replace

from balancer.process.listeners import KINDS, MOVING
from hitmesh.cli import main
from hitmesh.cli.endpoints import _ANNOUNCED, by_role, front
from hitmesh.cli.main import COMMANDS, run
from hitmesh.config import Node, dump, load
from hitmesh.config.scaler import Scaler

DEV = Path(__file__).parents[3] / "config" / "dev.toml"
COLLECTORS = ["http://127.0.0.1:8010", "http://127.0.0.1:8011"]


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def command_lines() -> list[tuple[str, ...]]:
    """The words of every command, down to those of groups, and none."""
    found: list[tuple[str, ...]] = [()]
    for name in COMMANDS:
        command = main.hitmesh.get_command(click.Context(main.hitmesh), name)
        found += [(name,), *((name, each) for each in (command.commands if isinstance(command, click.Group) else ()))]
    return found


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_every_command_has_help_with_an_example_as_it_is_typed(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    example = shown.partition("\n  Example:\n")[2].partition("\n\n")[0].splitlines()
    assert example, shown
    assert all(line.startswith("    ") for line in example)
    assert any(f"hitmesh {' '.join(words)}".rstrip() in line for line in example)
    assert "\b" not in shown
    assert "\\b" not in shown


@pytest.mark.parametrize("name", ["endpoints", "status", "total", "top", "audit", "replay"])
def test_every_command_that_prints_data_has_json(name: str) -> None:
    command = main.hitmesh.get_command(click.Context(main.hitmesh), name)
    assert command is not None
    assert any("--json" in parameter.opts for parameter in command.params)


@pytest.mark.parametrize("name", ["up", "down", "endpoints", "status", "total", "top", "audit", "replay"])
def test_every_command_that_speaks_to_a_mesh_takes_a_state_folder(name: str) -> None:
    command = main.hitmesh.get_command(click.Context(main.hitmesh), name)
    assert command is not None
    assert any("--state-dir" in parameter.opts for parameter in command.params)


def test_the_list_of_commands_imports_none_of_them() -> None:
    modules = {f"hitmesh.cli.{module}" for module, _ in COMMANDS.values()}
    code = "import sys; from hitmesh.cli.main import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "check-config" in answer.stdout
    assert not modules & set(answer.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["upp"], "hitmesh: No such command 'upp'. (see hitmesh --help)\n"),
        (["up", "--base-port", "x"], "hitmesh: Invalid value for '--base-port': 'x' is not a valid integer range."),
        (["collector"], "hitmesh: Missing option '--config'. (see hitmesh collector --help)\n"),
        (["total"], "hitmesh: Missing argument 'PAGE'. (see hitmesh total --help)\n"),
        (["top", "-n", "0"], "hitmesh: Invalid value for '-n': 0 is not in the range x>=1. (see hitmesh top --help)\n"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(message)
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["endpoints"], ["total", "a.example/x"], ["top"], ["audit"], ["replay", str(DEV)]],
)
def test_without_a_mesh_a_command_says_how_to_make_one(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*arguments, "--state-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"hitmesh: no mesh in {tmp_path} (`hitmesh up` makes one; --state-dir names another folder)\n"
    )


def test_down_without_a_mesh_is_done_already(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["down", "--state-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no mesh runs in {tmp_path}\n"


def test_a_right_configuration_is_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check-config", str(DEV)]) == 0
    assert capsys.readouterr().out == (
        f"{DEV}: ok: dev: 2 nexus, 2 processor, 2 collector, 1 balancer, 1 dashboard, 1 recorder; 32 partitions;"
        " totals in sqlite:///totals.db, settings in sqlite:///settings.db, spools in sqlite:///spool.db\n"
    )


@pytest.mark.parametrize("words", [["check-config"], ["keygen", "--config"]], ids=["check-config", "keygen"])
def test_files_that_are_given_together_are_one_mesh_with_one_number_of_partitions(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "far.toml"
    path.write_text(DEV.read_text().replace('"dev"', '"far"', 1).replace("partitions = 32", "partitions = 8", 1))
    keys = tmp_path / "keys"
    command, *option = words
    files = [word for file in (DEV, path) for word in (*option, str(file))]
    assert run([command, *([str(keys)] if option else []), *files]) == 1
    assert "partitions is 32 in dev and 8 in far; it must be the same" in capsys.readouterr().err
    assert not keys.exists()


def test_a_file_that_fab_would_not_find_is_right_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "west.toml"
    path.write_text(DEV.read_text())
    assert run(["check-config", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{path}: ok: dev: ")
    assert err == f"hitmesh: {path}: fab looks for dev in dev.toml\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("nexus = 2", "nexsu = 2", "nodes.local.nexsu is not a setting; did you mean nexus?"),
        ("sqlite:///totals.db", "consul://127.0.0.1/x", "stores.totals: 'consul://127.0.0.1/x' names no totals store"),
        ("sqlite:///spool.db", "beanstalk://h/x", "stores.spools: "),
        ("sqlite:///settings.db", "consul://127.0.0.1/x", "stores.settings: 'consul://127.0.0.1/x' names no settings"),
    ],
)
def test_a_wrong_configuration_is_one_line_and_status_1(
    old: str, new: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.toml"
    path.write_text(DEV.read_text().replace(old, new, 1))
    assert run(["check-config", str(path)]) == 1
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (None, "scaler.hook: {hook} isn't there"),
        (0o600, "scaler.hook: {hook} can't be executed; chmod +x it"),
        (0o700, ""),
    ],
    ids=["that isn't there", "that isn't executable", "that is"],
)
def test_a_hook_that_cant_be_run_on_this_machine_is_refused(
    mode: int | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, hook = tmp_path / "dev.toml", tmp_path / "more"
    path.write_text(DEV.read_text().replace('hook = ""', 'hook = "more"', 1))
    if mode is not None:
        hook.write_text("#!/bin/sh\n")
        hook.chmod(mode)
    assert run(["check-config", str(path)]) == (1 if message else 0)
    assert message.format(hook=hook) in capsys.readouterr().err


def test_a_hook_of_hosts_is_theirs_to_have(tmp_path: Path) -> None:
    path = tmp_path / "far.toml"
    far = replace(
        load(DEV),
        name="far",
        insecure=True,
        nodes={"a": Node(address="10.0.0.1", nexus=1, processor=1, collector=1, scaler=1)},
    )
    path.write_text(dump(replace(far, scaler=Scaler(hook="/opt/more"))))
    assert run(["check-config", str(path)]) == 0


def test_a_page_that_cannot_be_counted_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["total", "/x", "--state-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("hitmesh: a page starts with its site, not with a slash")


def test_nothing_is_imported_before_gevent_can_patch() -> None:
    code = "import sys; before = set(sys.modules); import hitmesh.__main__; print(*sorted(set(sys.modules) - before))"
    assert python(code) == "hitmesh hitmesh.__main__"


def test_a_processor_is_patched_before_anything_else() -> None:
    code = (
        "import sys; sys.argv = ['hitmesh', 'processor', '--config', '/nope']\n"
        "from hitmesh.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "from gevent import monkey; print(monkey.is_module_patched('socket'))"
    )
    assert python(code) == "True"


def test_a_collectors_master_is_not_patched() -> None:
    # gunicorn's arbiter forks its worker, which patches itself then.
    code = (
        "import sys; sys.argv = ['hitmesh', 'collector', '--config', '/nope']\n"
        "from hitmesh.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: print('gevent' in sys.modules)"
    )
    assert python(code) == "False"


@pytest.mark.parametrize("role", ["collector", "processor"])
def test_a_role_imports_nothing_of_other_commands(role: str) -> None:
    heavy = [
        "rich",
        "requests",
        "urllib3",
        "xmlrpc",
        "supervisor",
        "consul",
        "hitmesh.cli.folder",
        "hitmesh.cli.layout",
    ]
    code = (
        f"import sys, hitmesh.cli.main, hitmesh.cli.roles, hitmesh.{role}.main\n"
        f"print(*[name for name in {heavy} if name in sys.modules])"
    )
    assert python(code) == ""


def test_gevent_patches_without_a_look_at_what_is_installed() -> None:
    code = (
        "import sys; from hitmesh.startup import patch; patch()\n"
        "from gevent import monkey; print(monkey.is_module_patched('socket'), 'importlib.metadata' in sys.modules)"
    )
    assert python(code) == "True False"


@pytest.mark.parametrize("module", ["nexus.main", "hitmesh.processor.processor", "balancer.worker"])
def test_a_role_on_gevent_brings_no_other_event_loop(module: str) -> None:
    # A fifth of what starting one costs; a collector has asyncio from falcon, and so has a balancer's admin listener.
    assert python(f"import sys, {module}; print('asyncio' in sys.modules)") == "False"


def test_output_that_nobody_reads_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "dc").mkdir()
    (tmp_path / "dc" / "hitmesh.toml").write_text(DEV.read_text().replace('"dev"', '"dc"'))
    command = [sys.executable, "-m", "hitmesh", "endpoints", "--json", "--state-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_endpoints_are_those_of_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dc").mkdir()
    (tmp_path / "dc" / "hitmesh.toml").write_text(DEV.read_text().replace('"dev"', '"dc"'))
    assert run(["endpoints", "--json", "--state-dir", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "dc": {
            "balancer": ["http://127.0.0.1:8000"],
            "balancer_admin": ["http://127.0.0.1:8005"],
            "collector": ["http://127.0.0.1:8010", "http://127.0.0.1:8011"],
            "nexus": ["tcp://127.0.0.1:8022", "tcp://127.0.0.1:8025"],
            "dashboard": ["http://127.0.0.1:8030"],
        },
        "dashboard": "http://127.0.0.1:8030",
    }


def test_endpoints_are_what_prometheus_scrapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dc").mkdir()
    text = DEV.read_text().replace('"dev"', '"dc"').replace("collector_admin = 0", "collector_admin = 8050")
    (tmp_path / "dc" / "hitmesh.toml").write_text(text)
    assert run(["endpoints", "--prometheus", "--state-dir", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"targets": [at], "labels": {"dc": "dc", "role": role, "name": name}}
        for at, role, name in (
            ("127.0.0.1:8050", "collector", "collector-1"),
            ("127.0.0.1:8051", "collector", "collector-2"),
            ("127.0.0.1:8005", "balancer", "balancer-1"),
            ("127.0.0.1:8030", "dashboard", "dashboard-1"),
        )
    ]


def test_a_virtual_ip_is_where_hits_are_sent(tmp_path: Path) -> None:
    config = load(DEV.parent / "us-west.toml")
    assert by_role(config)["virtual_ip"] == ["http://10.2.0.100:80"]
    assert front(config) == ["http://10.2.0.100:80"]


def test_an_admin_listener_that_speaks_tls_is_shown_as_such(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(DEV.read_text().replace("certificates = []", 'certificates = ["a.pem"]\nadmin = true', 1))
    path.write_text(path.read_text().replace("\nadmin = false", "\n"))
    assert by_role(load(path))["balancer_admin"] == ["https://127.0.0.1:8005"]


def test_every_listener_of_a_balancer_is_shown_under_the_name_that_it_announces() -> None:
    assert {key for role, _, key in _ANNOUNCED if role == "balancer"} == set(KINDS) - set(MOVING)


FRONTS = {
    "balancers that pass everything on": ("", ["http://127.0.0.1:8000"]),
    "an alias of the collectors' route": (
        '[routes.default]\naction = "alias"\nof = "a"\n[routes.a]\naction = "proxy"\nservice = "collector"\n',
        ["http://127.0.0.1:8000"],
    ),
    "something else by default": ('[routes.default]\naction = "empty"\n', COLLECTORS),
    "other backends by default": ('[routes.default]\naction = "proxy"\nbackends = ["h:1"]\n', COLLECTORS),
    "nothing by default": ('[routes."a.org"]\naction = "proxy"\nservice = "collector"\n', COLLECTORS),
    "https alone": (
        '[ports]\nbalancer_tls = 8443\n[balancer.tls]\ncertificates = ["a.pem"]\nredirect = true\n',
        COLLECTORS,
    ),
}


@pytest.mark.parametrize("what", FRONTS)
def test_hits_are_sent_to_the_balancers_unless_they_lead_elsewhere(what: str, tmp_path: Path) -> None:
    text, urls = FRONTS[what]
    node = "[nodes.local]\naddress = '127.0.0.1'\nnexus = 1\nprocessor = 1\ncollector = 2\nbalancer = 1\n"
    path = tmp_path / "x.toml"
    path.write_text(f'name = "x"\n{node}{text}')
    assert front(load(path)) == urls


def test_without_balancers_hits_are_sent_to_the_collectors(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(DEV.read_text().replace("balancer = 1", "balancer = 0"))
    assert front(load(path)) == COLLECTORS


def test_an_option_before_the_subcommand_is_not_lost_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["formats", "--config", "elsewhere.toml", "finalize"]) == 2
    assert "options come behind finalize" in capsys.readouterr().err
