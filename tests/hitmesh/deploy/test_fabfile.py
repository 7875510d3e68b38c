"""What is typed after `fab`, as an operator types it; no host is reached for it."""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fabric.main  # type: ignore[import-untyped]
import fabric.state  # type: ignore[import-untyped]
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hitmesh import config
from hitmesh.cli.folder import shipped
from hitmesh.deploy import arguments
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.ssh import Ssh, Unreachable
from hitmesh.errors import CommandError
from tests.hitmesh.deploy.fake_hosts import FakeSsh
from tests.hitmesh.deploy.test_tasks import DATA
from tests.services import wait_for

CHECKOUT = Path(__file__).parents[3]
FAB = Path(sys.executable).parent / "fab"


REFUSED = "echo 'ssh: connect to host: Connection refused' >&2; exit 255"
SILENT = 'case "$*" in *"-O exit"*) exit 0 ;; esac; touch "$TMPDIR/asked"; until [ -e "$TMPDIR/enough" ]; do sleep 0.1; done; exit 255'


def with_files(folder: Path) -> None:
    for name in ("eu-west", "us-west"):
        (folder / f"{name}.toml").write_bytes(shipped(f"config/{name}.toml").read_bytes())


def started(folder: Path, *words: str, ssh: str = REFUSED) -> subprocess.Popen[str]:
    """A command whose `ssh` reaches no host."""
    with_files(folder)
    (folder / "ssh").write_text(f"#!/bin/sh\n{ssh}\n")
    (folder / "ssh").chmod(0o755)
    return subprocess.Popen(
        # Below nohup it would ignore that signal.
        ["env", "--default-signal=HUP", FAB, "--set", f"config={folder},var={folder}/var", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        cwd=CHECKOUT,
        env={"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder)},
    )


def is_pending(pid: int, sent: signal.Signals) -> bool:
    """Whether a process hasn't been given a signal yet."""
    [pending] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("ShdPnd")]
    return bool(int(pending.split()[1], 16) >> (sent - 1) & 1)


@contextlib.contextmanager
def no_host() -> Iterator[list[list[str]]]:
    """No host is reached by this process; the commands that hosts would have been given."""
    asked: list[list[str]] = []

    def refuse(_ssh: Ssh, command: list[str], *_: Any) -> None:
        asked.append(command)
        raise Unreachable("app-1: no sshd answers there")

    def refuse_to_build(*_: Any) -> None:
        raise CommandError("nothing is built here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ssh, "_run", refuse)
        patch.setattr(Ssh, "public_keys", lambda _ssh, _host: ["ssh-ed25519 AAAA"])
        patch.setattr(Ssh, "close", lambda _ssh, _hosts: None)
        patch.setattr("hitmesh.deploy.tasks.build", refuse_to_build)  # before it asks
        patch.setattr("hitmesh.deploy.deploying.build", refuse_to_build)
        patch.setattr("subprocess.run", lambda *_, **__: pytest.fail("a program is run"))
        yield asked


def fab_here(folder: Path, *words: str, options: str = "") -> tuple[int, str]:
    """The status of a command in this process, and what it says. Raises what would be a traceback."""
    known, handlers = dict(fabric.state.env), {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    heard = io.StringIO()
    raised: list[Any] = []
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
        patch.setattr(sys, "argv", ["fab", "--set", options or f"config={folder},var={folder}/var", *words])
        patch.setattr(sys, "excepthook", lambda *error: raised.append(error))
        sys.modules.pop("fabfile", None)
        try:
            with pytest.raises(SystemExit) as ended:
                fabric.main.main([str(CHECKOUT / "fabfile.py")])
        finally:
            fabric.state.env.clear()
            fabric.state.env.update(known)
            for number, handler in handlers.items():
                signal.signal(number, handler)
    if raised:
        raise raised[0][1]
    return int(ended.value.code or 0), heard.getvalue()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("scale:dc=us-west,role=colector,count=4", 1, "fab: 'colector' is no role; did you mean collector?"),
        ("deploy:dc=us-west,role=balancers", 1, "fab: 'balancers' is no role; did you mean balancer?"),
        ("deploy:dc=us-west,roles=nexus;colector", 1, "fab: 'colector' is no role; did you mean collector?"),
        ("scale:dc=us-west,count=4", 2, "fab: scale: missing a required argument: 'role'; such as fab scale:dc="),
        ("deploy:dc=us-west,host=app-1", 2, "fab: deploy: got an unexpected keyword argument 'host'; such as"),
        ("logs:dc=us-west,name=nexus-1,role=nexus", 2, "fab: logs: got an unexpected keyword argument 'role'; such as"),
        ("logs:dc=us-west,name=colector-1", 1, "fab: us-west has no instance colector-1; did you mean collector-1?"),
        ("deploy:us-west,dc=us-west", 2, "fab: deploy: multiple values for argument 'dc'"),
        ("depoly:dc=us-west", 2, "fab: 'depoly' is no task; did you mean deploy? (`fab -l` lists them)"),
        ("deploy:dc=us-west,dc=eu-west", 2, "fab: deploy: 'dc' is given twice"),
        ("deploy:dc=us-west,role=nexus,roles=balancer", 2, "fab: deploy: 'role' is given twice"),
        ("deploy:us-west,dry", 2, "fab: dry='dry' says neither yes nor no (dry=1 or dry=0)"),
        ("deploy:dc=us-west,dry=2", 2, "fab: dry='2' says neither yes nor no"),
        ("deploy:dc=us-west,force=ja", 2, "fab: force='ja' says neither yes nor no"),
        ("rollback:dc=us-west,dry=-1", 2, "fab: dry='-1' says neither yes nor no"),
        ("scale:dc=us-west,role=nexus,count=2,dry=t", 2, "fab: dry='t' says neither yes nor no"),
        ("keys:dc=us-west,rotate=please", 2, "fab: rotate='please' says neither yes nor no"),
        ("check:dc=us-west,firewall=all", 2, "fab: firewall='all' says neither yes nor no"),
        ("deploy:dc=us-west,only=", 2, "fab: deploy: 'only=' is empty (leave it out, or say what it is to be)"),
        ("deploy:dc=us-west,version=", 2, "fab: deploy: 'version=' is empty"),
        ("deploy:dc=us-west,role=", 2, "fab: deploy: 'role=' is empty"),
        ("deploy:dc=us-west,", 2, "fab: deploy: '' is empty"),
        ("bootstrap:dc=us-west,only=", 2, "fab: bootstrap: 'only=' is empty"),
        ("keys:dc=us-west,revoke=", 2, "fab: keys: 'revoke=' is empty"),
        ("keys:dc=us-west,rotate=1,revoke=us-west/nexus/nexus-1", 2, "fab: rotate and revoke are two things"),
        ("hitmesh:dc=us-west,args=audit 'x", 2, 'fab: args="audit \'x" has no end: No closing quotation'),
        ("hitmesh:dc=us-west,args=config set a=b", 2, r"'args=config set a=b' has more than one = (write \= within"),
        ("status:dc=" + "x" * 300, 1, f"fab: there is no datacenter {'x' * 60} in "),
        ("status:dc=../us-west", 1, "fab: there is no datacenter ../us-west in "),
        ("scale:dc=us-west,role=nexus,count=" + "9" * 5000, 2, "...' is not a number of at most 9 digits"),
        ("scale:dc=us-west,role=nexus,count=-1", 2, "fab: count='-1' is not a number of at most 9 digits"),
        ("logs:dc=us-west,name=nexus-1,lines=many", 2, "fab: lines='many' is not a number of at most 9 digits"),
        ("restore:dc=us-west,file=" + "x" * 300, 1, ": can't be read: File name too long"),
        ("logs:dc=us-west,name=\x1b[2J\u202e", 1, r"fab: us-west has no instance \x1b[2J\u202e; "),
    ],
)  # fmt: skip
def test_what_is_typed_wrongly_is_one_line_of_ours_and_asks_nobody(
    words: str, status: int, said: str, tmp_path: Path
) -> None:
    with_files(tmp_path)
    with no_host() as asked:
        answered, heard = fab_here(tmp_path, words)
    assert said in heard
    assert len(heard.splitlines()) == 1
    assert answered == status
    assert asked == []


@pytest.mark.parametrize("options", ["config", "config=", "config=a=b"])
def test_a_folder_that_is_named_by_nothing_is_wrong_use(options: str, tmp_path: Path) -> None:
    assert fab_here(tmp_path, "status:dc=us-west", options=options) == (
        2,
        "fab: --set config names no folder (--set config=DIR)\n",
    )


@pytest.mark.parametrize("word", ["1", "yes", "Y", "true", "TRUE", "on", "0", "No", "n", "False", "off"])
def test_yes_and_no_are_said_in_many_ways(word: str) -> None:
    assert arguments.yes("dry", word) is (word.lower() in ("1", "yes", "y", "true", "on"))


@pytest.mark.parametrize("path", ["~nobody-here/config", "gone", "x" * 300])
def test_a_configuration_of_ssh_that_is_not_there_is_refused(path: str, tmp_path: Path) -> None:
    with_files(tmp_path)
    with no_host():
        status, heard = fab_here(tmp_path, f"--ssh-config-path={path}", "status:dc=us-west")
    assert heard.startswith("fab: ")
    assert len(heard.splitlines()) == 1
    assert status == (1 if len(path) == 300 else 2)


def test_what_a_host_answers_and_nobody_can_read_is_one_line(tmp_path: Path) -> None:
    with_files(tmp_path)
    with no_host(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Desk, "memory", lambda *_: {"token": 1})
        status, heard = fab_here(tmp_path, "unlock:dc=us-west")
    assert heard.startswith("fab: what was answered can't be read: ")
    assert status == 1


TYPED = st.text(st.characters(exclude_characters="\0"), max_size=20)  # which no system lets a program be given
NAMES = ("dc", "dry", "only", "version", "force", "role", "count", "name", "lines", "rotate", "revoke", "file", "args")
TASKS = ("check", "bootstrap", "deploy", "rollback", "status", "scale", "logs", "keys", "restore", "drill", "hitmesh")


@given(
    st.sampled_from(TASKS) | TYPED.filter(lambda word: word[:1] != "-"),
    st.lists(st.tuples(st.sampled_from(NAMES) | TYPED, st.sampled_from(("us-west", "1", "nexus")) | TYPED), max_size=4),
)
@example("bootstrap", [])
@settings(max_examples=40)
def test_whatever_is_typed_is_a_line_and_no_traceback(
    tmp_path_factory: pytest.TempPathFactory, task: str, given: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("typed")
    with_files(folder)
    pairs = dict(given)
    typed = [f"{name}={value}" for name, value in {"dc": "us-west", **pairs}.items()]
    with no_host():
        status, heard = fab_here(folder, f"{task}:{','.join(typed)}")
    assert status in (1, 2)
    assert "Traceback" not in heard
    assert heard.startswith("fab: ")


@given(
    st.sampled_from([task for task in TASKS if task != "bootstrap"]),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(("dc", "1", "2", "nexus", "0.2")) | TYPED), max_size=3),
)
@example("deploy", [("version", "0.3")])
@example("scale", [("role", "nexus"), ("count", "1")])
@example("hitmesh", [("args", "audit\udcff")])
@settings(max_examples=15)
def test_nor_is_it_one_where_hosts_answer(
    tmp_path_factory: pytest.TempPathFactory, task: str, given: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("answered")
    (folder / "dc.toml").write_text(config.dump(config.parse({**DATA, "name": "dc"}, source="test")))
    (folder / "var" / "releases").mkdir(parents=True)
    (folder / "var" / "releases" / "0.3.0-junk.tar").write_bytes(b"junk")

    @contextlib.contextmanager
    def answering(*_: Any) -> Iterator[FakeSsh]:
        yield FakeSsh(Fleet.of(config.load(folder / "dc.toml")), "0.2.0-aaaa", settings=folder / "dc.db")

    typed = [f"{name}={value}" for name, value in {"dc": "dc", **dict(given)}.items()]
    with no_host(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("hitmesh.deploy.desk.opened", answering)
        patch.setattr("hitmesh.deploy.runner.POLL_S", 0.01)
        patch.setattr(
            Desk, "run_terminal", lambda _desk, *words: [word.encode(errors="surrogateescape") for word in words] and 0
        )
        status, heard = fab_here(folder, f"{task}:{','.join(typed)}")
    assert status in (0, 1, 2)
    assert heard.startswith("fab: ") or status != 2


def test_scale_is_given_the_role_and_runs_once(tmp_path: Path) -> None:
    with_files(tmp_path)
    with no_host():
        status, heard = fab_here(tmp_path, "scale:dc=us-west,role=collector,count=9,dry=1")
    assert "Executing task" not in heard
    assert "no sshd answers there" in heard
    assert status == 1


def test_who_has_no_ssh_key_is_told_so_before_anything_is_built(tmp_path: Path) -> None:
    with started(tmp_path, "bootstrap:dc=us-west") as process:
        heard, _ = process.communicate()
    assert heard.startswith("fab: you have no SSH key")
    assert process.returncode == 1
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whatever_interrupts_it_leaves_no_folder_of_connections(sent: signal.Signals, tmp_path: Path) -> None:
    with started(tmp_path, "status:dc=us-west", ssh=SILENT) as process:
        wait_for((tmp_path / "asked").exists, what="ssh to be started")
        process.send_signal(sent)
        wait_for(lambda: not is_pending(process.pid, sent), what="it to have the signal")
        (tmp_path / "enough").touch()
        heard, _ = process.communicate()
    assert list(tmp_path.glob("hm-ssh-*")) == []
    assert heard == "fab: interrupted\n"
    assert process.returncode == 130
