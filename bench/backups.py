"""A backup of two datacenters on hosts, from the first `fab backup` to a mesh that was restored: what is counted then.

Two datacenters of whole hosts (tests/hosts) and a host for backups that serves nothing, set up as docs/operations/backups.md
says. `fab` as an operator calls it, by ssh, with clients that hit pages through both virtual IPs. A line for each thing
that is seen; status 1 when one isn't as the page on backups has it.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.hosts.bed import Bed, why_not
from tests.hosts.fab import Fab
from tests.hosts.fleet import POLES, Fleet
from tests.hosts.guest import Guest, total
from tests.hosts.host import Host
from tests.hosts.vault import FOLDER, USER, Vault
from tests.services import wait_for
from tests.system.visitors import accepted, at_work, doubtful

PAGES: Final = tuple(f"site.example/{number}" for number in range(40))
SETTING: Final = "timing.commit_s"
SETTLED_S: Final = 120.0
LOAD_S: Final = 4.0
DEPLOYS_USER: Final = "hitmesh-deploy"
SUPERVISORCTL: Final = ("/opt/hitmesh/system/bin/supervisorctl", "-c", "/var/lib/hitmesh/supervisord.conf")


class Wrong(Exception):
    """Something isn't as the page on backups has it."""


class Bench:
    """Two datacenters, a vault, an operator, and an account of what clients were told."""

    def __init__(self, bed: Bed, folder: Path, log: Path) -> None:
        self.bed, self.folder, self._log = bed, folder, log.open("a", buffering=1)
        (folder / "config").mkdir()
        self.vault = Vault(bed)
        settings = {"deploy": {"backup": {"to": f"{USER}@{self.vault.host.address}:{FOLDER}"}}}
        self.fleets = [Fleet(bed, dc, folder / "config", settings=settings) for dc in POLES]
        self.hosts: list[Host] = [fleet.hosts["a"] for fleet in self.fleets]
        self.fab = Fab(bed, folder / "config", folder / "var")
        self.expected: Counter[str] = Counter()

    # --- the operator -----------------------------------------------------------------------

    def fab_says(self, task: str, status: int = 0) -> str:
        """Type a command that is to end so; what it says."""
        self.note(f"$ fab {task}")
        began = time.monotonic()
        done, said = self.fab.run(task, lambda line: self.note(f"  {line}"))
        self.note(f"  = {done}, {time.monotonic() - began:.0f} s")
        if done != status:
            raise Wrong(f"fab {task} ended with {done}: {said[-600:]}")
        return said

    def saw(self, text: str) -> None:
        """A line of what is shown."""
        self.note(f"+ {text}")
        print(text, flush=True)

    def note(self, text: str) -> None:
        """A line in the log."""
        self._log.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    # --- clients ----------------------------------------------------------------------------

    def hit(self, fleets: Sequence[Fleet], seconds: float) -> Counter[str]:
        """Hits through these datacenters' virtual IPs; of each page those that were answered."""
        guests = [Guest(self.bed.place("client"), fleet.url, PAGES) for fleet in fleets]
        with at_work(*guests):
            time.sleep(seconds)
        if doubts := doubtful(*guests).total():
            raise Wrong(f"{doubts} requests were lost, though nothing was done to the mesh")
        return accepted(*guests)

    def agree(self, expected: Counter[str]) -> None:
        """Wait until every datacenter says just that of every page."""
        seen: dict[str, Counter[str]] = {}

        def say_so() -> bool:
            for fleet in self.fleets:
                told = {page: total(self.bed.place("client"), fleet.vip, page) for page in PAGES}
                seen[fleet.dc] = Counter({page: count or 0 for page, count in told.items()})
                if any(told[page] != expected[page] for page in PAGES):
                    return False
            return True

        try:
            wait_for(say_so, within_s=SETTLED_S, what="the totals")
        except AssertionError as error:
            sums = {dc: counts.total() for dc, counts in seen.items()}
            raise Wrong(f"the totals are {sums}, and should be {expected.total()}") from error

    def balanced(self) -> None:
        """The books of every datacenter balance."""
        for fleet in self.fleets:
            said = self.fab_says(f"hitmesh:dc={fleet.dc},args=audit --json")
            if '"balanced": true' not in said:
                raise Wrong(f"the books of {fleet.dc} don't balance: {said[:600]}")

    # --- hosts ------------------------------------------------------------------------------

    def on(self, host: Host, command: str, *, user: str = DEPLOYS_USER, fails: bool = False) -> str:
        """What a command says there."""
        done = host.run(["sh", "-c", command], user=user)
        self.note(f"{host.name}$ {command}\n{done.stdout}{done.stderr}= {done.returncode}")
        if bool(done.returncode) != fails:
            raise Wrong(f"{host.name}: {command}: {done.returncode} {done.stderr[-300:]}")
        return done.stdout + done.stderr

    def processors(self, command: str) -> None:
        """Have supervisord stop or start them everywhere."""
        for fleet, host in zip(self.fleets, self.hosts, strict=True):
            done = host.run([*SUPERVISORCTL, command, f"{fleet.dc}-processor-1"])
            self.note(f"{host.name}: supervisorctl {command}: {done.stdout} {done.stderr}")

    def empty(self, fleet: Fleet) -> None:
        """What the page on backups says empties a totals store on hosts."""
        done = self.bed.run_on(
            "operator",
            ["ssh", f"{DEPLOYS_USER}@{fleet.hosts['a'].address}", "consul", "kv", "delete", "-recurse", "hitmesh/"],
        )
        if done.returncode:
            raise Wrong(f"{fleet.dc} can't be emptied: {done.stderr}")


def run(it: Bench) -> None:
    """All of it. Raises Wrong."""
    north, south = it.fleets
    for fleet in it.fleets:
        it.fab_says(f"bootstrap:dc={fleet.dc}")
    for fleet in it.fleets:
        it.fab_says(f"keys:dc={fleet.dc}")
    for fleet in it.fleets:
        it.fab_says(f"deploy:dc={fleet.dc}")
    it.vault.set_up(it.folder)
    it.saw("the vault is set up by what the page on backups says, and nothing else")
    it.agree(Counter())
    began = it.hit(it.fleets, LOAD_S)
    it.agree(began)
    it.fab_says(f"hitmesh:dc={north.dc},args=config set {SETTING} 0.25")
    said = it.fab_says(f"backup:dc={north.dc}")
    name = re.findall(r"hitmesh-\S+\.backup", said)[0]
    it.saw(f"fab backup: {_line(said, ': ', 'bytes')}")
    if f"{began.total()} hits of" not in said:
        raise Wrong(f"{began.total()} hits were answered, and the backup has others")
    said = it.fab_says(f"drill:dc={north.dc}")
    if "all are equal" not in said:
        raise Wrong("the drill found a difference")
    it.saw(f"fab drill: {_line(said, 'compared')}; all are equal")

    _refuses_hosts(it, name)

    it.fab_says(f"hitmesh:dc={north.dc},args=config set {SETTING} 0.5")
    lost = it.hit(it.fleets, LOAD_S)
    it.agree(began + lost)
    said = it.fab_says(f"restore:dc={north.dc},file={name}", 1)
    _must(said, "has totals: ")
    if "drain and stop" in said:
        raise Wrong("somebody was stopped to find out that there are totals")
    it.agree(began + lost)
    it.saw("fab restore while it isn't empty: refused, nobody is stopped, and nothing is lost")

    it.processors("stop")
    waiting = it.hit(it.fleets, LOAD_S)
    for fleet in it.fleets:
        it.fab_says(f"stop:dc={fleet.dc}")
    it.empty(north)
    said = it.fab_says(f"restore:dc={north.dc},file={name}", 1)
    _must(said, "south has totals: ")
    if any(total(it.bed.place("client"), fleet.vip, PAGES[0]) is not None for fleet in it.fleets):
        raise Wrong("who was stopped has been started")
    it.saw("fab restore while another datacenter isn't empty: refused, and nobody who was stopped is started")
    it.empty(south)
    _refuses_files(it, north, name)

    began_s = time.monotonic()
    said = it.fab_says(f"restore:dc={north.dc},file={name}")
    it.agree(began + waiting)
    it.saw(
        f"fab restore: {_line(said, 'has what was counted until')}; then {waiting.total()} hits that waited in spools; "
        f"{lost.total()} were counted after the backup; both datacenters agree page by page, and a setting is as it was, {time.monotonic() - began_s:.0f} s"
    )
    for fleet in it.fleets:
        _must(it.fab_says(f"hitmesh:dc={fleet.dc},args=config get {SETTING}"), "0.25")
    it.balanced()
    after = it.hit(it.fleets, LOAD_S)
    it.agree(began + waiting + after)
    it.balanced()
    it.saw(f"{after.total()} more hits are counted once, and the books balance")


def _refuses_hosts(it: Bench, name: str) -> None:
    """What a host that serves may do at the vault, by its own key."""
    host = it.hosts[0]
    at = f"ssh -o BatchMode=yes {USER}@{it.vault.host.address}"
    it.vault.let_in(
        "write",
        it.on(
            host,
            "mkdir -p -m 700 ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519 && cat ~/.ssh/id_ed25519.pub",
        ).strip(),
    )
    it.on(host, f"ssh-keyscan -t ed25519 {it.vault.host.address} >> ~/.ssh/known_hosts")
    backup = "sudo -n /opt/hitmesh/system/bin/hitmesh-host --dc north hitmesh backup -"
    it.on(host, f'{backup} | {at} put "hitmesh-$(date -u +%Y-%m-%dT%H%M%SZ).backup"')
    kept = it.vault.names()
    if len(kept) != 2 or name not in kept:
        raise Wrong(f"in the vault are {kept}")
    refused = {
        "list": "list", "get": f"get {name}", "forget": f"forget {name}", "put over another": f"put {name}",
        "a shell": "", "a command": "cat /srv/backups/*", "sftp": "/usr/lib/openssh/sftp-server",
        "half a backup": "put hitmesh-$(date -u +%Y-%m-%dT)000000Z.backup",
    }  # fmt: skip
    for what, command in refused.items():
        said = it.on(host, f'head -c 1000 /dev/urandom | {at} "{command}"', fails=True)
        _must(said, "hitmesh-backup-store: ")
        it.note(f"{what}: {said}")
    it.on(
        host,
        f"ssh -o BatchMode=yes -o ExitOnForwardFailure=yes -N -L 9999:127.0.0.1:22 -o ConnectTimeout=5 -W 127.0.0.1:22 {USER}@{it.vault.host.address} </dev/null",
        fails=True,
    )
    if it.vault.names() != kept:
        raise Wrong(f"in the vault are {it.vault.names()} instead of {kept}")
    it.saw(f"a host that serves puts a backup by its own key; refused: {', '.join(refused)}, forwarding")


def _refuses_files(it: Bench, fleet: Fleet, name: str) -> None:
    whole = it.vault.read(name)
    middle = len(whole) // 2
    bad = {
        "cut": whole[:middle],
        "altered": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "none": b"hello\n",
    }
    for what, content in bad.items():
        path = it.folder / f"{what}.backup"
        path.write_bytes(content)
        said = it.fab_says(f"restore:dc={fleet.dc},file={path}", 1)
        _must(said, "not a backup" if what == "none" else "it was cut or altered")
        if "drain and stop" in said:
            raise Wrong("somebody was stopped for a file that can't be restored")
    it.saw(f"fab restore of a file that is {', '.join(bad)}: refused before anybody is asked")


def _line(said: str, *words: str) -> str:
    found = [line for line in said.splitlines() if all(word in line for word in words)]
    if not found:
        raise Wrong(f"no line with {words} in {said}")
    return found[0].strip()


def _must(said: str, words: str) -> None:
    if words not in said:
        raise Wrong(f"{words!r} isn't in {said[-600:]}")


def main() -> int:
    """Run the bench; 1 when it can't, or something is wrong."""
    parser = argparse.ArgumentParser(prog="bench/run backups", description=__doc__)
    parser.add_argument("--log", type=Path, default=Path("/dev/null"), help="where all that is said goes")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 1
    os.environ["PYTHONUNBUFFERED"] = "1"  # what fab says comes when it says it
    with tempfile.TemporaryDirectory(prefix="hitmesh-backups-") as folder, Bed() as bed:
        it = Bench(bed, Path(folder), options.log)
        bed.up()
        try:
            run(it)
        except Wrong as error:
            print(f"NO: {error}", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
