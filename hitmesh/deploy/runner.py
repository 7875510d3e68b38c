"""Carries a plan out, step by step, and takes back what it did when that goes wrong.

Owns the order of things while a deploy runs: each change is drained, started and waited for; what was changed is
watched. Decides nothing: `plan` says what, `gates` whether it goes well.

Invariants:
- Between two steps every instance is either as before or changed and ready.
- Whatever ends a deploy (a gate, a host that vanishes, Ctrl-C) takes back what it had changed, the last first. What isn't
  taken back is said: where a host does nothing any more, and all that is left when a second Ctrl-C ends that.
- Once somebody else has taken over nothing is changed or taken back: it would be his that is changed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from hitmesh.deploy import gates
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.gates import Observation, Row
from hitmesh.deploy.lock import Lost
from hitmesh.deploy.plan import Bake, Change, Copy, Forget, Place, Ready, Serve, Step, Stop, Tell, Write
from hitmesh.deploy.remote import RemoteHost
from hitmesh.errors import CommandError, HitmeshError

POLL_S: Final = 0.5
LOG_LINES: Final = 12
OBSERVE_S: Final = 60.0

T = TypeVar("T")


class Stopped(CommandError):
    """A deploy that went no further; says what became of what it had changed."""

    def __init__(self, why: str, *, undone: bool, is_bad: bool = False, hint: str = "") -> None:
        super().__init__(why, hint=hint)
        self.undone = undone
        self.is_bad = is_bad
        """Whether a release did badly that didn't run there before; otherwise something else was in the way."""


class _Ill(CommandError):
    """A release that does badly."""


class Runner:
    """One deploy, on the hosts of a fleet."""

    def __init__(
        self,
        fleet: Fleet,
        hosts: Mapping[str, RemoteHost],
        tars: Mapping[str, Path],
        tell: Callable[[str], None],
        may_go_on: Callable[[], None] = lambda: None,
        is_ours: Callable[[], None] = lambda: None,
    ) -> None:
        """`may_go_on` raises CommandError when the lock is over, `is_ours` asks anew and raises Lost where it is somebody else's."""
        self._fleet, self._hosts, self._tars, self._tell = fleet, hosts, tars, tell
        self._may_go_on, self._is_ours = may_go_on, is_ours
        self._changed: list[Change] = []
        self._written: list[tuple[str, Sequence[File]]] = []  # what stood there before, by host
        self._started: dict[str, dict[str, int]] = {}  # by host: the pids of what was changed
        self._before: Observation | None = None

    def run(self, steps: Sequence[Step], *, undo: bool = True) -> None:
        """Carry all of it out. Raises Stopped."""
        try:
            for number, step in enumerate(steps, 1):
                self._may_go_on()
                self._tell(f"[{number}/{len(steps)}] {step}")
                self._carry_out(step)
        except (Exception, KeyboardInterrupt) as error:
            if not undo:
                raise Stopped(_said(error), undone=False) from error
            raise self._stopped(error) from error

    def _carry_out(self, step: Step) -> None:
        if isinstance(step, Bake):
            self._bake(step)
            return
        host = self._hosts[step.host]
        match step:
            case Copy():
                host.receive(step.release, self._tars[step.release])
            case Stop():
                host.stop(step.instance)
            case Place():
                host.switch(step.instance, step.release)
            case Write():
                self._write(host, step)
            case Serve():
                self._serve(host, step)
            case Change():
                self._change(host, step)
            case Tell():
                done = host.hitmesh(*step.words)
                if done.status:
                    raise CommandError(f"{host.name}: hitmesh {' '.join(step.words)}: {done.err}")
            case Ready():
                self._wait_until(host, "", lambda: "; ".join(self._lacking(host)))
            case Forget():
                host.forget(step.release)

    def _serve(self, host: RemoteHost, step: Serve) -> None:
        done = host.start(step.name) if step.is_new else host.restart(step.name)
        if done.state != "RUNNING":
            raise self._ill(host, step.name, f"{step.name} doesn't start: {done.state.lower()} {done.why}".strip())

    def _write(self, host: RemoteHost, step: Write) -> None:
        texts = host.texts([file.path for file in step.files])
        old = [msgspec.structs.replace(file, text=texts.get(file.path, "")) for file in step.files]
        self._written.append((host.name, old))
        host.write(step.files)

    def _change(self, host: RemoteHost, step: Change) -> None:
        before = self._seen_before(host) if step.was else Observation()
        self._changed.append(step)  # from here on it may have been carried out
        host.switch(step.instance, step.release)
        done = host.restart(step.instance) if step.was else host.start(step.instance)
        if done.state != "RUNNING":
            raise self._ill(
                host, step.instance, f"{step.instance} doesn't start: {done.state.lower()} {done.why}".strip()
            )
        self._started.setdefault(host.name, {})[step.instance] = done.pid
        if step.was:
            self._wait_ready(host, step.instance, done.pid, before)

    def _wait_ready(self, host: RemoteHost, name: str, pid: int, before: Observation) -> None:
        def lacking() -> str:
            now = Observation(rows=self._rows(host))
            if not (reason := gates.is_ready(name, pid, now, before)):
                # Only now: each question is a command, a process or three there.
                now = msgspec.structs.replace(now, lacking=self._lacking(host))
                reason = gates.is_ready(name, pid, now, before)
            return reason

        self._wait_until(host, name, lacking)

    def _wait_until(self, host: RemoteHost, name: str, lacking: Callable[[], str]) -> None:
        deadline = time.monotonic() + self._fleet.config.deploy.ready_s
        while reason := lacking():
            self._may_go_on()
            if time.monotonic() > deadline:
                what = f"{name} isn't ready" if name else f"{self._fleet.dc} isn't ready"
                raise self._ill(host, name or self._first(reason), f"{what}: {reason}")
            time.sleep(POLL_S)

    def _bake(self, step: Bake) -> None:
        before = self._before or Observation()
        began = time.monotonic()
        begin: Observation | None = None
        lateness = gates.Lateness()
        watched = [name for name in self._hosts if name in self._started]
        while True:
            self._may_go_on()
            is_last = time.monotonic() > began + step.seconds
            for name in watched:
                now = self._observe(self._hosts[name], books=is_last and name == watched[0])
                begin = begin or now
                problems = [*gates.harm(before, now, self._started[name])]
                problems += lateness.seen(before, now, step.instances, time.monotonic())
                if bad := gates.failed(begin, now):
                    problems.append(bad)
                if problems:
                    # Requests that fail are first of all a collector's doing.
                    suspects = sorted(step.instances, key=lambda one: not one.startswith("collector-"))
                    raise self._ill(self._hosts[name], self._first(problems[0], suspects), "; ".join(problems))
            if is_last:
                return
            time.sleep(POLL_S)

    def _stopped(self, error: BaseException) -> Stopped:
        """Take back what was changed, the last first, and say what isn't; a second Ctrl-C or a lost lock ends that."""
        left = []
        todo = self._ways_back()
        self._may_go_on = self._is_ours  # from here on: that nobody answers is no reason to leave things half-way
        try:
            self._say(f"stopped: {_said(error)}")
            if isinstance(error, Lost):
                raise error
            before = self._before_without(self._gone())
            while todo:
                self._is_ours()
                what, take_back = todo[0]
                try:
                    take_back(before)
                except Lost:
                    raise
                except Exception as trouble:  # noqa: BLE001 - one that can't be taken back hinders no other
                    left.append(f"{what} ({_said(trouble)})")
                todo.pop(0)
        except KeyboardInterrupt:
            left += [f"{what} (interrupted)" for what, _ in todo]
        except Lost as lost:
            error = lost
            left += [what for what, _ in todo]
        except Exception as trouble:  # noqa: BLE001 - this machine's: whatever it is, the rest is said
            left += [f"{what} ({_said(trouble)})" for what, _ in todo]
        hint = f"not taken back: {'; '.join(left)}" if left else ""
        # What ran there already did well before: its file has changed, or the machine.
        is_new = any(one.was not in ("", one.release) for one in self._changed)
        return Stopped(_said(error), undone=not left, is_bad=is_new and isinstance(error, _Ill), hint=hint)

    def _ways_back(self) -> list[tuple[str, Callable[[Observation], None]]]:
        """What there is to take back, each with how: files, then instances, the last first."""
        files = [(f"the files of {name}", partial(self._write_back, name, old)) for name, old in self._written]
        # One that was new has nothing to go back to: what it does harms nobody, and the next deploy finds it.
        changes = [
            (f"{one.instance} of {one.host}", partial(self._change_back, one)) for one in self._changed if one.was
        ]
        return [*reversed(files), *reversed(changes)]

    def _write_back(self, name: str, old: Sequence[File], _before: Observation) -> None:
        self._hosts[name].write(old)

    def _change_back(self, step: Change, before: Observation) -> None:
        self._say(f"rolling back: {step.host}: {step.instance} to {step.was}")
        host = self._hosts[step.host]
        host.switch(step.instance, step.was)
        done = host.restart(step.instance)
        self._wait_ready(host, step.instance, done.pid, before)

    def _before_without(self, gone: Collection[str]) -> Observation:
        """How it was before: nobody need wait for what is on hosts that are gone."""
        lost = [one.name for host, one in self._fleet.in_order() if host.name in gone]
        before = self._before or Observation()
        return msgspec.structs.replace(before, lacking=[*before.lacking, *lost])

    def _say(self, line: str) -> None:
        """Tell it, though the terminal may be gone, which has perhaps ended the deploy."""
        with contextlib.suppress(OSError):
            self._tell(line)

    def _seen_before(self, host: RemoteHost) -> Observation:
        """How the datacenter was before anything was changed."""
        if self._before is None:
            self._before = self._observe(host, books=True)
        return self._before

    def _first(self, reason: str, suspects: Sequence[str] = ()) -> str:
        """The first instance that is named in what is wrong, or else the first that is suspected, or any."""
        names = [one.name for _, one in self._fleet.in_order()]
        return next((name for name in names if reason.startswith(name)), next(iter(suspects), names[0]))

    def _observe(self, host: RemoteHost, *, books: bool = False) -> Observation:
        return Observation(
            rows=self._rows(host),
            lacking=self._lacking(host),
            book_problems=self._asked(host, "audit", gates.book_problems_in) if books else None,
        )

    def _rows(self, host: RemoteHost) -> Sequence[Row]:
        return self._asked(host, "status", gates.rows_in)

    def _lacking(self, host: RemoteHost) -> Sequence[str]:
        return self._asked(host, "ready", lambda said: gates.lacking_in(said, self._fleet.dc))

    def _asked(self, host: RemoteHost, command: str, read: Callable[[bytes], T]) -> T:
        """What a hitmesh command says there. Its status isn't asked: `ready` and `audit` have something to say, too."""
        done = host.hitmesh(command, "--json", timeout_s=OBSERVE_S)
        try:
            return read(done.out)
        except msgspec.MsgspecError as error:
            raise CommandError(f"{host.name}: hitmesh {command} failed there: {done.err or error}") from error

    def _gone(self) -> dict[str, CommandError]:
        """The hosts that don't answer, or whose host program doesn't: its Python or its right may be gone."""
        found = {}
        for name, host in self._hosts.items():
            try:
                host.texts([])
            except CommandError as error:
                found[name] = error
        return found

    def _ill(self, host: RemoteHost, instance: str, why: str) -> CommandError:
        """What to raise for an instance that does badly: it is no fault of the release when a host is gone."""
        gone = self._gone()
        host = next((self._hosts[where.name] for where, one in self._fleet.in_order() if one.name == instance), host)
        try:
            lines = [] if host.name in gone else host.logs(instance, LOG_LINES)
        except HitmeshError as error:
            lines = [f"(its log can't be read: {error})"]
        if lines:
            self._tell(f"--- the end of {instance}'s log on {host.name}:")
        for line in lines:
            self._tell(f"    {line}")
        if gone:
            return CommandError(f"{'; '.join(map(str, gone.values()))}; {why}")
        return _Ill(why)


def _said(error: BaseException) -> str:
    """What ended a deploy, for people."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return str(error) if isinstance(error, HitmeshError) else f"{type(error).__name__}: {error}"
