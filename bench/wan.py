"""Several datacenters, one number: what the promises between datacenters take, on the test bed of hosts.

Three datacenters of network namespaces with real Consul (three servers each) and beanstalkd, on their default
settings, and a WAN of 120 ms one way and 1% loss between them (tests/wan). Measured:

  replay    an access log into all three at once, 8 clients each: until all say the same, page by page
  rotate    every key changed, in three steps and one restart after the other, while the log is replayed
  settings  a setting, set in one datacenter: until it is in force in every role of all
  cut       one datacenter cut off for 60 s under load: failed requests; until all agree after healing
  flap      links cut and healed at random for 70 s, one way and both, 5 to 800 ms, up to 30% loss: until all agree
            after it has ended
  lost      one datacenter killed and its stores and spools wiped, started anew: until it counts again
  latency   hits at a constant rate with the WAN as it is, slow, and cut, in turns: the 99th percentile of
            all turns' hits, and between what its ratio is likely to lie (90%)

All of it runs on this machine. For the latency the datacenter that is measured goes first on its cores, as if it
had them to itself; stores and spools are where TMPDIR says, and on a disk that others use too its waits are measured
along: TMPDIR=/dev/shm leaves them out.

Exit status 1 when something misses its target. Root only: it says so.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Final

from bench import pace, rotation
from bench.figures import milliseconds, percentile, ratio_of_percentiles
from hitmesh.protocol.names import bracketed
from tests.access_log import lines
from tests.system.visitors import at_work
from tests.wan.agreement import said, wait_for_agreement
from tests.wan.bed import DELAY_MS, LOSS, Bed, why_not
from tests.wan.clients import Guest, pages_in, replay_into
from tests.wan.datacenter import COLLECTOR, LET_IN, Datacenter, prioritize
from tests.wan.host import Host
from tests.wan.mesh import HOSTS, NETWORKS, Mesh
from tests.wan.settings import time_in_force

PARTS: Final = ("replay", "rotate", "settings", "cut", "flap", "lost", "latency")
PATIENCE_S: Final = 120.0  # beyond every target: what misses one is measured too
# The targets.
AGREED_S: Final = 5.0  # after the last answer
IN_FORCE_S: Final = 1.0
HEALED_S: Final = 10.0
P99: Final = 0.99
NEAR: Final = 0.1  # p99 slow and cut, against the WAN as it is
# Of the latency's turns.
SLOW_MS: Final = 400.0
SLOW_LOSS: Final = 0.05
CONNECTIONS: Final = 16
FIRST: Final = -15  # a nice value
BACKGROUND_PER_S: Final = 20.0  # hits into each other datacenter
HIT_END: Final = b"}}}"  # of a total's JSON
PAGES: Final = 20


class Table:
    """What was measured, a line each."""

    def __init__(self) -> None:
        self.missed = 0

    def line(self, what: str, measured: str, target: str = "", *, met: bool = True) -> None:
        """Say it at once: a later part may fail."""
        self.missed += not met
        verdict = "" if met else "   MISSED"
        print(f"  {what:<58} {measured:>24}   {target}{verdict}", flush=True)

    def seconds(self, what: str, measured_s: float, target_s: float) -> None:
        """A time that has a target."""
        self.line(what, f"{measured_s:.2f} s", f"target {target_s:g} s", met=measured_s <= target_s)


def main() -> int:
    """Measure; 1 when this machine can't, or a target is missed."""
    parser = argparse.ArgumentParser(
        prog="bench/run wan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="which of them (%(default)s)")
    parser.add_argument("--log", type=Path, help="a log in combined format instead of one made here")
    parser.add_argument("--limit", type=int, help="so many hits of the log into each datacenter; default: all")
    parser.add_argument("--delay-ms", type=float, default=DELAY_MS, help="of a packet, one way (%(default)s)")
    parser.add_argument("--loss", type=float, default=LOSS, help="share of packets, each way (%(default)s)")
    parser.add_argument("--cut-s", type=float, default=60.0, help="that the cut lasts (%(default)s)")
    parser.add_argument("--flap-s", type=float, default=70.0, help="that links flap (%(default)s)")
    parser.add_argument("--flaps", type=int, default=1, help="how often they do (%(default)s)")
    parser.add_argument("--seed", type=int, default=2015, help="of what the links do (%(default)s)")
    parser.add_argument("--changes", type=int, default=9, help="of a setting (%(default)s)")
    parser.add_argument("--per-s", type=float, default=100.0, help="hits a second of the latency's turns (%(default)s)")
    parser.add_argument("--turns", type=int, default=12, help="of the latency, each with the WAN in its three states")
    parser.add_argument("--turn-s", type=float, default=6.0, help="(%(default)s)")
    parser.add_argument("--mixed", action="store_true", help="networks of IPv6 and a router that translates, for IPv4")
    parser.add_argument("--keep", action="store_true", help="leave the state folder, with its logs, for reading")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    missing = [program for program in ("consul", "beanstalkd") if shutil.which(program) is None]
    if reason := why_not() or (
        f"not installed: {', '.join(missing)}; scripts/install-services does it" * bool(missing)
    ):
        print(f"bench/run wan: {reason}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    folder = Path(tempfile.mkdtemp(prefix="hitmesh-wan-"))
    measures: dict[str, Callable[[Mesh, Table, argparse.Namespace], None]] = {
        "replay": _replay, "rotate": _rotate, "settings": _settings, "cut": _cut, "flap": _flap, "lost": _lost, "latency": _latency,
    }  # fmt: skip
    table = Table()
    try:
        begun = time.monotonic()
        networks = NETWORKS if options.mixed else {}
        with (
            Bed(HOSTS, delay_ms=options.delay_ms, loss=options.loss, networks=networks, let_in=LET_IN) as bed,
            Mesh(bed, folder) as mesh,
        ):
            print(f"three datacenters, {options.delay_ms:g} ms one way and {options.loss:.1%} loss between them")
            table.line("ready after", f"{time.monotonic() - begun:.1f} s")
            for part in parts:
                measures[part](mesh, table, options)
    finally:
        if options.keep:
            print(f"logs and stores are in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if table.missed else 0


def _replay(mesh: Mesh, table: Table, options: argparse.Namespace) -> None:
    site, log = "replayed.example", _log(mesh, options)
    replayed = replay_into(mesh, log, site, limit=options.limit)
    failed = sum(each.failed for each in replayed.values())
    accepted = sum(each.accepted for each in replayed.values())
    slowest_s = max(each.seconds for each in replayed.values())
    table.line(f"replay: {accepted:,} hits of all, 8 clients each", f"{accepted / slowest_s:,.0f}/s")
    table.line("replay: failed requests", str(failed), "target 0", met=not failed)
    expected = {page: 3 * count for page, count in pages_in(log, site, limit=options.limit).items()}
    agreed_s = wait_for_agreement(mesh, site, expected, within_s=PATIENCE_S)
    table.seconds("replay: all say 3 x the log, after the last answer", agreed_s, AGREED_S)


def _log(mesh: Mesh, options: argparse.Namespace) -> Path:
    if options.log is not None:
        return Path(options.log)
    log = mesh.folder / "access.log"
    log.write_bytes(b"".join(lines()))
    return log


def _rotate(mesh: Mesh, table: Table, options: argparse.Namespace) -> None:
    site, log = "rotated.example", _log(mesh, options)
    found, rounds = rotation.rotate(mesh, log, site)
    failed, accepted = (sum(getattr(each, name) for each in found.replays) for name in ("failed", "accepted"))
    table.line(f"rotate: all keys changed, with {found.restarts} restarts", f"{found.seconds:.0f} s")
    table.line("rotate: former keys on the list or in use", str(len(found.left)), "target 0", met=not found.left)
    told = f"{failed} of {accepted:,}"
    table.line("rotate: failed requests meanwhile", told, "target 0", met=bool(accepted) and not failed)
    missed = ", ".join(f"{who}: {count}" for who, count in found.gaps.most_common(3)) or "0"
    table.line(f"rotate: others missed in {found.looks} looks", missed, "target 0", met=not found.gaps)
    expected = {page: 3 * rounds * count for page, count in pages_in(log, site, limit=rotation.HITS).items()}
    agreed_s = wait_for_agreement(mesh, site, expected, within_s=PATIENCE_S)
    table.seconds("rotate: all say exactly that, after the last answer", agreed_s, AGREED_S)
    unbalanced = [dc.name for dc in mesh if not rotation.is_balanced(dc)]
    table.line("rotate: audits that don't balance", ", ".join(unbalanced) or "0", "target 0", met=not unbalanced)


def _settings(mesh: Mesh, table: Table, options: argparse.Namespace) -> None:
    times_s = []
    for number in range(options.changes):
        dc = mesh.bed.datacenters[number % len(mesh.bed.datacenters)]
        value = f"{1 + number / 100:.2f}"
        times_s.append(time_in_force(mesh, dc, "timing.resend_s", value, within_s=PATIENCE_S))
        time.sleep(0.5)
    print(f"    one after the other: {', '.join(f'{each:.2f}' for each in times_s)} s", file=sys.stderr)
    table.seconds("settings: in force in every role of all, median", statistics.median(times_s), IN_FORCE_S)
    table.seconds("settings: in force in every role of all, slowest", max(times_s), IN_FORCE_S)


def _cut(mesh: Mesh, table: Table, options: argparse.Namespace) -> None:
    site, away = "cut.example", mesh.bed.datacenters[0]
    guests = _guests(mesh, site)
    with at_work(*guests):
        time.sleep(5)
        mesh.bed.cut(away)
        gone, before = time.monotonic(), _accepted(guests)
        time.sleep(options.cut_s)
        during = _accepted(guests) - before
        mesh.bed.heal(away)
        back = time.monotonic()
        time.sleep(1)
    failed = sum(guest.troubles for guest in guests)
    hits = {dc.name: sum(during[page] for page in during if page.startswith(f"{site}/{dc.name}/")) for dc in mesh}
    told = ", ".join(f"{name} {count:,}" for name, count in hits.items())
    table.line(f"cut: {away} off for {options.cut_s:g} s; failed requests", str(failed), "target 0", met=not failed)
    table.line("cut: hits meanwhile", told, "all count", met=all(hits.values()))
    wait_for_agreement(mesh, site, _accepted(guests), within_s=PATIENCE_S)
    table.seconds("cut: exactly the same everywhere, after healing", time.monotonic() - back, HEALED_S)
    ages = [max(guest.ages_of(dc, gone, back), default=0.0) for guest in guests for dc in _cut_from(mesh, guest, away)]
    told = f"{min(ages):.1f} to {max(ages):.1f} s"
    table.line("cut: ages at its end, of parts beyond the cut", told, "grow", met=min(ages) > options.cut_s - 5)


def _flap(mesh: Mesh, table: Table, options: argparse.Namespace) -> None:
    for turn in range(options.flaps):
        draw = random.Random(options.seed + turn)
        site = f"flap-{turn}.example"
        guests = _guests(mesh, site)
        with at_work(*guests):
            end = time.monotonic() + options.flap_s
            while time.monotonic() < end:
                link = draw.choice(mesh.bed.links)
                one, other = link if draw.random() < 0.5 else link[::-1]
                change = mesh.bed.heal if draw.random() < 0.4 else mesh.bed.cut
                change(one, other, one_way=draw.random() < 0.5)
                mesh.bed.slow(one, other, delay_ms=draw.uniform(5, 800), loss=draw.uniform(0, 0.3))
                time.sleep(draw.uniform(0.1, 3))
            mesh.bed.heal()
            mesh.bed.slow(delay_ms=options.delay_ms, loss=options.loss)
            back = time.monotonic()
            time.sleep(1)
        failed = sum(guest.troubles for guest in guests)
        table.line(f"flap: links for {options.flap_s:g} s; failed requests", str(failed), "target 0", met=not failed)
        wait_for_agreement(mesh, site, _accepted(guests), within_s=PATIENCE_S)
        told = "flap: exactly the same everywhere, after the last healing"
        table.seconds(told, time.monotonic() - back, HEALED_S)


def _cut_from(mesh: Mesh, guest: Guest, away: str) -> list[str]:
    return mesh.others(away) if guest.dc.name == away else [away]


def _lost(mesh: Mesh, table: Table, _: argparse.Namespace) -> None:
    site, lost = "lost.example", mesh[mesh.bed.datacenters[-1]]
    first = _guests(mesh, site)
    with at_work(*first):
        time.sleep(5)
    wait_for_agreement(mesh, site, _accepted(first), within_s=PATIENCE_S)
    known = {(page, dc): part["count"] for page, each in lost.totals(site).items() for dc, part in each["dcs"].items()}
    pages = [page for guest in first for page in guest.pages]
    others = [Guest(mesh[name], pages, counts=known) for name in mesh.others(lost.name)]
    early = Guest(lost, pages, counts=known)
    with at_work(*others):  # raises when a sum or a part ever drops
        time.sleep(2)
        lost.kill()
        lost.wipe()
        time.sleep(2)
        lost.start()
        begun = time.monotonic()
        with at_work(early):
            mesh.wait_until_ready()
            ready_s = time.monotonic() - begun
            time.sleep(1)
    failed = sum(guest.troubles for guest in others)
    table.line("lost: failed requests elsewhere", str(failed), "target 0", met=not failed)
    table.line("lost: drops of a sum or a part", "0", "target 0")
    table.line("lost: its own rows are back, and it counts, after its start", f"{ready_s:.1f} s")
    wait_for_agreement(mesh, site, _accepted([*first, *others, early]), within_s=PATIENCE_S)
    one, *rest = said(mesh, "").values()
    table.line("lost: every page the same everywhere", f"{len(one):,} pages", "", met=all(each == one for each in rest))


def _latency(mesh: Mesh, table: Table, options: argparse.Namespace) -> None:
    here = mesh[mesh.bed.datacenters[0]]
    states: dict[str, Callable[[], None]] = {
        "as it is": lambda: None,
        "slow": lambda: mesh.bed.slow(delay_ms=SLOW_MS, loss=SLOW_LOSS),
        "cut": lambda: mesh.bed.cut(here.name),
    }
    # All datacenters share this machine's cores, which real ones don't: the measured one goes first.
    here.prioritize(FIRST)
    turns: dict[str, list[list[float]]] = {state: [] for state in states}
    for turn in range(options.turns + 1):  # the first warms up
        for state in list(states) if turn % 2 else reversed(list(states)):
            states[state]()
            time.sleep(1)
            paced = _paced(mesh, here, options.per_s, options.turn_s)
            mesh.bed.heal()
            mesh.bed.slow(delay_ms=options.delay_ms, loss=options.loss)
            time.sleep(3)  # what was held up comes now
            if turn:
                turns[state].append(paced.times_s)
    for state, times_s in turns.items():
        shown = " ".join(f"{1000 * percentile(each, P99):.0f}" for each in times_s)
        print(f"    p99 of each turn, WAN {state}: {shown} ms", file=sys.stderr)
        hits = sorted(chain.from_iterable(times_s))
        what = f"latency: p50 and p99 of {len(hits):,} hits, WAN {state}"
        both = f"{milliseconds(percentile(hits, 0.5))}, {milliseconds(percentile(hits, P99))}"
        if state == "as it is":
            table.line(what, both)
            continue
        ratio, lowest, highest = ratio_of_percentiles(times_s, turns["as it is"], P99)
        told = f"p99 x {ratio:.2f} ({lowest:.2f} to {highest:.2f}); target {1 + NEAR:.2f}"
        table.line(what, both, told, met=ratio <= 1 + NEAR)


def _paced(mesh: Mesh, here: Datacenter, per_s: float, seconds: float) -> pace.Paced:
    """Hits at one datacenter at a constant rate, while a few come to the others."""
    others = [mesh[name] for name in mesh.others(here.name)]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1 + len(others), mp_context=context, initializer=os.setsid) as pool:
        paced = pool.submit(_send, here.client, here.hosts[0].address, per_s, seconds, FIRST)
        load = [pool.submit(_send, dc.client, dc.hosts[0].address, BACKGROUND_PER_S, seconds, 0) for dc in others]
        for each in load:
            each.result()
        return paced.result()


def _send(client: Host, address: str, per_s: float, seconds: float, nice: int) -> pace.Paced:
    prioritize(os.getpid(), nice)
    head = f"HTTP/1.1\r\nHost: {bracketed(address)}\r\nContent-Length: 0\r\n\r\n"
    requests = [f"POST /hit/latency.example/{number} {head}".encode() for number in range(PAGES)]
    with client.inside():
        return pace.run(COLLECTOR, per_s, seconds, CONNECTIONS, host=address, requests=requests, end=HIT_END)


def _guests(mesh: Mesh, site: str) -> list[Guest]:
    return [Guest(dc, [f"{site}/{dc.name}/{n}" for n in range(PAGES)], collector=at) for dc in mesh for at in (1, 2)]


def _accepted(guests: Sequence[Guest]) -> Counter[str]:
    return sum((guest.accepted for guest in guests), Counter[str]())


if __name__ == "__main__":
    sys.exit(main())
