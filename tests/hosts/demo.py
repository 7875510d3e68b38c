"""`make demo-deploy`: two datacenters from nothing, on whole hosts, by the commands that an operator types.

    sudo make demo-deploy
    sudo make demo-deploy DEMO_ARGS=--keep

Root only. It makes hosts of namespaces, each with its own files, users and sshd; nothing of them is left
afterwards, also when it is interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from hitmesh import __version__
from tests.hosts.bed import Bed, why_not
from tests.hosts.fab import Fab, copy_checkout
from tests.hosts.fleet import MESH, Fleet
from tests.hosts.guest import Guest, asked
from tests.services import wait_for
from tests.system.visitors import accepted, at_work

SITE: Final = "demo.example"
PAGES: Final = tuple(f"{SITE}/{number}" for number in range(20))
NEXT: Final = f"{__version__}.post1"  # the second version: the same sources under another name
SETTLED_S: Final = 120.0
PROBE_S: Final = 0.25  # that a client waits for an answer before it tries again
MOVED_S: Final = 60.0


class StepFailed(Exception):
    """A step of the demo didn't do what it shows."""


class Demo:
    """What is shown, step by step."""

    def __init__(self, bed: Bed, folder: Path, console: Console) -> None:
        self._bed, self._console = bed, console
        self._client = bed.place("client")
        self._config, self._folder = folder / "config", folder
        self._config.mkdir()
        self._fab = Fab(bed, self._config, folder / "var")
        self._fleets = [Fleet(bed, dc, self._config) for dc in MESH]
        self._expected: Counter[str] = Counter()
        self._began = time.monotonic()

    def show(self) -> None:
        """All of it. Raises StepFailed."""
        us, eu = self._fleets
        with self._timed(f"{len(self._bed.hosts)} hosts boot, each with its own files, users and sshd"):
            self._bed.up()
        for fleet in self._fleets:
            self._run(f"bootstrap:dc={fleet.dc}")
        for fleet in self._fleets:
            self._run(f"keys:dc={fleet.dc}")
        self._run(f"deploy:dc={us.dc}")
        self._hit(us)
        self._run(f"deploy:dc={eu.dc}")
        self._hit(eu)
        self._agree()
        self._deploy_under_load(us)
        self._move(us)
        self._hit(us)
        self._agree()
        for fleet in self._fleets:
            self._run(f"status:dc={fleet.dc}")
            self._run(f"hitmesh:dc={fleet.dc},args=audit")

    def say(self, text: str, style: str = "bold") -> None:
        """A line of the demo's own, with the time since it began."""
        self._console.print(f"{time.monotonic() - self._began:6.1f} s  {text}", style=style, highlight=False)

    def _run(self, task: str, fab: Fab | None = None) -> None:
        """Type a command, and show what it says."""
        with self._timed(f"$ fab {task}"):
            status, said = (fab or self._fab).run(task, self._show_line)
        if status:
            lines = said.strip().splitlines()
            raise StepFailed(f"fab {task} ended with {status}: {lines[-1] if lines else 'without a word'}")

    def _show_line(self, line: str) -> None:
        self._console.print(f"          {line}", style="dim", markup=False, highlight=False)

    def _hit(self, fleet: Fleet) -> None:
        """What `curl http://VIP/hit/...` does."""
        page = f"{SITE}/welcome/{fleet.dc}"
        wait_for(lambda: self._asked(fleet, "GET", f"/total/{page}"), within_s=SETTLED_S, what=f"{fleet.url} to answer")
        answer = self._asked(fleet, "POST", f"/hit/{page}")
        if answer is None:
            raise StepFailed(f"a hit through {fleet.vip} wasn't answered 200")
        self._expected[page] += 1
        self.say(f"curl -X POST {fleet.url}/hit/{page}: {json.dumps(answer)}")

    def _agree(self) -> None:
        """Wait until every datacenter says of every page just what was answered 2xx."""
        with self._timed(f"both say one total, {self._expected.total():,} hits of {len(self._expected)} pages"):
            for fleet in self._fleets:
                wait_for(partial(self._says_all, fleet), within_s=SETTLED_S, what=f"{fleet.dc} to say so too")

    def _says_all(self, fleet: Fleet) -> bool:
        for page, count in self._expected.items():
            answer = self._asked(fleet, "GET", f"/total/{page}")
            if answer is None or answer["total"] != count:
                return False
        return True

    def _deploy_under_load(self, fleet: Fleet) -> None:
        self.say(f"{NEXT} is deployed to {fleet.dc} while clients hit both virtual IPs")
        newer = self._fab.of(copy_checkout(self._folder / "newer", NEXT))
        guests = [Guest(self._client, each.url, PAGES) for each in self._fleets for _ in range(2)]
        began = time.monotonic()
        with at_work(*guests):
            self._run(f"deploy:dc={fleet.dc}", newer)
            seconds = time.monotonic() - began
        counted = accepted(*guests)
        troubles = sum(guest.failed.total() + guest.refused.total() for guest in guests)
        self._expected += counted
        slowest_s = max(guest.slowest_s for guest in guests)
        self.say(f"{counted.total():,} hits in {seconds:.0f} s, {troubles} failed; the slowest took {slowest_s:.2f} s")
        if troubles:
            raise StepFailed(f"{troubles} hits failed during the deploy")
        self._run(f"releases:dc={fleet.dc}")

    def _move(self, fleet: Fleet) -> None:
        master = wait_for(fleet.holders, what="a host with the virtual IP")[0]
        self.say(f"{master.name} has {fleet.vip}; its link is cut")
        blind_s = self._blind_s(fleet, master.cut)
        wait_for(lambda: set(fleet.holders()) - {master}, what="another host with the virtual IP")
        (other,) = set(fleet.holders()) - {master}
        self.say(f"{other.name} has it: a client that retries was without an answer for {blind_s:.2f} s")
        blind_s = self._blind_s(fleet, master.heal, least_s=5.0)
        self.say(f"{master.name} is back: a client was without an answer for {blind_s:.2f} s")

    def _blind_s(self, fleet: Fleet, act: Callable[[], None], *, least_s: float = 2.0) -> float:
        """The longest time between two answers of the virtual IP to a client that retries, when that happens."""
        answered: list[float] = [time.monotonic()]
        ending = threading.Event()

        def probe() -> None:
            while not ending.wait(0.01):
                if self._asked(fleet, "GET", f"/total/{PAGES[0]}", patience_s=PROBE_S) is not None:
                    answered.append(time.monotonic())

        thread = threading.Thread(target=probe, daemon=True)
        thread.start()
        try:
            wait_for(lambda: len(answered) > 20, what="answers")
            at = time.monotonic()
            act()
            wait_for(
                lambda: time.monotonic() > at + least_s and answered[-1] > at + least_s,
                within_s=MOVED_S,
                what=f"{fleet.vip} to answer again",
            )
        finally:
            ending.set()
            thread.join()
        return max(later - earlier for earlier, later in itertools.pairwise(answered) if later > at)

    def _asked(self, fleet: Fleet, method: str, path: str, *, patience_s: float = 10.0) -> dict[str, Any] | None:
        """The JSON of a 200; None for whatever else."""
        return asked(self._client, fleet.vip, method, path, patience_s=patience_s)

    @contextlib.contextmanager
    def _timed(self, text: str) -> Iterator[None]:
        self.say(text)
        began = time.monotonic()
        yield
        self.say(f"... {time.monotonic() - began:.1f} s", "green")


def main(arguments: Sequence[str] | None = None) -> int:
    """Show it; 1 when this machine can't, or a step failed."""
    parser = argparse.ArgumentParser(prog="make demo-deploy", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--keep", action="store_true", help="wait, when a step failed, so that its hosts can be looked at"
    )
    options = parser.parse_args(arguments)
    if reason := why_not():
        print(f"make demo-deploy: {reason}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was made is removed
    folder = Path(tempfile.mkdtemp(prefix="hitmesh-demo-"))
    console = Console(soft_wrap=True)
    try:
        with Bed() as bed:
            demo = Demo(bed, folder, console)
            try:
                demo.show()
            except (StepFailed, AssertionError) as error:
                demo.say(str(error), "red")
                if options.keep:
                    _wait(bed, console)
                return 1
            demo.say("all is taken away")
        return 0
    except KeyboardInterrupt:
        print("make demo-deploy: interrupted; all is taken away", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(bed: Bed, console: Console) -> None:
    for name, host in bed.hosts.items():
        console.print(f"{name}: nsenter -t {host.pid} -a", highlight=False)
    console.print(f"or ssh -F {bed.ssh_config} HOST, after PATH={bed.environment['PATH'].partition(':')[0]}:$PATH")
    console.print("Ctrl-C takes all of it away")
    signal.pause()


if __name__ == "__main__":
    sys.exit(main())
