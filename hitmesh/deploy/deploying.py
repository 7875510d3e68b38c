"""A deploy, and the way back: from a checkout or a release's name to a plan that is carried out.

Owns what must be true before anything is changed, and the order of the rest: lock, hook, keys, plan, steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hitmesh.deploy import hooks, memory
from hitmesh.deploy.at_work import at_work, recall
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.facts import Facts, Release
from hitmesh.deploy.fleet import role_of
from hitmesh.deploy.keys import Keys
from hitmesh.deploy.plan import Asked, Step, Write, is_unborn, make_plan, problems
from hitmesh.deploy.refusals import emptied, refusals
from hitmesh.deploy.release import Built, build, built
from hitmesh.deploy.render.consul import token_name
from hitmesh.deploy.runner import Runner
from hitmesh.errors import CommandError
from hitmesh.mistakes import nearest
from hitmesh.protocol.formats import FIRST, THIS


def deploy(
    desk: Desk,
    releases: Path,
    checkout: Path,
    *,
    others: Sequence[Desk] = (),
    dry: bool = False,
    force: bool = False,
    only: str = "",
    roles: Sequence[str] = (),
    version: str = "",
    what: str = "deploy",
    bake_s: float | None = None,
    begin: Callable[[], None] | None = None,
) -> None:
    """Bring a release and the datacenter's file to its hosts, the canary first, and take it back if it does badly.

    `begin` is called once, under the lock and before anything is changed; what it raises ends the deploy.
    """
    those = [role_of(word) for word in roles]
    facts = desk.facts(only)
    found = _chosen(version, facts, releases) if version else build(checkout, releases)
    release_id, release = (found.release.id, found.release) if isinstance(found, Built) else (found, None)
    tars = {release_id: found.tar} if isinstance(found, Built) else {}
    if isinstance(found, Built) and found.note:
        desk.tell(found.note)
    _refuse(desk, release, facts, force=force)
    if not force:
        _check_formats(desk, release_id, release, facts)
    is_first = is_unborn(facts) and not only
    unborn = _unborn(desk, others) if is_first else []
    asked = Asked(only=only, roles=those, bake_s=bake_s, unborn=unborn)
    steps = _planned(desk, release_id, facts, asked, force=force)
    mine = Keys(desk, others) if desk.config.keys or token_name(desk.fleet) else None
    lacking = mine.lacking(facts) if mine else []
    if dry:
        _show(desk, steps, lacking)
        return
    if not steps and not lacking and begin is None:
        desk.tell(f"{desk.fleet.dc} runs {release_id} already; nothing to do")
        return
    if mine and mine.come_first(facts):  # the lock is in Consul
        mine.make(facts)
    with at_work(desk, what, release_id, force=force) as lock:
        hooks.run(
            desk.config.deploy.hooks.before,
            desk.path.parent,
            _event(desk, "before", release_id, steps),
            tell=desk.tell,
        )
        if begin:
            begin()
        # Somebody else may have been at work until now: what the hosts say is asked again.
        facts = desk.facts(only)
        _refuse(desk, release, facts, force=force)
        if mine:
            mine.make(facts)
            facts = desk.facts(only)
        if is_first:
            _introduce(desk, others)
        steps = _planned(desk, release_id, facts, asked, force=force)
        Runner(desk.fleet, desk.hosts, tars, desk.tell, lock, lock.ask).run(steps)
    desk.tell(f"{desk.fleet.dc} runs {release_id}")


def rollback(desk: Desk, releases: Path, checkout: Path, *, dry: bool = False, force: bool = False) -> None:
    """Go back to the release that was deployed before."""
    remembered = recall(desk)
    current = most_used_of(desk.facts())
    before = memory.before(remembered.trail, current)
    if not before:
        raise CommandError(
            f"{desk.fleet.dc} has had no release before {current or 'its first'}",
            hint="version=ID deploys one that is there",
        )
    deploy(desk, releases, checkout, dry=dry, force=force, version=before, what="rollback", bake_s=0.0)


def _refuse(desk: Desk, release: Release | None, facts: Mapping[str, Facts], *, force: bool) -> None:
    """Raise CommandError for what is in the way, on hosts or in the file."""
    if reasons := [*problems(desk.fleet, release, facts), *refusals(desk, facts, force=force)]:
        raise CommandError("; ".join(reasons), hint="nothing was changed")


def _planned(desk: Desk, release: str, facts: Mapping[str, Facts], asked: Asked, *, force: bool) -> list[Step]:
    """The steps. Raises CommandError for a plan by which nobody would do a role's work for a while, unless that is forced."""
    steps = make_plan(desk.fleet, release, facts, desk.files(), asked)
    if not force and (roles := emptied(desk.fleet, steps, facts)):
        raise CommandError(
            f"this plan stops every {', every '.join(roles)} before it starts one",
            hint="instances are numbered in the order of the file's nodes: keep it, or force=1 does so all the same",
        )
    return steps


def _check_formats(desk: Desk, id_: str, release: Release | None, facts: Mapping[str, Facts]) -> None:
    """Raise CommandError for a release that can't read what the mesh writes since it was finalised."""
    if is_unborn(facts):
        return
    says = release.formats if release else next((each for fact in facts.values() if (each := fact.reads.get(id_))), {})
    host = desk.any_host()
    done = host.hitmesh("formats", "--json")
    try:
        written = msgspec.json.decode(done.out, type=_Formats).written
    except msgspec.MsgspecError as error:
        if all(says.get(kind, FIRST) >= highest for kind, highest in THIS.reads.items()):
            return  # whoever runs there may be older than formats are, and has finalised none
        why = done.err or str(error)
        raise CommandError(
            f"whether {id_} can read what is written can't be told: {why}", hint="force=1 deploys it all the same"
        ) from error
    # Of whatever kind: this checkout may be older than what runs there, and know less of formats.
    if unread := [f"{kind} {number}" for kind, number in written.items() if number > says.get(kind, FIRST)]:
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
                found.append(other.fleet.dc)
        except CommandError as error:
            desk.tell(f"{other.fleet.dc} can't be asked whether it has counts, and is waited for: {error.message}")
    return found


def _introduce(desk: Desk, others: Sequence[Desk]) -> None:
    """Have the other datacenters wait for this one from now on, whom its absence was told."""
    for other in others:
        try:
            if not is_unborn(other.facts()):
                done = other.any_host().hitmesh("datacenter", "return", desk.fleet.dc)
                desk.tell(f"{other.fleet.dc}: {(done.out.decode(errors='replace') or done.err).strip()}")
        except CommandError as error:
            desk.tell(f"{other.fleet.dc} wasn't told of {desk.fleet.dc}: {error.message}")


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


def most_used_of(facts: Mapping[str, Facts]) -> str:
    """The release that most instances have; empty before the first deploy."""
    every = [id_ for fact in facts.values() for id_ in fact.current.values()]
    return max(sorted(set(every)), key=every.count, default="")


def _event(desk: Desk, event: str, release: str, steps: Sequence[Step]) -> dict[str, Any]:
    return {"event": event, "dc": desk.fleet.dc, "release": release, "steps": [str(step) for step in steps]}


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
