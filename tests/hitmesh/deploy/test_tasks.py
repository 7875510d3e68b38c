"""Whole tasks, as an operator runs them, on hosts in memory; the memory of deploys is a real settings store."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from hitmesh import config as settings
from hitmesh.cli.backup_file import Header, Writer
from hitmesh.deploy import backups, deploying, release, tasks
from hitmesh.deploy.at_work import recall
from hitmesh.deploy.desk import Desk, check_siblings
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.release import Built, built, wanted
from hitmesh.deploy.ssh import Ssh, Unreachable
from hitmesh.errors import CommandError, ConfigError
from hitmesh.protocol.formats import THIS
from tests.hitmesh.deploy.fake_hosts import FakeSsh

OLD, NEW = "0.1.0-aaaa", "0.2.0-bbbb"
ONE = {"nexus": 1, "processor": 1, "collector": 1, "balancer": 1}
DATA: dict[str, Any] = {
    "name": "dc", "insecure": True, "ports": {"balancer_admin": 0}, "deploy": {"bake_s": 0.1, "ready_s": 1},
    "nodes": {"a": {"address": "10.0.0.1", **ONE}, "b": {"address": "10.0.0.2", **ONE}},
}  # fmt: skip


def desk_of(folder: Path, dc: str, told: list[str], release: str) -> tuple[Desk, FakeSsh]:
    """The desk of a datacenter on hosts in memory; without a release nothing was ever deployed there."""
    path = folder / f"{dc}.toml"
    path.write_text(settings.dump(settings.parse({**DATA, "name": dc}, source="test")))
    fleet = Fleet.of(settings.load(path))
    hosts = FakeSsh(fleet, release, settings=folder / f"{dc}.db")
    return Desk(path, fleet, cast(Ssh, hosts), told.append), hosts


class Operator:
    """Somebody with a checkout of NEW, and a datacenter that runs OLD."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[str] = []
        self.desk, self.hosts = desk_of(folder, "dc", self.told, OLD)
        self.checkout(NEW, {"wire": 2, "job": 1, "head": 1, "settings": 1})
        self._patch = monkeypatch
        self.folder = folder

    def checkout(self, id_: str, reads: dict[str, int]) -> None:
        release = msgspec.structs.replace(wanted(), id=id_, version=id_.partition("-")[0], formats=reads)
        self.built = Built(release, Path("/dev/null"))

    def deploy(self, **asked: Any) -> None:
        self._patch.setattr(deploying, "build", lambda checkout, folder: self.built)
        self._patch.setattr(deploying, "built", lambda folder: {})
        deploying.deploy(self.desk, self.folder, self.folder, **asked)

    def refused(self, **asked: Any) -> str:
        with pytest.raises(CommandError) as caught:
            self.deploy(**asked)
        return str(caught.value)

    def runs(self) -> set[str]:
        return set(self.hosts.current.values())


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.setattr("hitmesh.deploy.runner.POLL_S", 0.02)
    return Operator(tmp_path, monkeypatch)


def test_a_deploy_is_remembered_with_its_result_and_leaves_no_lock(operator: Operator) -> None:
    operator.deploy()
    remembered = recall(operator.desk)
    assert operator.runs() == {NEW}
    assert remembered.lock is None
    assert [(entry.what, entry.release, entry.result) for entry in remembered.trail] == [("deploy", NEW, "done")]


def test_a_second_deploy_of_the_same_does_nothing_and_says_so(operator: Operator) -> None:
    operator.deploy()
    calls = len(operator.hosts.calls)
    operator.deploy()
    assert operator.told[-1] == f"dc runs {NEW} already; nothing to do"
    assert len(operator.hosts.calls) == calls


def test_a_dry_run_shows_the_plan_and_the_differences_and_changes_nothing(operator: Operator) -> None:
    operator.deploy(dry=True)
    assert f"[1/11] a: copy release {NEW}" in operator.told[0].replace("/13]", "/11]").replace("/15]", "/11]")
    assert "+++ a:/etc/hitmesh/dc.toml (new)" in operator.told
    assert '+name = "dc"' in operator.told
    assert operator.hosts.calls == []
    assert operator.runs() == {OLD}


def test_what_was_rolled_back_is_refused_until_it_is_forced(operator: Operator) -> None:
    operator.hosts.behaviour = {NEW: "never ready"}
    assert "isn't ready" in operator.refused()
    assert operator.runs() == {OLD}
    operator.hosts.behaviour = {}
    assert f"{NEW} was rolled back: nexus-1 isn't ready" in operator.refused()
    operator.deploy(force=True)
    assert operator.runs() == {NEW}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Unreachable("b: it can't be reached")])
@pytest.mark.parametrize("at", ["b receive", "a restart collector-1"])
def test_what_was_taken_back_for_no_fault_of_the_release_is_finished_by_the_same_command(
    operator: Operator, at: str, error: BaseException
) -> None:
    raised: list[str] = []

    def trouble(call: str) -> None:
        if call.startswith(at) and not raised:
            raised.append(call)
            raise error

    operator.hosts.before_call = trouble
    operator.refused()
    assert operator.runs() == {OLD}
    assert recall(operator.desk).trail[-1].result.startswith("taken back: ")
    operator.deploy()
    assert operator.runs() == {NEW}


def test_two_people_at_once_the_second_changes_nothing(operator: Operator) -> None:
    given = {"token": "other", "who": "anna@desk", "what": "deploy 0.3.0", "for_s": 60.0}
    operator.desk.any_host().memory("take", given)
    assert "anna@desk is at work: deploy 0.3.0" in operator.refused()
    assert operator.runs() == {OLD}
    tasks.unlock(operator.desk)
    assert operator.told[-1] == "the lock of anna@desk is broken: deploy 0.3.0"
    operator.deploy()


def test_a_release_that_cannot_read_what_is_written_is_refused(operator: Operator) -> None:
    operator.hosts.written = {"wire": 2, "job": 1, "head": 1, "settings": 1}
    operator.checkout("0.1.5-cccc", {"wire": 1, "job": 1, "head": 1, "settings": 1})
    assert "0.1.5-cccc can't read what the mesh writes since it was finalised: wire 2" in operator.refused()
    assert operator.runs() == {OLD}
    operator.checkout(NEW, {"wire": 2, "job": 1, "head": 1, "settings": 1})
    operator.deploy()


def test_nor_is_one_deployed_that_is_older_than_what_runs_from_a_checkout_that_is_as_old(operator: Operator) -> None:
    written = {**THIS.reads, "wire": THIS.reads["wire"] + 1, "more": 2}  # of a newer release than this one
    operator.hosts.written = written
    operator.checkout(NEW, dict(THIS.reads))
    said = operator.refused()
    assert f"{NEW} can't read what the mesh writes since it was finalised: wire {written['wire']}, more 2" in said
    assert operator.runs() == {OLD}


def test_what_a_release_reads_is_asked_of_the_hosts_where_they_alone_have_it(operator: Operator) -> None:
    operator.deploy()
    operator.checkout("0.3.0-dddd", {"wire": 2})
    operator.deploy()
    operator.hosts.written = {"wire": 2}
    assert "can't read what the mesh writes" in operator.refused(version=OLD)
    operator.hosts.reads = {NEW: {"wire": 2}}
    deploying.rollback(operator.desk, operator.folder, operator.folder)
    assert operator.runs() == {NEW}


def test_another_python_on_a_host_is_one_line_of_a_deploy_that_changes_nothing_and_of_a_check(
    operator: Operator,
) -> None:
    operator.hosts.python["b"] = "3.10.12"
    line = f"b: its Python is 3.10.12, and the release is for {wanted().python}"
    assert line in operator.refused()
    assert operator.hosts.calls == []
    with pytest.raises(CommandError, match=line):
        tasks.check(operator.desk)


def a_tar(path: Path, **files: bytes) -> None:
    with tarfile.open(path, "w") as packed:
        for name, content in files.items():
            entry = tarfile.TarInfo({"list": "release.json", "wheel": "wheels/some.whl"}.get(name, name))
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize("junk", ["junk", "empty", "no list", "another list", "no wheel", "cut", "a folder"])
def test_what_is_no_whole_release_among_those_that_were_built_is_named(operator: Operator, junk: str) -> None:
    path = operator.folder / "0.3.0-junk.tar"
    text = msgspec.json.encode(msgspec.structs.replace(wanted(), id="0.3.0-junk", wheels={"some.whl": "0" * 64}))
    a_tar(path, list=text, wheel=b"wheel" * 9000)
    assert list(built(operator.folder)) == ["0.3.0-junk"]
    match junk:
        case "a folder":
            path.unlink()
            path.mkdir()
        case "no list":
            a_tar(path, wheel=b"wheel")
        case "another list":
            a_tar(path, list=b"[]")
        case "no wheel":
            a_tar(path, list=text)
        case "cut":
            path.write_bytes(path.read_bytes()[:20_000])
        case _:
            path.write_bytes(b"junk" if junk == "junk" else b"")
    with pytest.raises(CommandError, match=r"0\.3\.0-junk\.tar isn't a release: .* \(remove it\)"):
        deploying.deploy(operator.desk, operator.folder, operator.folder, version="0.3.0")
    assert operator.hosts.calls == []


def test_a_release_that_was_cut_on_this_machine_is_packed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wheel(_what: list[str], into: Path, *options: str) -> None:
        if options:
            with zipfile.ZipFile(into / "hitmesh-0.whl", "w") as packed:
                packed.writestr("hitmesh/__init__.py", "#" * 9000)

    monkeypatch.setattr(release, "_pip_wheel", wheel)
    monkeypatch.setattr(release, "_compile", lambda _checkout: "")
    monkeypatch.setattr(release, "_copied", lambda _checkout, into: into)
    monkeypatch.setattr(release, "locked", lambda _project: [])
    first = release.build(tmp_path, tmp_path)
    whole = first.tar.read_bytes()
    first.tar.write_bytes(whole[:9000])
    assert release.build(tmp_path, tmp_path) == first
    assert first.tar.stat().st_size == len(whole)


def test_a_rollback_goes_to_the_release_before(operator: Operator) -> None:
    operator.deploy()
    operator.checkout("0.3.0-dddd", {"wire": 2})
    operator.deploy()
    deploying.rollback(operator.desk, operator.folder, operator.folder)
    assert operator.runs() == {NEW}
    assert [entry.what for entry in recall(operator.desk).trail] == ["deploy", "deploy", "rollback"]


@pytest.mark.system
def test_hooks_are_told_what_happens_and_the_first_one_may_refuse(operator: Operator, tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text(
        '#!/bin/sh\ncat >> "$(dirname "$0")/events"; echo >> "$(dirname "$0")/events"; exit $(cat status)\n'
    )
    hook.chmod(0o755)
    data = {**DATA, "deploy": {**DATA["deploy"], "hooks": {"before": "hook", "after": "hook"}}}
    operator.desk.fleet = Fleet.of(settings.parse(data, source="test"))
    (tmp_path / "status").write_text("1")
    assert "hook ended with 1 (nothing was changed)" in operator.refused()
    assert operator.runs() == {OLD}
    (tmp_path / "status").write_text("0")
    operator.deploy()
    events = (tmp_path / "events").read_text()
    assert '"event":"before"' in events
    assert '"result":"done"' in events


def test_the_first_datacenter_waits_for_none_that_was_never_deployed(operator: Operator) -> None:
    operator.desk, operator.hosts = desk_of(operator.folder, "dc", operator.told, "")
    far, _ = desk_of(operator.folder, "far", operator.told, "")
    operator.deploy(others=[far])
    calls = operator.hosts.calls
    assert "b hitmesh datacenter retire far" in calls
    assert calls.index("b hitmesh datacenter retire far") > calls.index("b start balancer-2")


def test_the_others_wait_for_a_datacenter_from_its_first_deploy_on(operator: Operator) -> None:
    operator.desk, operator.hosts = desk_of(operator.folder, "dc", operator.told, "")
    far, hosts = desk_of(operator.folder, "far", operator.told, OLD)
    operator.deploy(others=[far])
    assert hosts.calls == ["a hitmesh datacenter return dc"]
    assert not any("retire" in call for call in operator.hosts.calls)
    operator.checkout("0.3.0-dddd", {"wire": 2})
    operator.deploy(others=[far])
    assert hosts.calls == ["a hitmesh datacenter return dc"]  # once


def test_whoever_cannot_be_asked_whether_it_has_counts_is_waited_for(operator: Operator) -> None:
    operator.desk, operator.hosts = desk_of(operator.folder, "dc", operator.told, "")
    far, hosts = desk_of(operator.folder, "far", operator.told, "")
    hosts.vanish("a", "a ")
    operator.deploy(others=[far])
    assert any("far can't be asked whether it has counts, and is waited for" in line for line in operator.told)
    assert not any("retire" in call for call in operator.hosts.calls)


def test_datacenters_of_one_mesh_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    peers = {"far": ["10.1.0.1:8020"]}
    ours, far = (settings.parse({**DATA, **more}, source="test") for more in ({"peers": peers}, {"name": "far"}))
    (tmp_path / "far.toml").write_text(settings.dump(far))
    check_siblings(ours, tmp_path)
    (tmp_path / "far.toml").write_text(settings.dump(msgspec.structs.replace(far, partitions=8)))
    with pytest.raises(
        ConfigError, match="partitions is 32 in dc and 8 in far; it must be the same in every datacenter"
    ):
        check_siblings(ours, tmp_path)


def test_a_backup_without_a_place_and_a_restore_without_a_file_are_refused_before_any_host_is_asked(
    operator: Operator,
) -> None:
    def ask(call: str) -> None:
        raise AssertionError(call)

    operator.hosts.before_call = ask
    with pytest.raises(CommandError, match=r"deploy\.backup\.to is empty"):
        tasks.backup(operator.desk)
    with pytest.raises(CommandError, match=r"gone\.backup: can't be read"):
        tasks.restore(operator.desk, [], str(operator.folder / "gone.backup"))


# --- scale ---------------------------------------------------------------------------------


def scale(operator: Operator, count: int, role: str = "collector", **asked: Any) -> None:
    tasks.scale(operator.desk, [], operator.folder, operator.folder, role, count, **asked)


@pytest.fixture
def deployed(operator: Operator) -> Operator:
    """Somebody whose file is to change, and has been deployed."""
    operator.deploy()
    operator.hosts.calls.clear()
    operator.desk.path.chmod(0o640)
    return operator


def test_scale_writes_the_file_under_the_lock_and_deploys_it(deployed: Operator) -> None:
    seen = []

    def look(call: str) -> None:
        if call == "b stop collector-2":
            seen.append((deployed.desk.path.read_text(), recall(deployed.desk).lock is not None))

    deployed.hosts.before_call = look
    scale(deployed, 1)
    [(text, is_locked)] = seen
    assert is_locked
    assert text == deployed.desk.path.read_text() != deployed.desk.text
    assert settings.load(deployed.desk.path).nodes["b"].collector == 0
    assert deployed.desk.path.stat().st_mode & 0o777 == 0o640
    assert deployed.hosts.files["b"]["/etc/hitmesh/dc.toml"] == text
    deployed.desk = deployed.desk.with_text(text)  # the same again
    calls = len(deployed.hosts.calls)
    scale(deployed, 1)
    assert deployed.told[-1] == f"dc runs {NEW} already; nothing to do"
    assert len(deployed.hosts.calls) == calls


def test_a_file_that_no_task_would_accept_is_never_written(deployed: Operator) -> None:
    with pytest.raises(ConfigError, match=r"dc\.toml: nodes\.a\.collector must be a whole number <= "):
        scale(deployed, 900)
    assert deployed.desk.path.read_text() == deployed.desk.text
    assert deployed.hosts.calls == []


def test_a_dry_scale_shows_the_plan_and_changes_nothing(deployed: Operator) -> None:
    scale(deployed, 1, dry=True)
    assert "b: collector 1 -> 0" in deployed.told
    assert any("stop collector-2" in line for line in deployed.told), deployed.told
    assert deployed.desk.path.read_text() == deployed.desk.text
    assert deployed.hosts.calls == []


def test_a_scale_that_is_refused_leaves_the_file_and_the_same_again_deploys(deployed: Operator) -> None:
    given = {"token": "other", "who": "anna@desk", "what": "deploy 0.3.0", "for_s": 60.0}
    deployed.desk.any_host().memory("take", given)
    with pytest.raises(CommandError, match="anna@desk is at work"):
        scale(deployed, 1)
    assert deployed.desk.path.read_text() == deployed.desk.text
    tasks.unlock(deployed.desk)
    scale(deployed, 1)
    assert "b stop collector-2" in deployed.hosts.calls


def test_a_scale_that_is_taken_back_takes_the_file_back(deployed: Operator) -> None:
    raised: list[str] = []

    def refuse(call: str) -> None:
        if call.startswith("a write") and not raised:
            raised.append(call)
            raise CommandError("a: its disk is full")

    deployed.hosts.before_call = refuse
    with pytest.raises(CommandError, match="a: its disk is full"):
        scale(deployed, 1)
    assert raised
    assert deployed.desk.path.read_text() == deployed.desk.text
    assert deployed.told[-1] == f"{deployed.desk.path} is as before"


def test_a_scale_that_is_left_half_way_leaves_the_file_and_the_same_again_finishes_it(deployed: Operator) -> None:
    deployed.hosts.vanish("b", "b write")
    with pytest.raises(CommandError, match="not taken back: the files of b"):
        scale(deployed, 1)
    deployed.desk = deployed.desk.with_text(deployed.desk.path.read_text())
    assert deployed.desk.config.nodes["b"].collector == 0
    deployed.hosts.gone, deployed.hosts.before_call = "", lambda call: None
    scale(deployed, 1)
    assert deployed.hosts.files["b"]["/etc/hitmesh/dc.toml"] == deployed.desk.text
    assert deployed.told[-1] == f"dc runs {NEW}"


def test_a_file_that_somebody_has_changed_meanwhile_stays_as_it_is(deployed: Operator) -> None:
    changed = deployed.desk.text + "# of somebody else\n"
    deployed.desk.path.write_text(changed)
    with pytest.raises(CommandError, match=r"dc\.toml was changed meanwhile"):
        scale(deployed, 1)
    assert deployed.desk.path.read_text() == changed
    assert deployed.hosts.calls == []


def test_what_was_never_deployed_is_not_scaled(operator: Operator) -> None:
    operator.desk, operator.hosts = desk_of(operator.folder, "dc", operator.told, "")
    with pytest.raises(CommandError, match="dc was never deployed"):
        scale(operator, 1)
    assert operator.desk.path.read_text() == operator.desk.text


# --- backups -------------------------------------------------------------------------------


WHO_COUNTS = {f"{role}-{number}" for role in ("processor", "collector", "balancer") for number in (1, 2)}


def a_backup(folder: Path, partitions: int = 32) -> Path:
    """A file with nothing in it."""
    path = folder / "empty.backup"
    header = Header(release="0.2.0", at="2026-11-30T00:05:01Z", partitions=partitions, datacenters={})
    with contextlib.closing(Writer(folder)) as writer, path.open("wb") as out:
        writer.finish(header, out)
    return path


def test_a_stopped_datacenter_keeps_its_nexuses_and_is_started_again_as_it_was(operator: Operator) -> None:
    tasks.stop(operator.desk)
    assert operator.hosts.stopped == WHO_COUNTS
    assert operator.hosts.calls[:3] == ["b stop balancer-2", "a stop balancer-1", "b stop collector-2"]
    tasks.start(operator.desk)
    assert operator.hosts.stopped == set()
    assert operator.runs() == {OLD}
    assert [entry.what for entry in recall(operator.desk).trail] == ["stop", "start"]


def test_a_restore_stops_every_datacenter_looks_into_each_and_starts_them(operator: Operator) -> None:
    far, hosts = desk_of(operator.folder, "far", operator.told, OLD)
    tasks.restore(operator.desk, [far], str(a_backup(operator.folder)))
    for dc, calls in (("dc", operator.hosts.calls), ("far", hosts.calls)):
        look = f"a hitmesh restore - --dc {dc} --dry"
        assert calls[0] == look  # before anybody is stopped
        assert calls[7] == look  # when everybody is
        assert sum("stop" in call for call in calls[:7]) == sum("start" in call for call in calls[8:]) == 6
        assert ("a hitmesh restore - --dc dc" in calls[8:]) is (dc == "dc")
    assert operator.hosts.stopped == hosts.stopped == set()


def test_a_restore_that_is_refused_starts_whom_it_has_stopped_and_nobody_else(operator: Operator) -> None:
    far, hosts = desk_of(operator.folder, "far", operator.told, OLD)
    tasks.stop(operator.desk)
    hosts.has_totals, hosts.looks_first = True, False
    with pytest.raises(CommandError, match="far has totals"):
        tasks.restore(operator.desk, [far], str(a_backup(operator.folder)))
    assert "a hitmesh restore - --dc dc" not in operator.hosts.calls
    assert operator.hosts.stopped == WHO_COUNTS
    assert hosts.stopped == set()


@pytest.mark.parametrize("where", ["dc", "far"])
def test_a_mesh_that_has_totals_is_not_stopped_to_find_that_out(operator: Operator, where: str) -> None:
    far, hosts = desk_of(operator.folder, "far", operator.told, OLD)
    {"dc": operator.hosts, "far": hosts}[where].has_totals = True
    with pytest.raises(CommandError, match=f"{where} has totals"):
        tasks.restore(operator.desk, [far], str(a_backup(operator.folder)))
    called = operator.hosts.calls + hosts.calls
    assert called
    assert all(call.endswith("--dry") for call in called)


def test_a_restore_holds_the_lock_of_every_datacenter_that_it_stops(operator: Operator) -> None:
    far, hosts = desk_of(operator.folder, "far", operator.told, OLD)
    held = []

    def look(call: str) -> None:
        if "hitmesh restore" in call or call.endswith("stop balancer-2"):
            held.append([recall(each).lock is not None for each in (operator.desk, far)])

    operator.hosts.before_call = hosts.before_call = look
    path = a_backup(operator.folder)
    tasks.restore(operator.desk, [far], str(path))
    assert len(held) == 5 + 2
    assert all(map(all, held))
    for desk in (operator.desk, far):
        remembered = recall(desk)
        assert remembered.lock is None
        assert [(entry.what, entry.result) for entry in remembered.trail] == [(f"restore {path}", "done")]


def test_a_file_may_be_called_anything(operator: Operator) -> None:
    path = a_backup(operator.folder).rename(operator.folder / os.fsdecode(b"\xff\x1b[2J"))
    tasks.restore(operator.desk, [], str(path))
    assert recall(operator.desk).trail[-1].what == f"restore {operator.folder}/\\udcff\\x1b[2J"


def test_a_restore_waits_for_whoever_is_at_work_in_another_datacenter(operator: Operator) -> None:
    far, hosts = desk_of(operator.folder, "far", operator.told, OLD)
    given = {"token": "other", "who": "anna@desk", "what": "deploy 0.3.0", "for_s": 60.0}
    far.any_host().memory("take", given)
    with pytest.raises(CommandError, match="anna@desk is at work"):
        tasks.restore(operator.desk, [far], str(a_backup(operator.folder)))
    assert operator.hosts.calls == hosts.calls == []
    assert recall(operator.desk).lock is None


@pytest.mark.parametrize("at", ["a stop collector-1", "a hitmesh restore"], ids=["while it stops", "afterwards"])
def test_a_restore_names_the_host_that_is_gone_and_starts_all_others(operator: Operator, at: str) -> None:
    operator.hosts.vanish("b", at)
    with pytest.raises(CommandError, match="b: it can't be reached"):
        tasks.restore(operator.desk, [], str(a_backup(operator.folder)))
    assert {name for name in operator.hosts.stopped if name.endswith("1")} == set()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("empty", "not a backup that hitmesh has written"),
        ("cut", "was cut or altered"),
        ("altered", "was cut or altered"),
        ("of a mesh with other partitions", "has 32 partitions"),
        ("with another body", "what is in it can't be read"),
        ("with less than its header says", "doesn't have what its header says: 0 settings, not 5"),
    ],
)
def test_a_file_that_cannot_be_restored_stops_nobody_and_is_named_as_it_was_typed(
    operator: Operator, bad: str, said: str
) -> None:
    path = a_backup(operator.folder, partitions=8 if bad.startswith("of") else 32)
    whole = path.read_bytes()
    header, _, rest = whole.partition(b"\n")
    less = header.replace(b'"settings":0', b'"settings":5') + b"\n" + rest[:-72]
    junk = header + b"\njunk"
    path.write_bytes(
        {
            "empty": b"",
            "cut": whole[:-1],
            "altered": whole.replace(b"0.2.0", b"0.2.1"),
            "with another body": junk + f"sha256 {hashlib.sha256(junk).hexdigest()}\n".encode(),
            "with less than its header says": less + f"sha256 {hashlib.sha256(less).hexdigest()}\n".encode(),
        }.get(bad, whole)
    )
    with pytest.raises(CommandError, match=said) as caught:
        tasks.restore(operator.desk, [], str(path))
    assert operator.hosts.calls == []
    assert str(path) in str(caught.value) or bad.startswith("of")
    if not bad.startswith("of"):
        with pytest.raises(CommandError, match=said) as caught:
            backups.drill(operator.desk, str(path))
        assert str(path) in str(caught.value)
