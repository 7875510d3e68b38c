"""Making a running datacenter larger or smaller: its files, its supervisord, and waiting for the mesh.

What is to run is written down first (hitmesh.toml, scaled.json), and then brought about step by step:
each step looks at what runs. So whatever fails, the files say what is wanted, and the same command
again finishes.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from hitmesh import config as settings
from hitmesh.cli import folder, keyfolder, picture, readiness, sections
from hitmesh.cli.layout import STOP_GRACE_S, program_text, role_program
from hitmesh.cli.processes import started
from hitmesh.cli.progress import Progress
from hitmesh.cli.shares import unsettled
from hitmesh.cli.sizes import SCALABLE, Counts, counts_of, remembered
from hitmesh.cli.stderr import warn
from hitmesh.cli.supervision import Supervisor
from hitmesh.config import Config, Role
from hitmesh.errors import CommandError
from hitmesh.supervisord import ENDED, Supervised, is_ours, split_name

POLL_S = 0.1
READY_S = 60.0  # for what is new to heartbeat, and to own its share: 3 s on two quiet cores
NO_SERVER_ERROR = http.client.INTERNAL_SERVER_ERROR - 1


class Done(Struct):
    """What has been done so far."""

    started: list[str]
    stopped: list[str]
    owns_after_s: float = 0.0  # from processors that came or went until each had its share


class Scaling:
    """One datacenter on its way from what runs to what is wanted, `config`."""

    def __init__(self, config: Config, counts: Counts, state_dir: Path, supervisor: Supervisor) -> None:
        self._config, self._counts = config, counts
        self._state_dir, self._supervisor = state_dir, supervisor
        self._roles = tuple(role for role in SCALABLE if role in counts)
        self._conf = folder.conf_path(state_dir)
        self.done = Done([], [])

    def starting(self) -> list[str]:
        """The instances that aren't under supervisord, or have ended there."""
        running = {name for name, each in self._programs().items() if each.state not in (*ENDED, "STOPPING")}
        wanted = [each.name for role in self._roles for each in self._config.instances(role)]
        return [name for name in wanted if name not in running]

    def leaving(self) -> list[str]:
        """The instances that are too many, in the order in which they go: from the outside in, the newest first."""
        wanted = {each.name for role in self._roles for each in self._config.instances(role)}
        names = [name for name in self._programs() if _role(name) in self._roles and name not in wanted]
        return sorted(names, key=lambda name: (SCALABLE.index(_role(name)), _number(name)), reverse=True)

    def write_down(self, earlier: Config) -> None:
        """Say in the datacenter's files what is wanted; all of it, or nothing with a CommandError."""
        dc = self._config.name
        path = folder.config_path(self._state_dir, dc)
        sizes = remembered(folder.sizes(self._state_dir, dc), earlier, self._counts)
        said = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")][:1]
        before = {each: _read(each) for each in (path, path.with_name(folder.SIZES_NAME), self._conf)}
        try:
            if self._config.keys:
                keyfolder.make_missing(Path(self._config.keys), keyfolder.peers_of(self._config))
            folder.replace_text(path, "\n".join([*said, "", settings.dump(self._config)]))
            folder.replace_text(path.with_name(folder.SIZES_NAME), msgspec.json.encode(sizes).decode() + "\n")
            folder.replace_text(self._conf, self._with_all_programs(_read(self._conf) or ""))
            self._supervisor.reload()
        except CommandError:
            for each, text in before.items():
                if text is None:
                    each.unlink(missing_ok=True)
                else:
                    folder.replace_text(each, text)
            raise

    def grow(self, progress: Progress) -> None:
        """Start what is lacking, and wait until it works."""
        names = self.starting()
        for name in names:
            self._wait_while_stopping(name)
            self._supervisor.add(self._full_name(name))
            self.done.started.append(name)
        self._wait(self._lacking, progress)
        if "processor" in self._roles:  # also those that an earlier attempt has started
            self._wait_for_shares(progress)

    def shrink(self, progress: Progress) -> None:
        """Drain and forget what is too much, one after the other."""
        for name in self.leaving():
            progress.show(f"draining {name}")
            full_name = self._full_name(name)
            within_s = self._config.timing.drain_s + 2 * STOP_GRACE_S  # supervisord kills it before
            if self._supervisor.stop_programs([full_name], time.monotonic() + within_s):
                warn(f"{name} didn't stop by itself, and was killed")
            state = self._programs()[name].state
            if state not in ENDED:
                raise CommandError(f"{name} doesn't stop: {state.lower()} after {within_s:g} s")
            folder.replace_text(self._conf, sections.without_program(_read(self._conf) or "", full_name))
            self._supervisor.reload()
            self._supervisor.remove(full_name)
            self.done.stopped.append(name)
            if _role(name) == "processor":
                self._wait_for_shares(progress)

    def still_to_do(self) -> str:
        """What isn't done, in words; empty when nothing is left."""
        try:
            lists = {"to be started": self.starting(), "to be stopped": self.leaving()}
        except CommandError:
            return "supervisord doesn't answer"
        return "; ".join(f"{what}: {', '.join(names)}" for what, names in lists.items() if names)

    # --- within ---------------------------------------------------------------------------

    def _programs(self) -> Mapping[str, Supervised]:
        """This datacenter's programs, by instance."""
        programs = self._supervisor.programs()
        if programs is None:
            raise CommandError("supervisord doesn't answer", hint="`hitmesh status` shows what goes on without it")
        return {each.name: each for each in programs if each.dc == self._config.name}

    def _full_name(self, name: str) -> str:
        return f"{self._config.name}-{name}"

    def _with_all_programs(self, text: str) -> str:
        """The text of supervisord.conf with what is wanted; what runs besides stays until it has been stopped."""
        config, dc = self._config, self._config.name
        active = {each.full_name for each in self._programs().values()}
        wanted = {self._full_name(each.name) for role in self._roles for each in config.instances(role)}
        for name in filter(is_ours, sections.programs(text)):
            if name not in active | wanted and split_name(name)[0] == dc and _role(split_name(name)[1]) in self._roles:
                text = sections.without_program(text, name)
        present = sections.programs(text)
        python = sections.python_of(text, dc)
        for role in self._roles:
            template = folder.shipped(f"supervisor/{role}.conf").read_text(encoding="utf-8")
            for placement in config.instances(role):
                program = role_program(config, placement, folder.config_path(self._state_dir, dc), python=python)
                if program.full_name not in present:
                    text = sections.with_program(text, program_text(program, self._state_dir / "log", template))
        return text

    def _wait_while_stopping(self, name: str) -> None:
        program = self._programs().get(name)
        if program is not None and program.state == "STOPPING":
            within_s = self._config.timing.drain_s + 2 * STOP_GRACE_S
            self._supervisor.stop_programs([program.full_name], time.monotonic() + within_s)

    def _lacking(self) -> list[str]:
        """The instances of these roles that don't work yet, perhaps with a reason."""
        missing = picture.missing(self._config, picture.ask(self._config))
        lacking = [name for name in missing if _role(name.partition("-w")[0]) in self._roles]
        if not lacking and "collector" in self._roles:
            lacking = readiness.unable(self._config, "collector", http.client.OK)
        if not lacking and "balancer" in self._roles:
            lacking = readiness.unable(self._config, "balancer", NO_SERVER_ERROR)
        return lacking

    def _wait_for_shares(self, progress: Progress) -> None:
        began = time.monotonic()
        self._wait(lambda: unsettled(self._config, picture.ask(self._config)), progress)
        self.done.owns_after_s = round(self.done.owns_after_s + time.monotonic() - began, 3)

    def _wait(self, lacking: Callable[[], list[str]], progress: Progress) -> None:
        deadline = time.monotonic() + READY_S
        while left := lacking():
            programs = self._programs()
            if time.monotonic() > deadline:
                dc = self._config.name
                readiness.show_logs({dc: left}, list(programs.values()), self._state_dir)
                raise CommandError(f"not there after {READY_S:g} s: {', '.join(left)}")
            progress.show(f"waiting for {', '.join(left)}")
            time.sleep(POLL_S)


def by_hand(config: Config, names: Sequence[str]) -> list[str]:
    """Which of these instances live although supervisord doesn't run them, with their pids."""
    answer = picture.ask(config)
    living = [seen.instance for role in SCALABLE for seen in picture.alive(answer, role)]
    return [
        f"{one.name} (pid {one.pid})"
        for one in living
        if one.dc == config.name and one.name in names and started(one.pid)
    ]


def changes(before: Config, after: Config, roles: Counts) -> dict[Role, tuple[int, int]]:
    """From how many to how many, by role."""
    old, new = counts_of(before), counts_of(after)
    return {role: (old[role], new[role]) for role in roles}


def _role(name: str) -> Role:
    role: Role = name.rpartition("-")[0]  # type: ignore[assignment]
    return role


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
