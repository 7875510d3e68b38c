"""What a host says of itself, before anything is decided about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from hitmesh.deploy.fleet import Fleet


class Running(Struct, frozen=True, kw_only=True):
    """A program under the host's supervisord."""

    name: str  # without its datacenter
    state: str  # supervisord's word, such as RUNNING
    pid: int  # 0: none
    uptime_s: float = 0.0
    why: str = ""  # it doesn't run


class Facts(Struct, frozen=True, kw_only=True):
    """The answer to `hitmesh-host facts`."""

    python: str  # of releases there, such as 3.11.2
    platform: str  # of wheels there, such as linux_x86_64
    system: str  # the version of the host program
    clock: float  # seconds since 1970
    off_s: float = 0.0  # of its clock, at least, as whoever asked found out; above 0: it is ahead
    free_bytes: int  # where releases are
    releases: Sequence[str] = ()  # ids of whole ones, the oldest first
    reads: Mapping[str, Mapping[str, int]] = {}  # id of such a one: formats that it can read, the highest of each kind
    current: Mapping[str, str] = {}  # instance: id
    configs: Mapping[str, str] = {}  # instance: what it saw of the datacenter's file when it was last started
    files: Mapping[str, str] = {}  # path: SHA-256 of the text, of rendered files that are there
    loose: Sequence[str] = ()  # paths of secrets that aren't their user's alone
    programs: Sequence[Running] | None = ()  # None: supervisord doesn't answer
    others: Mapping[str, Sequence[str]] = {}  # another datacenter: its programs on this host, whether they run or not


def spares_up(fleet: Fleet, facts: Mapping[str, Facts]) -> list[str]:
    """The instances that a scaler has started, or is just starting or stopping, by name."""
    return [
        one.name
        for host in fleet.hosts
        if host.name in facts
        for one in host.spares
        if any(each.name == one.name and each.pid for each in facts[host.name].programs or ())
    ]


class Release(Struct, frozen=True, kw_only=True):
    """`release.json`: what a release is."""

    id: str  # VERSION-DIGEST
    version: str
    python: str  # that its wheels are for, such as 3.11
    platform: str  # such as linux_x86_64
    wheels: Mapping[str, str]  # file name: SHA-256
    lock: Sequence[str] = ()  # NAME==VERSION of each
    formats: Mapping[str, int] = {}  # that it can read, the highest of each kind


def off_s(clock: float, asked: float, answered: float) -> float:
    """How much a clock is off at least that said `clock` between two moments of ours; above 0: it is ahead."""
    return max(0.0, clock - answered) + min(0.0, clock - asked)
