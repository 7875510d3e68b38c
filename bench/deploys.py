"""Deploys that go wrong, and what else an operator does to a datacenter under load: what it costs those who hit pages.

The datacenter `pair` of whole hosts (tests/hosts), with `fab` as an operator calls it, and clients that hit pages
through the virtual IP and try nothing twice. One trial after the other on the same bed; a row each: where it stopped,
whether it was taken back, requests that failed, whether every hit that was answered is counted once, whether the
books balance, and whether the same command afterwards finishes. A failed request may be counted or not.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hitmesh import __version__
from hitmesh.config import ROLES
from hitmesh.errors import HitmeshError
from tests.hosts.bed import Bed, why_not
from tests.hosts.fab import Fab, copy_checkout
from tests.hosts.fleet import Fleet
from tests.hosts.guest import Guest, total
from tests.hosts.host import Host
from tests.services import wait_for
from tests.system.visitors import accepted, at_work, doubtful
from tests.wan.netns import BedError

PAGES: Final = tuple(f"site.example/{number}" for number in range(10))
GUESTS: Final = 3
ANSWER_S: Final = 10.0
SETTLED_S: Final = 60.0
DEPLOY: Final = {"bake_s": 8.0, "ready_s": 60.0}
SUPERVISORCTL: Final = ("/opt/hitmesh/system/bin/supervisorctl", "-c", "/var/lib/hitmesh/supervisord.conf")
FILL: Final = "/var/fill"
# What a version with a fault has at the end of a module.
NEVER_READY: Final = """

def _unready(self: Health, req: Request, resp: Response) -> None:
    raise falcon.HTTPServiceUnavailable(description="this release is never ready")

Health.on_get = _unready
"""
FAILS: Final = """

_hits = __import__("itertools").count(1)
_rightly = Hit.on_post

def _wrongly(self: Hit, req: Request, resp: Response, page: str = "") -> None:
    if next(_hits) % 100 == 0:
        raise falcon.HTTPInternalServerError(description="this release fails now and then")
    _rightly(self, req, resp, page)

Hit.on_post = Hit.on_get = _wrongly
"""
# What makes a version's jobs ones of another format, once that is finalised: a byte in front, at which others stop.
FORMATS: Final = (
    ("hitmesh/protocol/formats.py", '"job": Range(1, 1)', '"job": Range(1, 2)'),
    (
        "hitmesh/collector/collector.py",
        "body = encode(job)",
        'body = (b"\\2" if self.live.written.formats.get("job") == 2 else b"") + encode(job)',
    ),
    ("hitmesh/collector/claims.py", "decode(claimed.body, Job)", 'decode(claimed.body.removeprefix(b"\\2"), Job)'),
    ("hitmesh/cli/auditing.py", "decode(body, Job)", 'decode(body.removeprefix(b"\\2"), Job)'),
)
PYTHON: Final = "/usr/bin/python3.11"  # of the bed's hosts, as of the machine: Debian's
SITE: Final = "/etc/python3.11/sitecustomize.py"
OLDER: Final = """
import collections, sys
sys.version = "3.10.12 " + sys.version.partition(" ")[2]
sys.version_info = collections.namedtuple("version", "major minor micro releaselevel serial")(3, 10, 12, "final", 0)
"""


class Operator(Fab):
    """Remembers the processes that it started."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pids: list[int] = []

    def start(self, task: str, **environment: str) -> subprocess.Popen[str]:
        """As it does."""
        process = super().start(task, **environment)
        self.pids.append(process.pid)
        return process


class Client(Guest):
    """Remembers what it was told instead of a total."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.told: Counter[str] = Counter()

    def request(self, method: str, path: str) -> tuple[int, Any] | None:
        """As it was answered."""
        answer = super().request(method, path)
        if answer is None:
            self.told["no answer"] += 1
        elif answer[0] != http.client.OK:
            self.told[f"{answer[0]} {answer[1].get('description', '')[:80]}"] += 1
        return answer


class Bench:
    """The datacenter, its operator, and an account of what clients were told."""

    def __init__(self, bed: Bed, folder: Path, log: Path, settings: Mapping[str, Any]) -> None:
        (folder / "config").mkdir()
        self.bed, self.folder, self.log = bed, folder, log.open("a", buffering=1)
        self.fleet = Fleet(bed, "pair", folder / "config", settings=settings)
        self._folders = (folder / "config", folder / "var")
        self.fab = Operator(bed, *self._folders)
        self.expected: Counter[str] = Counter()
        self.ran: list[str] = []  # releases, as they were deployed
        self._number = 0

    # --- the operator -----------------------------------------------------------------------

    def run(
        self, task: str, fab: Operator | None = None, tell: Callable[[str], None] = lambda _: None
    ) -> tuple[int, str]:
        """Type a command; its status and what it said."""
        self.note(f"$ fab {task}")

        def both(line: str) -> None:
            self.note(f"  {line}")
            tell(line)

        status, said = (fab or self.fab).run(task, both)
        self.note(f"  = {status}")
        self.ran += re.findall(r"^pair runs (\S+)$", said, re.MULTILINE)
        return status, said

    def version(self, fault: str = "") -> tuple[Operator, Path]:
        """`fab` in a checkout of another version, whose collectors may have a fault; its module with that."""
        self._number += 1
        folder = self.folder / f"version{self._number}"
        checkout = copy_checkout(folder, f"{__version__}.post{self._number}")
        fab = Operator(self.bed, *self._folders, checkout=checkout)
        path = folder / "hitmesh/collector/app.py"
        path.write_text(path.read_text() + fault)
        return fab, path

    def other(self) -> str:
        """The command that deploys a release that did well, and doesn't run now."""
        current = self.ran[-1]
        return f"deploy:dc=pair,version={[each for each in self.ran if each != current][-1]}"

    def running(self) -> dict[str, list[str]]:
        """The pid of each program and the release of each instance, host by host."""
        script = f"{' '.join(SUPERVISORCTL)} status; cd /opt/hitmesh/current && readlink *"
        said = {name: host.run(["sh", "-c", script]).stdout for name, host in self.fleet.hosts.items()}
        return {name: re.findall(r"pid \d+|releases/\S+", text) for name, text in said.items()}

    def note(self, text: str) -> None:
        """A line in the log."""
        self.log.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    # --- a trial ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def loaded(self, row: dict[str, str]) -> Iterator[None]:
        """Clients at work; what they were told goes into a trial's row."""
        place = self.bed.place("client")
        clients = [Client(place, self.fleet.url, PAGES) for _ in range(GUESTS)]
        moves = self.fleet.moves()
        try:
            with at_work(*clients):
                time.sleep(1.0)
                yield
                time.sleep(1.0)
        finally:
            self._settle(clients, row)
            row["moves"] = f"{self.fleet.moves() - moves} of the virtual IP"

    def _settle(self, clients: Sequence[Client], row: dict[str, str]) -> None:
        told = sum((client.told for client in clients), Counter[str]())
        failed = sum(client.failed.total() + client.refused.total() for client in clients)
        for text, count in told.items():
            self.note(f"  client: {count} x {text}")
        self.expected += accepted(*clients)
        doubts = doubtful(*clients)
        totals: dict[str, int | None] = {}

        def is_exact() -> bool:
            for page in PAGES:
                total = totals[page] = self.total(page)
                if total is None or not self.expected[page] <= total <= self.expected[page] + doubts[page]:
                    return False
            return True

        row["hits"] = f"{accepted(*clients).total():,}"
        row["failed"] = str(failed)
        row["slowest"] = f"{max(client.slowest_s for client in clients):.2f} s"
        try:
            wait_for(is_exact, within_s=SETTLED_S, what="the totals")
            row["exact"] = "yes" if not doubts else f"yes, {doubts.total()} in doubt"
        except AssertionError:
            self.note(f"  totals {totals}, expected {self.expected}, in doubt {doubts}")
            got = sum(total or 0 for total in totals.values())
            row["exact"] = f"NO: {got} for {self.expected.total()} and {doubts.total()} in doubt"
        if doubts or not row["exact"].startswith("yes"):
            time.sleep(2.0)  # what is counted late
            self.expected = Counter({page: self.total(page) or 0 for page in PAGES})
        _, said = self.run("hitmesh:dc=pair,args=audit --json")
        row["balanced"] = "yes" if '"balanced": true' in said else "NO"

    def total(self, page: str) -> int | None:
        """What the virtual IP says; None when it doesn't."""
        return total(self.bed.place("client"), self.fleet.vip, page)

    def trial(
        self,
        what: str,
        task: str,
        fab: Operator | None = None,
        *,
        tell: Callable[[str], None] = lambda _: None,
        mend: Callable[[], None] = lambda: None,
        again: str | None = "",
        act: Callable[[], str] | None = None,
    ) -> None:
        """One row: the task under load, then `mend`, and `again` (the same, if empty; nothing, if None)."""
        self.note(f"=== {what}")
        row: dict[str, str] = {"what": what}
        began = time.monotonic()
        try:
            with self.loaded(row):
                try:
                    status, said = (0, act()) if act else self.run(task, fab, tell)
                finally:
                    mend()
            row["status"] = str(status)
            row["stopped"], row["back"] = _ended(said)
            if again is not None:
                after: dict[str, str] = {}
                with self.loaded(after):
                    status, said = self.run(again or task, fab)
                lost = "" if after["failed"] == "0" else f", {after['failed']} failed"
                exact = "" if after["exact"] == "yes" else f", exact: {after['exact']}"
                row["again"] = ("finishes" if status == 0 else f"NO: {_last(said)}") + lost + exact
        except (HitmeshError, BedError, AssertionError, OSError, KeyError) as error:
            self.note(traceback.format_exc())
            row["again"] = f"{row.get('again', '')} BROKEN: {error!r}"[:200]
        row["took"] = f"{time.monotonic() - began:.0f} s"
        print(
            "\n".join(f"{'' if name == 'what' else '    ' + name + ': '}{text}" for name, text in row.items()),
            flush=True,
        )

    def when(self, pattern: str, act: Callable[[], None], *, later_s: float = 0.0) -> Callable[[str], None]:
        """For a line that matches, the first time: act then, a moment later."""
        done = threading.Event()

        def act_later() -> None:
            time.sleep(later_s)
            self.note(f"  * {pattern} + {later_s} s")
            act()

        def tell(line: str) -> None:
            if not done.is_set() and re.search(pattern, line):
                done.set()
                threading.Thread(target=act_later, daemon=True).start()

        return tell


def _ended(said: str) -> tuple[str, str]:
    lines = said.splitlines()
    stopped = next((line for line in lines if line.startswith(("stopped:", "fab:"))), "no")
    steps = [line for line in lines if re.match(r"\[\d+/\d+\]", line)]
    at = f" at {steps[-1]}" if steps and stopped != "no" else ""
    back = [line.removeprefix("rolling back: ").split(" to ")[0] for line in lines if line.startswith("rolling back: ")]
    left = re.search(r"not taken back: .*", said)
    return stopped[:200] + at, (", ".join(back) or "nothing") + (f"; {left[0][:200]}" if left else "")


def _last(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1][:300] if lines else "without a word"


# --- the trials ------------------------------------------------------------------------------


def _unready(it: Bench) -> None:
    """A version whose collectors are never ready; mended afterwards."""
    fab, path = it.version(NEVER_READY)
    it.trial("never ready", "deploy:dc=pair", fab, mend=lambda: _without(path, NEVER_READY))


def _failing(it: Bench) -> None:
    """A version whose collectors fail one hit in a hundred."""
    fab, path = it.version(FAILS)
    it.trial("fails 1%", "deploy:dc=pair", fab, mend=lambda: _without(path, FAILS))


def _without(path: Path, fault: str) -> None:
    path.write_text(path.read_text().removesuffix(fault))


def _vanishing(it: Bench) -> None:
    """A host is cut off in the middle of a step."""
    host = it.fleet.hosts["b"]
    fab, _ = it.version()
    tell = it.when("b: copy release", host.cut, later_s=1.0)
    it.trial("b is cut off in the copy", "deploy:dc=pair", fab, tell=tell, mend=lambda: _healed(it, host))
    for words, later_s in (("switch", 0.05), ("restart", 1.0)):
        tell = it.when("b: drain and restart collector-2", host.cut, later_s=later_s)
        it.trial(f"b is cut off in the {words}", it.other(), tell=tell, mend=lambda: _healed(it, host))


def _dark(it: Bench) -> None:
    """A host loses its power in the middle of a restart."""
    host = it.fleet.hosts["b"]
    tell = it.when("b: drain and restart collector-2", host.power_cut, later_s=1.0)
    it.trial("b loses power in the restart", it.other(), tell=tell, mend=lambda: _lit(it, host))


def _healed(it: Bench, host: Host) -> None:
    host.heal()
    _wait_ready(it)


def _lit(it: Bench, host: Host) -> None:
    host.up()
    _wait_ready(it)


def _wait_ready(it: Bench) -> None:
    wait_for(lambda: it.run("hitmesh:dc=pair,args=ready")[0] == 0, within_s=180.0, what="the datacenter to be ready")


def _interrupted(it: Bench) -> None:
    """Ctrl-C at steps."""
    for pattern, later_s in (("b: copy release", 1.0), ("a: drain and restart collector-1", 0.5), ("watch ", 0.5)):
        _signalled(it, signal.SIGINT, pattern, later_s)


def _killed(it: Bench) -> None:
    """`fab` is killed at steps."""
    for pattern, later_s in (
        ("a: copy release", 1.0),
        ("a: drain and restart processor-1", 0.05),
        ("b: drain and restart balancer-2", 1.0),
    ):
        _signalled(it, signal.SIGKILL, pattern, later_s)


def _signalled(it: Bench, number: signal.Signals, pattern: str, later_s: float) -> None:
    fab, task = (it.version()[0], "deploy:dc=pair") if "copy" in pattern else (it.fab, it.other())
    tell = it.when(pattern, lambda: os.kill(fab.pids[-1], number), later_s=later_s)

    def unlock() -> None:
        if number == signal.SIGKILL:
            it.run("unlock:dc=pair")

    it.trial(f"{number.name} at {pattern!r} and {later_s:g} s", task, fab, tell=tell, mend=unlock)


def _full(it: Bench) -> None:
    """The disk of a host is full: before, and in the middle of the copy."""
    host = it.fleet.hosts["b"]

    def fill(free_mb: int) -> None:
        free = int(host.run(["df", "--output=avail", "-m", "/var"]).stdout.split()[-1])
        host.run(["fallocate", "-l", f"{max(1, free - free_mb)}M", FILL])
        it.note(host.run(["df", "-m", "/var"]).stdout)

    def empty() -> None:
        host.run(["rm", "-f", FILL])

    fab, _ = it.version()
    fill(40)
    it.trial("40 MB are free on b", "deploy:dc=pair", fab, mend=empty, again=None)
    tell = it.when("b: copy release", lambda: fill(0), later_s=0.0)
    it.trial("b's disk is full in the copy", "deploy:dc=pair", fab, tell=tell, mend=empty)


def _invalid(it: Bench) -> None:
    """A setting that there isn't."""
    text = it.fleet.file.read_text()
    it.fleet.file.write_text(text.replace("[deploy]", "[deploy]\nbakes = 3", 1))
    it.trial("an unknown setting", "deploy:dc=pair", mend=lambda: _put(it.fleet.file, text), again=None)


def _put(path: Path, text: str) -> None:
    path.write_text(text)


def _rotated(it: Bench) -> None:
    """Every key is changed."""
    it.trial("keys are rotated", "keys:dc=pair,rotate=1", again=None)


def _rolled_back(it: Bench) -> None:
    """The release before."""
    fab, _ = it.version()
    it.trial("another version", "deploy:dc=pair", fab, again=None)
    it.trial("rollback", "rollback:dc=pair", fab, again=None)


def _formats(it: Bench) -> None:
    """A version with another format of jobs, which isn't finalised: it is rolled back."""
    fab = _version_with_formats(it)
    it.trial("a version with job format 2", "deploy:dc=pair", fab, again=None)
    _written(it, 1)
    it.trial("rollback over it", "rollback:dc=pair", fab, again=None)


def _finalized(it: Bench) -> None:
    """A version with another format of jobs, which is finalised: no way back."""
    fab = _version_with_formats(it)
    it.trial("a version with job format 2, on a alone", "deploy:dc=pair,only=a", fab, again=None)
    it.trial("finalize half-way", "finalize:dc=pair", fab, again=None)
    _written(it, 1)
    it.trial("everywhere", "deploy:dc=pair", fab, again=None)
    it.trial("finalize", "finalize:dc=pair", fab, again=None)
    _written(it, 2)
    before = it.running()
    it.trial("rollback after finalize", "rollback:dc=pair", fab, again=None)
    it.trial("rollback after finalize, in the old checkout", "rollback:dc=pair", again=None)
    it.trial("deploy after finalize, of the old checkout", "deploy:dc=pair", again=None)
    print(f"    nothing was changed: {'yes' if it.running() == before else 'NO'}", flush=True)


def _version_with_formats(it: Bench) -> Operator:
    fab, _ = it.version()
    for name, old, new in FORMATS:
        path = fab.checkout / name
        text = path.read_text()
        assert text.count(old) == 1, f"{name} has changed: {old}"
        path.write_text(text.replace(old, new))
    return fab


def _written(it: Bench, expected: int) -> None:
    _, said = it.run("hitmesh:dc=pair,args=formats --json")
    found = re.search(r'"written": \{[^}]*"job": (\d+)', said)
    print(f"    job format {found[1] if found else '?'} is written, and {expected} should be", flush=True)


def _python(it: Bench) -> None:
    """The Python of a host is gone, another one, too old."""
    host = it.fleet.hosts["b"]

    def on_it(script: str) -> Callable[[], None]:
        def act() -> None:
            done = host.run(["sh", "-ec", script])
            it.note(f"  b$ {script}: {done.returncode} {done.stderr}")

        return act

    back = f"mv {PYTHON}.away {PYTHON}"
    for what, change, mend in (
        ("b's Python is gone", f"mv {PYTHON} {PYTHON}.away", back),
        (
            "b's Python is another one",
            f"mv {PYTHON} {PYTHON}.away; printf '#!/bin/sh\\nexec {PYTHON}.away \"$@\"\\n' >{PYTHON}; chmod 755 {PYTHON}",
            back,
        ),
        ("b's Python is too old", f"cp {SITE} {SITE}.away; cat >>{SITE} <<'E'\n{OLDER}E\n", f"mv {SITE}.away {SITE}"),
    ):
        fab, _ = it.version()
        before = it.running()
        on_it(change)()
        for task in ("check:dc=pair", *(() if "another" in what else ("bootstrap:dc=pair,only=b",))):
            status, said = it.run(task, fab)
            print(f"{what}: fab {task}: {status}: {_last(said)}", flush=True)
        it.trial(f"{what}: deploy", "deploy:dc=pair", fab, mend=on_it(mend), again=None)
        print(f"    nothing was changed: {'yes' if it.running() == before else 'NO'}", flush=True)
    it.trial("b's Python is well again", "deploy:dc=pair", it.version()[0], again=None)


def _supervised(it: Bench) -> None:
    """Each role stopped, started and restarted by supervisorctl."""
    for role, number, host in (
        ("collector", 1, "a"), ("processor", 1, "a"), ("nexus", 1, "a"), ("balancer", 1, "a"), ("balancer", 2, "b"),
    ):  # fmt: skip

        def act(name: str = f"pair-{role}-{number}", host: str = host) -> str:
            for command in ("stop", "start", "restart"):
                done = it.fleet.hosts[host].run([*SUPERVISORCTL, command, name])
                it.note(f"  supervisorctl {command} {name}: {done.stdout} {done.stderr}")
                time.sleep(2.0)
            return ""

        it.trial(f"supervisorctl stop, start, restart {role}-{number}", "", act=act, again=None)


def _two(it: Bench) -> None:
    """Two people at once."""
    other: list[tuple[int, str]] = []
    task = it.other()

    def second() -> None:
        other.append(it.run(task))

    thread = threading.Thread(target=second, daemon=True)
    thread.start()
    it.trial("two people at once", task, mend=thread.join)
    print(f"    the other: {other[0][0]}: {_last(other[0][1])}", flush=True)


def _acl(it: Bench) -> None:
    """Every token of Consul's ACLs and its gossip key is changed, and one is revoked; a second time there is nothing to do."""
    before = _tokens(it)
    it.trial("keys, ACL tokens and the gossip key are rotated", "keys:dc=pair,rotate=1", again=None)
    it.trial("the collectors' token is revoked", "keys:dc=pair,revoke=pair/collector/consul.token", again=None)
    after = _tokens(it)
    same = [name for name, text in after.items() if before[name] == text and "management" not in name]
    print(f"    the same as before: {', '.join(same) or 'no token'}", flush=True)
    for task in ("keys:dc=pair", "check:dc=pair", "deploy:dc=pair"):
        status, said = it.run(task)
        lines = [line for line in said.splitlines() if line not in ("", "Done.")]
        print(f"    {task}: {status}: {lines[-1] if lines else 'nothing to say'}", flush=True)
    # Consul's servers have every token in their own data.
    words = [
        "grep",
        "-rlF",
        "--exclude-dir=consul-1",
        after["pair/management/consul.token"].strip(),
        "/etc",
        "/opt",
        "/var",
    ]
    found = [f"{name}:{it.fleet.hosts[name].run(words).stdout.strip()}" for name in it.fleet.hosts]
    own = ["cat", "/etc/hitmesh/keys/pair/collector/consul.token"]
    reads = [user for user in ROLES if it.fleet.hosts["b"].run(own, user=f"hitmesh-{user}").returncode == 0]
    print(
        f"    the management token is on {' '.join(found)}; the collectors' is read by {', '.join(reads)}", flush=True
    )


def _tokens(it: Bench) -> dict[str, str]:
    """The tokens that the operator has, by file."""
    folder = it.fleet.file.parent / "keys"
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.token")}


TRIALS: Final[dict[str, Callable[[Bench], None]]] = {
    "unready": _unready, "failing": _failing, "rolledback": _rolled_back, "rotated": _rotated, "supervised": _supervised,
    "killed": _killed, "interrupted": _interrupted, "vanishing": _vanishing, "dark": _dark, "two": _two, "full": _full,
    "invalid": _invalid, "acl": _acl, "python": _python, "formats": _formats,
    "finalized": _finalized,  # the last: after it no other release of these can come back
}  # fmt: skip
TOKEN: Final = "?token=/etc/hitmesh/keys/pair/{role}/consul.token"
# What the datacenter's file says for a trial that has a bed of its own.
OWN_BEDS: Final[dict[str, Mapping[str, Any]]] = {
    "acl": {
        "deploy": DEPLOY | {"ready_s": 180.0, "consul": {"acl": True, "gossip_key": "keys/gossip"}},
        "stores": {name: f"consul://127.0.0.1:8500/{prefix}{TOKEN}"
                   for name, prefix in (("totals", "hitmesh"), ("settings", "hitmesh-settings"))},
    },
}  # fmt: skip


def main() -> int:
    """Run the bench; 1 when it can't."""
    parser = argparse.ArgumentParser(prog="bench/run deploys", description=__doc__)
    parser.add_argument("--log", type=Path, default=Path("/dev/null"), help="where all that fab says goes")
    parser.add_argument("trials", nargs="*", help=f"of {', '.join(TRIALS)}; none: all of them")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it, and theirs
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 1
    os.environ["PYTHONUNBUFFERED"] = "1"  # what fab says comes when it says it
    names = options.trials or list(TRIALS)
    ordinary = [name for name in names if name not in OWN_BEDS]
    beds: list[tuple[list[str], Mapping[str, Any]]] = [(ordinary, {"deploy": DEPLOY})]
    beds += [([name], OWN_BEDS[name]) for name in names if name in OWN_BEDS]
    return max(_on_a_bed(chosen, settings, options.log) for chosen, settings in beds if chosen)


def _on_a_bed(names: Sequence[str], settings: Mapping[str, Any], log: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="hitmesh-deploys-") as folder, Bed() as bed:
        it = Bench(bed, Path(folder), log, settings)
        bed.up()
        for task in ("bootstrap:dc=pair", "deploy:dc=pair"):
            status, said = it.run(task)
            if status:
                print(said, file=sys.stderr)
                return 1
        wait_for(lambda: it.total(PAGES[0]) == 0, within_s=SETTLED_S, what="the virtual IP to answer")
        for name in names:
            TRIALS[name](it)
    return 0


if __name__ == "__main__":
    sys.exit(main())
