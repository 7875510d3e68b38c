"""What each task of `fab` does, in the order in which it does it. The fabfile names them.

Each takes the desk of a datacenter and what the operator said, tells what it does while it does it, and raises a
HitmeshError with one clear line when it can't.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from hitmesh.cli.config import me
from hitmesh.config import ROLES, Role
from hitmesh.deploy import backups, hooks, lock, memory, scaling
from hitmesh.deploy import bootstrap as bootstrapping
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.facts import Facts, Release
from hitmesh.deploy.keys import Keys
from hitmesh.deploy.memory import DONE, ROLLED_BACK, Entry, Lock
from hitmesh.deploy.plan import Asked, Step, Write, is_there, is_unborn, make_plan, problems
from hitmesh.deploy.release import Built, build, built
from hitmesh.deploy.remote import RemoteHost
from hitmesh.deploy.render import nftables
from hitmesh.deploy.runner import Runner, Stopped
from hitmesh.deploy.ssh import Ssh
from hitmesh.errors import CommandError, HitmeshError
from hitmesh.mistakes import nearest
from hitmesh.protocol.formats import THIS

TRAIL_SHOWN: Final = 10
LOG_LINES: Final = 50


class Remembered(msgspec.Struct, frozen=True):
    """What a datacenter knows of deploys."""

    lock: Lock | None
    trail: list[Entry]
    now: float


def bootstrap(desk: Desk, root: Ssh, folder: Path, checkout: Path, *, only: str = "") -> None:
    """Make hosts ready for deploys: users, folders, programs, Consul, beanstalkd; twice changes nothing."""
    found = build(checkout, folder)
    wanted = [desk.site.host(only)] if only else list(desk.site.hosts)
    desk.tell(f"bootstrapping {', '.join(host.name for host in wanted)} with {found.release.id}")
    authorized = root.public_keys(wanted[0])
    gossip = _gossip_key(desk)

    def one(host: RemoteHost) -> list[str]:
        changed = bootstrapping.bootstrap(desk.site, desk.text, host, root, found.tar, authorized, gossip)
        desk.tell(f"{host.name}: {', '.join(changed) or 'nothing to change'}")
        return changed

    answers = desk.each(wanted, one)
    if reasons := [str(answer) for answer in answers.values() if isinstance(answer, CommandError)]:
        raise CommandError("; ".join(reasons), hint="the same command again goes on")


def _check_formats(desk: Desk, id_: str, release: Release | None, facts: Mapping[str, Facts]) -> None:
    """Raise CommandError for a release that can't read what the mesh writes since it was finalised."""
    reads = {kind: release.formats.get(kind, 1) if release else 1 for kind in THIS.reads}
    older = [kind for kind, highest in THIS.reads.items() if reads[kind] < highest]
    if not older or is_unborn(facts):
        return
    host = desk.any_host()
    done = host.hitmesh("formats", "--json")
    try:
        written = msgspec.json.decode(done.out, type=_Formats).written
    except msgspec.MsgspecError as error:
        why = done.err or str(error)
        raise CommandError(
            f"whether {id_} can read what is written can't be told: {why}", hint="force=1 deploys it all the same"
        ) from error
    if unread := [f"{kind} {written[kind]}" for kind in older if written.get(kind, 1) > reads[kind]]:
        raise CommandError(
            f"{id_} can't read what the mesh writes since it was finalised: {', '.join(unread)}",
            hint="deploy a newer release; `hitmesh formats` shows who reads what",
        )


class _Formats(msgspec.Struct, frozen=True):
    written: Mapping[str, int]


def _unborn(desk: Desk, others: Sequence[Desk]) -> list[str]:
    """The other datacenters of the mesh that were never deployed. One that can't be asked may have been."""
    found = []
    for other in others:
        try:
            if is_unborn(other.facts()):
                found.append(other.site.dc)
        except CommandError as error:
            desk.tell(f"{other.site.dc} can't be asked whether it has counts, and is waited for: {error.message}")
    return found


def _introduce(desk: Desk, others: Sequence[Desk]) -> None:
    """Have the other datacenters wait for this one from now on, whom its absence was told."""
    for other in others:
        try:
            if not is_unborn(other.facts()):
                done = other.any_host().hitmesh("datacenter", "return", desk.site.dc)
                desk.tell(f"{other.site.dc}: {(done.out.decode(errors='replace') or done.err).strip()}")
        except CommandError as error:
            desk.tell(f"{other.site.dc} wasn't told of {desk.site.dc}: {error.message}")


def _gossip_key(desk: Desk) -> str:
    name = desk.config.deploy.consul.gossip_key
    try:
        return (desk.path.parent / name).read_text(encoding="utf-8") if name else ""
    except OSError as error:
        raise CommandError(f"deploy.consul.gossip_key: {name} can't be read: {error.strerror}") from error


def deploy(
    desk: Desk,
    releases: Path,
    checkout: Path,
    *,
    others: Sequence[Desk] = (),
    dry: bool = False,
    force: bool = False,
    only: str = "",
    roles: Sequence[Role] = (),
    version: str = "",
    what: str = "deploy",
    bake_s: float | None = None,
) -> None:
    """Bring a release and the datacenter's file to its hosts, the canary first, and take it back if it does badly."""
    facts = desk.facts(only)
    found = _chosen(version, facts, releases) if version else build(checkout, releases)
    release_id, release = (found.release.id, found.release) if isinstance(found, Built) else (found, None)
    tars = {release_id: found.tar} if isinstance(found, Built) else {}
    if reasons := problems(desk.site, release, facts):
        raise CommandError("; ".join(reasons), hint="nothing was changed")
    if not force:
        _check_formats(desk, release_id, release, facts)
    is_first = is_unborn(facts) and not only
    unborn = _unborn(desk, others) if is_first else []
    asked = Asked(only=only, roles=roles, bake_s=bake_s, unborn=unborn)
    steps = make_plan(desk.site, release_id, facts, desk.files(), asked)
    mine = Keys(desk, others) if desk.config.keys else None
    lacking = mine.lacking(facts) if mine else []
    if dry:
        _show(desk, steps, lacking)
        return
    if not steps and not lacking:
        desk.tell(f"{desk.site.dc} runs {release_id} already; nothing to do")
        return
    with _at_work(desk, what, release_id, force=force) as may_go_on:
        hooks.run(
            desk.config.deploy.hooks.before,
            desk.path.parent,
            _event(desk, "before", release_id, steps),
            tell=desk.tell,
        )
        # Somebody else may have been at work until now: what the hosts say is asked again.
        facts = desk.facts(only)
        if mine:
            mine.make(facts)
            facts = desk.facts(only)
        if is_first:
            _introduce(desk, others)
        steps = make_plan(desk.site, release_id, facts, desk.files(), asked)
        Runner(desk.site, desk.hosts, tars, desk.tell, may_go_on).run(steps)
    desk.tell(f"{desk.site.dc} runs {release_id}")


def rollback(desk: Desk, releases: Path, checkout: Path, *, dry: bool = False, force: bool = False) -> None:
    """Go back to the release that was deployed before."""
    remembered = recall(desk)
    current = _most(desk.facts())
    before = memory.before(remembered.trail, current)
    if not before:
        raise CommandError(
            f"{desk.site.dc} has had no release before {current or 'its first'}",
            hint="version=ID deploys one that is there",
        )
    deploy(desk, releases, checkout, dry=dry, force=force, version=before, what="rollback", bake_s=0.0)


def check(desk: Desk, *, firewall: bool = False) -> None:
    """Say what is wrong with the hosts and the file, and what a deploy would write; change nothing.

    With `firewall` its rules on each host are shown, in force or not.
    """
    if firewall:
        for host in desk.site.hosts:
            desk.tell(f"# {host.name}\n{nftables.rules(desk.site, host)}")
    facts = desk.facts()
    reasons = problems(desk.site, None, facts)
    for name, fact in facts.items():
        running = [each.name for each in fact.programs or () if each.state == "RUNNING"]
        desk.tell(
            f"{name}: Python {fact.python}, {fact.free_bytes // 2**20} MB free, clock {fact.off_s:+.1f} s, "
            f"releases {', '.join(fact.releases) or 'none'}; runs {', '.join(running) or 'nothing'}"
        )
    for name, files in desk.files().items():
        changed = [file.path for file in files if not is_there(file, facts[name])]
        if changed:
            desk.tell(f"{name}: a deploy would write {', '.join(changed)}")
    if reasons:
        raise CommandError("; ".join(reasons))


def status(desk: Desk) -> None:
    """Show what runs where, who is at work, and what was done."""
    facts = desk.facts()
    for host, one in desk.site.in_order():
        fact = facts[host.name]
        program = next((each for each in fact.programs or () if each.name == one.name), None)
        state = program.state.lower() if program else "not there"
        desk.tell(f"{host.name:12} {one.name:14} {state:10} {fact.current.get(one.name, '-')}")
    remembered = recall(desk)
    if remembered.lock is not None:
        desk.tell(memory.held(remembered.lock, "", remembered.now) or f"the lock of {remembered.lock.who} is over")
    for entry in remembered.trail[-TRAIL_SHOWN:]:
        desk.tell(as_line(entry))


def most_used(desk: Desk) -> str:
    """The release that most instances have; empty before the first deploy. Raises CommandError."""
    return _most(desk.facts())


def releases(desk: Desk) -> None:
    """Show the releases that are on the hosts, and which of them each host runs."""
    for name, fact in desk.facts().items():
        used = set(fact.current.values())
        desk.tell(
            f"{name}: " + (", ".join(f"{id_}{' (runs)' if id_ in used else ''}" for id_ in fact.releases) or "none")
        )


def logs(desk: Desk, instance: str, lines: int = LOG_LINES) -> None:
    """Show the last lines of an instance's log, or of all instances of a role."""
    wanted = [(host, one) for host, one in desk.site.in_order() if instance in (one.name, one.role)]
    if not wanted:
        names = [one.name for _, one in desk.site.in_order()]
        raise CommandError(f"{desk.site.dc} has no instance {instance}; {nearest(instance, names)}")
    for host, one in wanted:
        for line in desk.hosts[host.name].logs(one.name, lines):
            desk.tell(f"{one.name}: {line}" if len(wanted) > 1 else line)


def keys(desk: Desk, others: Sequence[Desk], *, rotate: bool = False, revoke: str = "") -> None:
    """Make, bring, change or take away the datacenter's keys."""
    mine = Keys(desk, others)
    if revoke:
        mine.revoke(revoke)
    elif rotate:
        with _at_work(desk, "keys", "", force=True) as may_go_on:
            mine.rotate(may_go_on)
    else:
        mine.make()


def backup(desk: Desk) -> None:
    """Take a backup, and keep it where `deploy.backup.to` says."""
    with _at_work(desk, "backup", "", force=True):
        backups.backup(desk)


def restore(desk: Desk, others: Sequence[Desk], name: str) -> None:
    """Bring a backup back into a mesh whose totals stores are empty."""
    with _at_work(desk, f"restore {name}", "", force=True) as may_go_on:
        backups.restore(desk, others, name, may_go_on)


def finalize(desk: Desk) -> None:
    """Have the formats written that every living instance can read; after that no older release can come back."""
    host = desk.any_host()
    with _at_work(desk, "finalize", "", force=True):
        done = host.hitmesh("formats", "finalize")
        for line in (done.out.decode(errors="replace") + done.err).splitlines():
            desk.tell(line)
        if done.status:
            raise CommandError("the formats stay as they are")


def unlock(desk: Desk) -> None:
    """Break the lock of a deploy that is at work, or died a moment ago."""
    given = {"token": "", "who": me()}
    broken = msgspec.convert(desk.memory("free", given), Lock | None)
    if broken is None:
        desk.tell(f"nobody is at work in {desk.site.dc}")
        return
    desk.tell(f"the lock of {broken.who} is broken: {broken.what}")
    _remember(desk, Entry(at=0.0, who=me(), what="unlock", result=f"of {broken.who}: {broken.what}"))


def scale(desk: Desk, role: str, count: int, *, dry: bool = False) -> list[str]:
    """Change how many instances of a role the datacenter's file has, and deploy that; the changed lines."""
    if role not in ROLES:
        raise CommandError(f"{role} is no role; {nearest(role, list(ROLES))}")
    text, lines = scaling.scaled(desk.text, desk.site, role, count)
    for line in lines:
        desk.tell(line)
    if not dry and lines:
        desk.path.write_text(text, encoding="utf-8")
    return lines


def recall(desk: Desk) -> Remembered:
    """The lock and the trail. Raises CommandError."""
    return msgspec.convert(desk.memory("show"), Remembered)


def as_line(entry: Entry) -> str:
    """An entry of the trail, for people."""
    when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(entry.at))
    return f"{when}  {entry.who}: {entry.what} {entry.release} {entry.result}, {entry.seconds:.0f} s"


@contextmanager
def _at_work(desk: Desk, what: str, release: str, *, force: bool) -> Iterator[Callable[[], None]]:
    """Hold the lock, and remember what became of it."""
    remembered = recall(desk)
    undone = memory.was_rolled_back(remembered.trail, release)
    if undone and what == "deploy" and not force:
        raise CommandError(
            f"{release} was rolled back: {undone.result.partition(': ')[2]}", hint="mend it, or force=1 tries it again"
        )
    began = time.monotonic()
    who = me()
    result = "ended without a word"
    try:
        with lock.held(desk.memory, who, f"{what} {release}", desk.config.deploy.lock_s) as may_go_on:
            try:
                yield may_go_on
                result = DONE
            except Stopped as error:
                taken_back = ROLLED_BACK if error.is_bad else "taken back"
                result = f"{taken_back}: {error.message}" if error.undone else f"stopped half-way: {error}"
                raise
            except HitmeshError as error:
                result = f"failed: {error}"
                raise
            finally:
                entry = Entry(
                    at=0.0, who=who, what=what, result=result, release=release, seconds=time.monotonic() - began
                )
                _remember(desk, entry)
    finally:
        if result != "ended without a word":
            name = "after" if result == DONE else "failed"
            program = getattr(desk.config.deploy.hooks, name)
            hooks.run(
                program,
                desk.path.parent,
                {"event": name, "dc": desk.site.dc, "release": release, "result": result},
                tell=desk.tell,
                must=False,
            )


def _remember(desk: Desk, entry: Entry) -> None:
    given = {key: value for key, value in msgspec.to_builtins(entry).items() if key != "at"}
    try:
        desk.memory("add", given)
    except HitmeshError as error:
        desk.tell(f"the trail couldn't be written: {error}")


def _event(desk: Desk, event: str, release: str, steps: Sequence[Step]) -> dict[str, Any]:
    return {"event": event, "dc": desk.site.dc, "release": release, "steps": [str(step) for step in steps]}


def _show(desk: Desk, steps: Sequence[Step], lacking: Sequence[str]) -> None:
    if not steps and not lacking:
        desk.tell("nothing to do")
    for what in lacking:
        desk.tell(f"keys: {what}: it will be made or brought")
    for number, step in enumerate(steps, 1):
        desk.tell(f"[{number}/{len(steps)}] {step}")
    for step in steps:
        if isinstance(step, Write):
            for line in desk.differences(step.host, step.files):
                desk.tell(line)


def _chosen(version: str, facts: Mapping[str, Facts], folder: Path) -> Built | str:
    """The release that the operator named, by its id or its beginning: here, or on every host. Raises CommandError."""
    here = built(folder)
    ids = {*here, *(id_ for fact in facts.values() for id_ in fact.releases)}
    matching = sorted(id_ for id_ in ids if id_.startswith(version))
    if len(matching) != 1:
        which = f"is one of {', '.join(matching)}" if matching else f"isn't there; {nearest(version, sorted(ids))}"
        raise CommandError(f"release {version} {which}", hint="`fab releases` shows them")
    if matching[0] in here:
        return here[matching[0]]
    lacking = [name for name, fact in facts.items() if matching[0] not in fact.releases and fact.current]
    if lacking:
        raise CommandError(f"release {matching[0]} isn't on {', '.join(lacking)}, and not in {folder} either")
    return matching[0]


def _most(facts: Mapping[str, Facts]) -> str:
    """The release that most instances have."""
    every = [id_ for fact in facts.values() for id_ in fact.current.values()]
    return max(sorted(set(every)), key=every.count, default="")
