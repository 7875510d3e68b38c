"""What each task of `fab` does, but for a deploy (`deploying`). The fabfile names them.

Each takes the desk of a datacenter and what the operator said, tells what it does while it does it, and raises a
HitmeshError with one clear line when it can't.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from hitmesh.cli.config import me
from hitmesh.deploy import backups, deploying, scaling, standstill
from hitmesh.deploy import bootstrap as bootstrapping
from hitmesh.deploy.at_work import as_line, at_work, recall, remember
from hitmesh.deploy.deploying import most_used_of
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.facts import Facts, spares_up
from hitmesh.deploy.fleet import role_of
from hitmesh.deploy.gossip import Gossip, has_key, read
from hitmesh.deploy.keys import Keys
from hitmesh.deploy.plan import is_there, problems
from hitmesh.deploy.refusals import refusals
from hitmesh.deploy.release import build, wanted
from hitmesh.deploy.remote import RemoteHost
from hitmesh.deploy.render import nftables
from hitmesh.deploy.render.consul import AGENT, GOSSIP, gossip_text
from hitmesh.deploy.runner import Stopped
from hitmesh.deploy.ssh import Ssh
from hitmesh.deploy.tokens import Tokens
from hitmesh.errors import CommandError, HitmeshError
from hitmesh.mistakes import nearest
from hitmesh.settings.lock import Lock
from hitmesh.settings.lock import held as lock_held
from hitmesh.settings.trail import Entry
from hitmesh.visible import visible

TRAIL_SHOWN: Final = 10
LOG_LINES: Final = 50


def bootstrap(
    desk: Desk, root: Ssh, folder: Path, checkout: Path, *, only: str = "", others: Sequence[Desk] = ()
) -> None:
    """Make hosts ready for deploys: users, folders, programs, Consul, beanstalkd; twice changes nothing."""
    wanted = [desk.fleet.host(only)] if only else list(desk.fleet.hosts)
    authorized = root.public_keys(wanted[0])
    found = build(checkout, folder)
    desk.tell(f"bootstrapping {', '.join(host.name for host in wanted)} with {found.release.id}")
    secrets = _consuls_secrets(desk, others)

    def one(host: RemoteHost) -> list[str]:
        changed = bootstrapping.bootstrap(desk.fleet, desk.text, host, root, found.tar, authorized, secrets)
        desk.tell(f"{host.name}: {', '.join(changed) or 'nothing to change'}")
        return changed

    answers = desk.each(wanted, one)
    if reasons := [str(answer) for answer in answers.values() if isinstance(answer, CommandError)]:
        raise CommandError("; ".join(reasons), hint="the same command again goes on")


def _consuls_secrets(desk: Desk, others: Sequence[Desk]) -> dict[str, str]:
    """What Consul is to have before it starts for the first time: its gossip key, and the agents' token if there is one."""
    found = {}
    if has_key(desk):
        answers = desk.each(desk.fleet.hosts, lambda host: host.facts())  # of those that were bootstrapped before
        Gossip(desk, others).make({name: answer for name, answer in answers.items() if isinstance(answer, Facts)})
        found[GOSSIP] = gossip_text(read(desk))
    tokens = Tokens.of(desk, Path(desk.config.keys)) if desk.config.keys else None
    if tokens and (agent := tokens.bearers[-1]).path.exists():
        found[AGENT] = agent.text(agent.token(agent.path))
    return found


def check(desk: Desk, others: Sequence[Desk] = (), *, firewall: bool = False) -> None:
    """Say what is wrong with the hosts and the file, and what a deploy would write; change nothing.

    With `firewall` its rules on each host are shown, in force or not.
    """
    if firewall:
        for host in desk.fleet.hosts:
            desk.tell(f"# {host.name}\n{nftables.rules(desk.fleet, host)}")
    facts = desk.facts()
    reasons = [*problems(desk.fleet, wanted(), facts), *refusals(desk, facts)]
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
    if desk.config.keys:
        try:
            mine = Keys(desk, others)
            if unfinished := mine.unfinished():
                desk.tell(f"keys: {unfinished}")
            for what in mine.lacking(facts):
                desk.tell(f"keys: {what}")
        except HitmeshError as error:
            reasons.append(str(error))
    if reasons:
        raise CommandError("; ".join(reasons))


def status(desk: Desk) -> None:
    """Show what runs where, who is at work, and what was done."""
    facts = desk.facts()
    for host, one in desk.fleet.in_order(spares_up(desk.fleet, facts)):
        fact = facts[host.name]
        program = next((each for each in fact.programs or () if each.name == one.name), None)
        state = program.state.lower() if program else "not there"
        desk.tell(f"{host.name:12} {one.name:14} {state:10} {fact.current.get(one.name, '-')}")
    remembered = recall(desk)
    if remembered.lock is not None:
        desk.tell(lock_held(remembered.lock, "", remembered.now) or f"the lock of {remembered.lock.who} is over")
    for entry in remembered.trail[-TRAIL_SHOWN:]:
        desk.tell(as_line(entry))


def releases(desk: Desk) -> None:
    """Show the releases that are on the hosts, and which of them each host runs."""
    for name, fact in desk.facts().items():
        used = set(fact.current.values())
        desk.tell(
            f"{name}: " + (", ".join(f"{id_}{' (runs)' if id_ in used else ''}" for id_ in fact.releases) or "none")
        )


def logs(desk: Desk, instance: str, lines: int = LOG_LINES) -> None:
    """Show the last lines of an instance's log, or of all instances of a role."""
    every = [(host, one) for host in desk.fleet.hosts for one in (*host.instances, *host.spares)]
    wanted = [(host, one) for host, one in every if instance in (one.name, one.role)]
    if not wanted:
        names = [one.name for _, one in every]
        raise CommandError(f"{desk.fleet.dc} has no instance {instance}; {nearest(instance, names)}")
    for host, one in wanted:
        for line in desk.hosts[host.name].logs(one.name, lines):
            desk.tell(f"{one.name}: {line}" if len(wanted) > 1 else line)


def keys(desk: Desk, others: Sequence[Desk], *, rotate: bool = False, revoke: str = "") -> None:
    """Make, bring, change or take away the datacenter's keys."""
    mine = Keys(desk, others)
    if revoke:
        mine.revoke(revoke)
    elif rotate:
        with at_work(desk, "keys", "", force=True) as may_go_on:
            mine.rotate(may_go_on)
    else:
        mine.make()


def backup(desk: Desk) -> None:
    """Take a backup, and keep it where `deploy.backup.to` says."""
    vault = backups.Vault(desk)
    with at_work(desk, "backup", "", force=True):
        backups.backup(desk, vault)


def restore(desk: Desk, others: Sequence[Desk], name: str) -> None:
    """Bring a backup back into a mesh whose totals stores are empty; every datacenter is locked, for each is stopped."""
    name, content = backups.content_of(desk, name)
    backups.check(desk, name, content)
    with contextlib.ExitStack() as stack:
        # In one order, so that of two at the same moment one gets all.
        everywhere = sorted([desk, *others], key=lambda each: each.fleet.dc)
        locks = [stack.enter_context(at_work(each, f"restore {visible(name)}", "", force=True)) for each in everywhere]

        def may_go_on() -> None:
            for lock in locks:
                lock()

        backups.restore(desk, others, content, may_go_on)


def stop(desk: Desk) -> None:
    """Drain and stop whoever takes hits or counts them, until `start`."""
    with at_work(desk, "stop", "", force=True):
        standstill.stop(desk)


def start(desk: Desk) -> None:
    """Start whoever was stopped, and wait until all of the datacenter is there."""
    with at_work(desk, "start", "", force=True) as may_go_on:
        standstill.start(desk, may_go_on)
        standstill.wait(desk)


def finalize(desk: Desk) -> None:
    """Have the formats written that every living instance can read; after that no older release can come back."""
    host = desk.any_host()
    with at_work(desk, "finalize", "", force=True):
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
        desk.tell(f"nobody is at work in {desk.fleet.dc}")
        return
    desk.tell(f"the lock of {broken.who} is broken: {broken.what}")
    remember(desk, Entry(at=0.0, who=me(), what="unlock", result=f"of {broken.who}: {broken.what}"))


def scale(
    desk: Desk, others: Sequence[Desk], releases: Path, checkout: Path, role: str, count: int, *, dry: bool = False
) -> None:
    """Change how many instances of a role the datacenter's file has, and deploy that.

    The file is written under the lock, and is as before when the deploy is refused, or taken back.
    """
    text, lines = scaling.scaled(desk.text, desk.fleet, role_of(role), count)
    wanted = desk.with_text(text)
    release = most_used_of(desk.facts())
    if not release:
        raise CommandError(
            f"{desk.fleet.dc} was never deployed", hint="write the number into its file, then `fab deploy`"
        )
    for line in lines:
        desk.tell(line)
    written = False

    def write() -> None:
        nonlocal written
        desk.replace_text(desk.text, text)
        written = True

    begin = write if lines else None
    try:
        deploying.deploy(wanted, releases, checkout, others=others, dry=dry, version=release, what="scale", begin=begin)
    except BaseException as error:
        if written and not (isinstance(error, Stopped) and not error.undone):
            desk.replace_text(text, desk.text)
            desk.tell(f"{desk.path} is as before")
        raise
