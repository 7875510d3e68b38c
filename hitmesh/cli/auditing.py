"""`hitmesh audit`: reads a mesh's counters, spools and stores in the order that `audit` needs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import click
import msgspec

from hitmesh.books.audit import Observed, Verdict, check, with_copies
from hitmesh.books.copies import compare
from hitmesh.books.reading import Found, read_spools, read_store, refused, workers
from hitmesh.cli import folder, picture
from hitmesh.cli.options import json_option, state_dir_option
from hitmesh.cli.retired import retired
from hitmesh.cli.stderr import warn
from hitmesh.cli.supervision import Supervisor
from hitmesh.config import Config
from hitmesh.errors import CommandError
from hitmesh.protocol.messages import Seen
from hitmesh.store.open import open_store
from hitmesh.visible import visible

# A heartbeat that a Nexus hadn't heard at the time may have been sent before; the one after wasn't.
NEWER = 2
FRESH_S = 15.0  # for two heartbeats of each collector: five times as long as for one to be dead
POLL_S = 0.2
TRIES = 3  # collectors that start or end meanwhile make the numbers less exact, so look again


@click.command(short_help="Compare the books: accepted, committed, spooled, in flight.")
@state_dir_option
@json_option
def audit(state_dir: Path, as_json: bool) -> int:
    """Compare what was accepted with what is committed, spooled and in flight; status 1 on any difference.

    Live collectors say what they accepted; the store's heads and rows say what is committed, each
    in its own way; the spool holds what collectors left that are gone. While hits go on, numbers
    are read one after the other, and `in_flight` covers the time between; when none do, they are
    exact. It takes two heartbeats. A mesh that is stopped is audited from its files.

    Each datacenter's counts are also compared with their copies in the others. A copy that is behind is
    shown; one that has more than the original is a difference. `lost` are hits of which a store that was
    wiped had the only rows: nothing can bring them back, and nothing counts them twice.

    \b
    Example:
      hitmesh audit --json | jq .balanced
    """
    running = Supervisor(state_dir).running()
    configs = {config.name: config for config in folder.datacenters(state_dir)}
    looks = {dc: _Look(config, state_dir / dc, running=dc in running) for dc, config in configs.items()}
    first = {dc: look.stored for dc, look in looks.items()}
    verdicts = {dc: check(look.observed()) for dc, look in looks.items()}
    if len(configs) > 1:
        second = {dc: _read(config, state_dir / dc).stored for dc, config in configs.items()} if running else first
        compared = compare(first, second, retired=_gone(configs.values(), state_dir), now_s=time.time())
        verdicts = {dc: with_copies(verdict, compared[dc]) for dc, verdict in verdicts.items()}
    balanced = all(verdict.balanced for verdict in verdicts.values())
    if as_json:
        print(json.dumps(report(verdicts), indent=2))
    else:
        print(text(verdicts))
    if not balanced:
        warn("the books don't balance")
    return 0 if balanced else 1


def report(verdicts: Mapping[str, Verdict]) -> dict[str, object]:
    """What `--json` prints: the sums over all datacenters, and each of them."""
    names = ("accepted", "committed", "spooled", "in_flight", "unknown", "unknown_committed", "orphan_jobs", "lost")
    return {
        "balanced": all(verdict.balanced for verdict in verdicts.values()),
        **{name: sum(getattr(verdict, name) for verdict in verdicts.values()) for name in names},
        "problems": [f"{dc}: {problem}" for dc, verdict in verdicts.items() for problem in verdict.problems],
        "dcs": {dc: {"balanced": verdict.balanced, **msgspec.to_builtins(verdict)} for dc, verdict in verdicts.items()},
    }


def text(verdicts: Mapping[str, Verdict]) -> str:
    """A line per datacenter, and one per problem."""
    lines = []
    width = max(len(dc) for dc in verdicts)
    for dc, verdict in verdicts.items():
        more = f", {verdict.unknown} unknown" if verdict.unknown else ""
        more += f", {verdict.lost} lost" if verdict.lost else ""
        more += f", {verdict.restoring} partitions being brought back" if verdict.restoring else ""
        more += f", {verdict.orphan_jobs} jobs in the spool whose hits can't be listed" if verdict.orphan_jobs else ""
        lines.append(
            f"{dc:{width}}  {'balanced' if verdict.balanced else 'NOT BALANCED'}: accepted {verdict.accepted} = "
            f"committed {verdict.committed} + spooled {verdict.spooled} + in flight {verdict.in_flight}{more}"
        )
        lines += [
            f"{'':{width}}  copy in {visible(other)}: {copy.hits} hits, {copy.behind} behind"
            for other, copy in verdict.replicated.items()
        ]
        if verdict.refused:
            named = ", ".join(f"{visible(name)} {count}" for name, count in verdict.refused.items())
            lines.append(f"{'':{width}}  refused, of what arrived: {named}")
        lines += [f"{'':{width}}  {visible(problem)}" for problem in verdict.problems]
    return "\n".join(lines)


class _Look:
    """One datacenter being looked at. Made: everything is read once, but for what needs newer heartbeats."""

    def __init__(self, config: Config, base: Path, *, running: bool) -> None:
        self._config = config
        self._base = base
        self._running = running
        self._seen: Sequence[Seen] = ()
        self._read()

    def observed(self) -> Observed:
        """What was seen, with the collectors' counters as of after the rest was read."""
        for _ in range(TRIES):
            after = self._newer_collectors()
            if after.keys() == self._before.keys():
                break
            self._read()
            after = self._newer_collectors()
        return Observed(
            before=workers(self._before),
            spool=self._spool,
            books=self._books,
            after=workers(after),
            unreadable=self._unreadable,
            refused=refused(self._seen),
        )

    def _read(self) -> None:
        self._before = self._collectors()
        self._spool = read_spools(self._config, self._base)
        found = _read(self._config, self._base)
        self._books, self._unreadable, self.stored = found.books, found.unreadable, found.stored
        self._heard = self._collectors()

    def _collectors(self) -> dict[str, Seen]:
        """The live collectors, by worker id."""
        if not self._running:
            return {}
        answer = picture.ask(self._config)
        if answer is None:
            raise CommandError(
                f"no Nexus of {self._config.name} answers, so nobody says what its collectors have accepted"
            )
        self._seen = answer.seen
        return {seen.instance.id: seen for seen in picture.alive(answer, "collector")}

    def _newer_collectors(self) -> dict[str, Seen]:
        """The live collectors, each by a heartbeat that was sent after everything was read."""
        deadline = time.monotonic() + FRESH_S
        while True:
            now = self._collectors()
            # One that has appeared since then has sent all of its heartbeats since then.
            stale = [
                seen.instance.name
                for worker, seen in now.items()
                if worker in self._heard and seen.number < self._heard[worker].number + NEWER
            ]
            if not stale:
                return now
            if time.monotonic() > deadline:
                raise CommandError(
                    f"{', '.join(stale)} of {self._config.name} sent no two heartbeats within {FRESH_S:g} s"
                )
            time.sleep(POLL_S)


def _read(config: Config, base: Path) -> Found:
    """What a datacenter's store has. Raises CommandError."""
    with contextlib.closing(open_store(config, base)) as store:
        return read_store(store, config)


def _gone(configs: Iterable[Config], state_dir: Path) -> Collection[str]:
    """The retired datacenters; without settings that can be read the books are compared all the same."""
    try:
        return retired(configs, state_dir).keys()
    except CommandError as error:
        warn(f"which datacenters are retired isn't known: {error}")
        return ()
