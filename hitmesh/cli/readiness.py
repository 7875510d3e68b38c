"""Waiting for a mesh that starts: what isn't ready yet, told while it lasts.

Ready is: every configured instance has a live heartbeat, every partition an owner, every collector
says on /health that it can take a hit, and every balancer through which hits come passes that on.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hitmesh.cli import picture
from hitmesh.cli.endpoints import by_role, front
from hitmesh.cli.sending import explanation
from hitmesh.cli.supervision import Supervised, Supervisor
from hitmesh.config import Config, Role
from hitmesh.errors import CommandError

READY_S = 60.0  # a mesh of two datacenters takes 5 s on two cores, with Consul 10 s
POLL_S = 0.1
SOCKET_POLL_S = 0.02
HEALTH_TIMEOUT_S = 1.0
MAX_REASON_BYTES = 1000  # of what /health says
PROGRESS_S = 1.0  # between two lines of progress, where it can't be shown in place
TAIL_LINES = 12  # of a log, when a role doesn't become ready


def wait_until_ready(
    configs: Sequence[Config], supervisor: Supervisor, process: subprocess.Popen[bytes], state_dir: Path
) -> None:
    """Wait until nothing is lacking. Raises CommandError, with the logs of what isn't ready on stderr."""
    deadline = time.monotonic() + READY_S
    programs: list[Supervised] | None = []
    progress = _Progress()
    try:
        while True:
            if process.poll() is not None or (programs is None and time.monotonic() > deadline):
                tail = _tail(state_dir / "log" / "supervisord.out") or _tail(state_dir / "log" / "supervisord.log")
                raise CommandError(f"supervisord doesn't run (status {process.returncode}): {' / '.join(tail[-3:])}")
            programs = supervisor.programs()
            if programs is None:
                # Until it has answered once, it starts nothing: the first question wakes it.
                time.sleep(SOCKET_POLL_S)
                continue
            lacking = _lacking(configs)
            if not lacking:
                return
            broken = [each for each in programs if each.state == "FATAL"]
            if broken or time.monotonic() > deadline:
                _show_logs(lacking, programs, state_dir)
                reason = f"not ready after {READY_S:g} s" if not broken else "a program can't be started"
                raise CommandError(f"{reason}: {_text(lacking)}", hint="logs above; all of it is stopped again")
            progress.show(f"waiting for {_text(lacking)}")
            time.sleep(POLL_S)
    finally:
        progress.end()


def _lacking(configs: Sequence[Config]) -> dict[str, list[str]]:
    """What isn't ready yet, by datacenter: instances by name, perhaps with a reason, then partitions."""
    found = {}
    for config in configs:
        lacking = picture.missing(config, picture.ask(config))
        if not lacking:
            lacking = _unable(config, "collector", http.client.OK)
        if not lacking and front(config) == by_role(config)["balancer"]:
            # A live route may answer in the collectors' place: that is the balancer's work too.
            lacking = _unable(config, "balancer", http.client.INTERNAL_SERVER_ERROR - 1)
        if lacking:
            found[config.name] = lacking
    return found


def _unable(config: Config, role: Role, highest: int) -> list[str]:
    """The instances, with the reason, that don't answer /health with a status up to `highest`."""
    reasons = {each.name: _unhealthy(f"{each.address}:{each.port}", highest) for each in config.instances(role)}
    return [f"{name} ({reason})" for name, reason in reasons.items() if reason]


def _unhealthy(address: str, highest: int) -> str:
    """Why whoever listens there can't take a hit; empty when it can."""
    connection = http.client.HTTPConnection(address, timeout=HEALTH_TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/health")
            answer = connection.getresponse()
            body = answer.read(MAX_REASON_BYTES)
        except (OSError, http.client.HTTPException) as error:
            return f"/health: {error}"
    return "" if answer.status <= highest else f"/health: {answer.status}: {explanation(body)}"


def _text(lacking: dict[str, list[str]]) -> str:
    return "; ".join(f"{dc}: {', '.join(names)}" for dc, names in lacking.items())


def _show_logs(lacking: dict[str, list[str]], programs: Sequence[Supervised], state_dir: Path) -> None:
    """The last lines of the logs of what isn't ready, on stderr."""
    for each in programs:
        if each.name in {name.split()[0] for name in lacking.get(each.dc, ())} or each.state != "RUNNING":
            why = f" ({each.why})" if each.why else ""
            print(f"--- {each.full_name}: {each.state.lower()}{why}", file=sys.stderr)
            for line in _tail(state_dir / "log" / f"{each.full_name}.log"):
                print(f"    {line}", file=sys.stderr)


def _tail(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    except OSError:
        return []


class _Progress:
    """What is being waited for: one line in place on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._in_place = sys.stderr.isatty()
        self._last = ""
        self._due = time.monotonic() + PROGRESS_S

    def show(self, text: str) -> None:
        """Say it, unless it was said just now."""
        if text == self._last:
            return
        if self._in_place:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{text[:width]}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() >= self._due:
            print(text, file=sys.stderr, flush=True)
            self._due = time.monotonic() + PROGRESS_S
        else:
            return
        self._last = text

    def end(self) -> None:
        """Leave nothing of it on a terminal."""
        if self._in_place and self._last:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
