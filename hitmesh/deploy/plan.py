"""What a deploy will do: from a fleet, a release and what the hosts say to a list of steps. Pure.

    copy the release to the hosts that lack it
    stop what the file has no more, place what is new, write what has changed
    change the first instance of each role (the canary), and watch them
    change the others, role by role, host by host
    remove what nobody runs any more

A host where all is as it should be gets no step, so a second deploy of the same has none at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from hitmesh.config import ROLES, Placement, Role
from hitmesh.deploy.facts import Facts, Release, spares_up
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet, Host
from hitmesh.deploy.paths import PROGRAMS, program_path
from hitmesh.deploy.render import supervisor

MAX_CLOCK_S = 5.0  # that a host may be off: a lease of 10 s and an age of 2 s must mean something
RELEASE_BYTES = 80 * 1024 * 1024  # of one on a host: 9 MB of wheels, an environment of 56 MB


class Copy(Struct, frozen=True):
    """Bring the release to a host."""

    host: str
    release: str

    def __str__(self) -> str:
        return f"{self.host}: copy release {self.release}"


class Stop(Struct, frozen=True):
    """Drain and stop an instance that the datacenter's file doesn't have any more."""

    host: str
    instance: str

    def __str__(self) -> str:
        return f"{self.host}: drain and stop {self.instance}"


class Place(Struct, frozen=True):
    """Say which release an instance is to run that isn't there yet."""

    host: str
    instance: str
    release: str

    def __str__(self) -> str:
        return f"{self.host}: {self.instance} is new and gets {self.release}"


class Write(Struct, frozen=True):
    """Write the rendered files that have changed; one without text is removed."""

    host: str
    files: Sequence[File]

    def __str__(self) -> str:
        return f"{self.host}: " + ", ".join(f"{'write' if one.text else 'remove'} {one.path}" for one in self.files)


class Serve(Struct, frozen=True):
    """Start what runs beside the instances, such as keepalived, or start it again as its file has it now."""

    host: str
    name: str
    is_new: bool

    def __str__(self) -> str:
        return f"{self.host}: {'start' if self.is_new else 'restart'} {self.name}"


class Change(Struct, frozen=True):
    """Switch an instance to the release, drain and restart it, and wait until it is ready."""

    host: str
    instance: str
    release: str
    was: str  # empty: it is new, and is only started
    why: str = ""

    def __str__(self) -> str:
        if not self.was:
            return f"{self.host}: {self.instance} starts with {self.release}"
        what = f"{self.was} -> {self.release}" if self.was != self.release else f"again ({self.why})"
        return f"{self.host}: drain and restart {self.instance}, {what}"


class Tell(Struct, frozen=True):
    """Run a hitmesh command on a host."""

    host: str
    words: Sequence[str]
    why: str

    def __str__(self) -> str:
        return f"{self.host}: hitmesh {' '.join(self.words)} ({self.why})"


class Ready(Struct, frozen=True):
    """Wait until the datacenter has all that the file says: after a first deploy, or when it has grown."""

    host: str  # that is asked

    def __str__(self) -> str:
        return "wait until every instance and partition is there"


class Bake(Struct, frozen=True):
    """Watch what was changed."""

    seconds: float
    instances: Sequence[str]

    def __str__(self) -> str:
        return f"watch {', '.join(self.instances)} for {self.seconds:g} s"


class Forget(Struct, frozen=True):
    """Remove an old release from a host."""

    host: str
    release: str

    def __str__(self) -> str:
        return f"{self.host}: remove release {self.release}"


Step = Copy | Stop | Place | Write | Serve | Change | Tell | Ready | Bake | Forget


class Asked(Struct, frozen=True, kw_only=True):
    """What the operator said beside the datacenter."""

    only: str = ""  # a host
    roles: Sequence[Role] = ()  # empty: all
    unborn: Sequence[str] = ()  # other datacenters that were never deployed: they have nothing to wait for
    bake_s: float | None = None  # None: as the file says


def problems(fleet: Fleet, release: Release | None, facts: Mapping[str, Facts]) -> list[str]:
    """Why nothing may be changed now."""
    found = []
    for host in fleet.hosts:
        fact = facts.get(host.name)
        if fact is None:
            continue
        if abs(fact.off_s) > MAX_CLOCK_S:
            ahead = "ahead of" if fact.off_s > 0 else "behind"
            found.append(f"{host.name}: its clock is {abs(fact.off_s):.0f} s {ahead} this machine's: is NTP at work?")
        if fact.programs is None:
            found.append(f"{host.name}: its supervisord doesn't answer: `fab bootstrap:dc={fleet.dc}` starts it")
        if release is None or not host.instances:
            continue
        if _minor(fact.python) != release.python:
            found.append(f"{host.name}: its Python is {fact.python}, and the release is for {release.python}")
        elif fact.platform != release.platform:
            found.append(f"{host.name}: it is {fact.platform}, and the release is for {release.platform}")
        if release.id not in fact.releases and fact.free_bytes < RELEASE_BYTES:
            free_mb, needs_mb = fact.free_bytes // 2**20, RELEASE_BYTES // 2**20
            found.append(f"{host.name}: {free_mb} MB are free for a release, which takes {needs_mb}")
    return found


def make_plan(
    fleet: Fleet, release: str, facts: Mapping[str, Facts], files: Mapping[str, Sequence[File]], asked: Asked
) -> list[Step]:
    """The steps that bring the hosts of `facts` to this release and these files."""
    hosts = [host for host in fleet.hosts if host.name in facts and asked.only in ("", host.name)]
    # One that its scaler has started is changed like the others; one that it hasn't is only given the release.
    every = [(host, one) for host, one in fleet.in_order(spares_up(fleet, facts)) if host in hosts]
    wanted = [(host, one) for host, one in every if not asked.roles or one.role in asked.roles]
    steps: list[Step] = []
    for host in hosts:
        runs = any(each is host for each, _ in wanted)
        if runs and release not in facts[host.name].releases:
            steps.append(Copy(host.name, release))
    # A name may go from one host to another: it is stopped there before it starts here.
    for host in hosts:
        steps += _stopped(host, facts[host.name])
    for host in hosts:
        steps += _arranged(host, release, facts[host.name], files.get(host.name, ()))
        steps += _spared(host, release, facts[host.name], asked.roles)
    seen = {name: {file.path: supervisor.seen(file) for file in each} for name, each in files.items()}
    changes = [
        change
        for host, one in wanted
        if (
            change := _change(
                host, one, release, facts[host.name], seen.get(host.name, {}).get(program_path(fleet.dc, one.name), "")
            )
        )
    ]
    new = [change for change in changes if not change.was]
    canaries = _canaries(fleet, changes)
    steps += new
    for host in hosts:
        steps += _served(host, facts[host.name], files.get(host.name, ()))
    if new:
        why = "it was never deployed: nobody need wait for its counts"
        steps += [Tell(new[-1].host, ("datacenter", "retire", dc), why) for dc in asked.unborn]
        steps.append(Ready(new[-1].host))
    steps += canaries
    others = [change for change in changes if change.was and change not in canaries]
    bake_s = fleet.config.deploy.bake_s if asked.bake_s is None else asked.bake_s
    if canaries and bake_s:
        steps.append(Bake(bake_s, [change.instance for change in canaries]))
    steps += others
    placed = {(step.host, step.instance) for step in steps if isinstance(step, Place)}
    steps += _forgotten(fleet, hosts, release, facts, placed | {(change.host, change.instance) for change in changes})
    return steps


def is_unborn(facts: Mapping[str, Facts]) -> bool:
    """Whether a datacenter was never deployed, by what all its hosts say."""
    return not any(fact.current for fact in facts.values())


def is_there(file: File, facts: Facts) -> bool:
    """Whether a host has a file as it is to be."""
    found = facts.files.get(file.path)
    return found == file.digest if file.text else found is None


def _stopped(host: Host, facts: Facts) -> Iterator[Step]:
    """What a host runs that the file doesn't have there, the highest numbers first."""
    names = {one.name for one in (*host.instances, *host.spares)}
    extra = [one.name for one in facts.programs or () if one.name not in names and one.name.rpartition("-")[0] in ROLES]
    yield from (Stop(host.name, name) for name in sorted(extra, key=_number, reverse=True))


def _arranged(host: Host, release: str, facts: Facts, files: Sequence[File]) -> Iterator[Step]:
    """What is to be on a host, beside releases."""
    yield from (Place(host.name, one.name, release) for one in host.instances if one.name not in facts.current)
    known = {file.path for file in files}
    gone = [
        File(path=path, text="", then="supervisor")
        for path in sorted(facts.files)
        if path.startswith(f"{PROGRAMS}/") and path not in known
    ]
    changed = [file for file in [*files, *gone] if not is_there(file, facts)]
    if changed:
        yield Write(host.name, changed)


def _spared(host: Host, release: str, facts: Facts, roles: Sequence[Role]) -> Iterator[Place]:
    """The release of those that its scaler may start, and hasn't."""
    up = {each.name for each in facts.programs or () if each.pid}
    for one in host.spares:
        if one.name not in up and (not roles or one.role in roles) and facts.current.get(one.name) != release:
            yield Place(host.name, one.name, release)


def _served(host: Host, facts: Facts, files: Sequence[File]) -> Iterator[Serve]:
    """The programs beside the instances that don't run as their files say."""
    instances = {one.name for one in (*host.instances, *host.spares)}
    running = {each.name for each in facts.programs or () if each.state == "RUNNING"}
    for file in files:
        folder, _, name = file.path.rpartition("/")
        name = "-".join(name.removesuffix(".conf").rsplit("-", 2)[-2:])
        if folder == PROGRAMS and file.text and name not in instances:
            if name not in running:
                yield Serve(host.name, name, is_new=True)
            elif not is_there(file, facts):
                yield Serve(host.name, name, is_new=False)


def _change(host: Host, one: Placement, release: str, facts: Facts, seen: str) -> Change | None:
    was = facts.current.get(one.name, "")
    running = next((each for each in facts.programs or () if each.name == one.name), None)
    if not was or running is None:
        return Change(host.name, one.name, release, "")
    if was != release:
        return Change(host.name, one.name, release, was)
    if running.state != "RUNNING":
        return Change(host.name, one.name, release, was, f"it is {running.state.lower()}")
    if seen and facts.configs.get(one.name) != seen:
        return Change(host.name, one.name, release, was, "its configuration has changed")
    return None


def _canaries(fleet: Fleet, changes: Sequence[Change]) -> list[Change]:
    """The first of each role that has others to follow it."""
    roles = {one.name: one.role for host in fleet.hosts for one in (*host.instances, *host.spares)}
    first: dict[str, Change] = {}
    for change in changes:
        if change.was:
            first.setdefault(roles[change.instance], change)
    return list(first.values())


def _forgotten(
    fleet: Fleet, hosts: Sequence[Host], release: str, facts: Mapping[str, Facts], changed: set[tuple[str, str]]
) -> Iterator[Forget]:
    for host in hosts:
        fact = facts[host.name]
        stay = {id_ for name, id_ in fact.current.items() if (host.name, name) not in changed} | {release}
        before = [id_ for id_ in fact.releases if id_ != release]
        # What it ran until now stays, so that it can come back.
        kept = [*[id_ for id_ in before if id_ in fact.current.values()], *before[-fleet.config.deploy.keep :]]
        yield from (Forget(host.name, id_) for id_ in before if id_ not in kept and id_ not in stay)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _number(name: str) -> tuple[str, int]:
    role, _, number = name.rpartition("-")
    return role, int(number) if number.isdecimal() else 0
