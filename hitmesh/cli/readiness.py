"""Waiting for a mesh that starts: what isn't ready yet, told while it lasts.

Ready is: every configured instance has a live heartbeat, every partition an owner, every collector
says on /health that it can take a hit, every balancer through which hits come passes that on, every
Nexus hears every other datacenter, and no partition's rows are still being brought back from there.
"""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from hitmesh.cli import picture
from hitmesh.cli.endpoints import by_role, front
from hitmesh.cli.progress import Progress
from hitmesh.cli.sending import explanation
from hitmesh.cli.stderr import show
from hitmesh.cli.stores import trouble
from hitmesh.cli.supervision import Supervisor
from hitmesh.config import Config, Role, host_port_text
from hitmesh.errors import CommandError
from hitmesh.protocol.messages import Answer
from hitmesh.state.peers import UNHEARD
from hitmesh.supervisord import Supervised

READY_S = 90.0  # a mesh of two datacenters takes 5 s on two cores, with Consul 10 s; a busy machine far longer
MORE_READY_S = 30.0  # for each datacenter beyond two: as many processes start at once
POLL_S = 0.1
SOCKET_POLL_S = 0.02
HEALTH_TIMEOUT_S = 1.0
STORES_S = 5.0  # after which, and how often, the stores are looked at, of partitions that nobody takes
MAX_REASON_BYTES = 1000  # of what /health says
TAIL_LINES = 12  # of a log, when a role doesn't become ready


def wait_until_ready(
    configs: Sequence[Config], supervisor: Supervisor, process: subprocess.Popen[bytes], state_dir: Path
) -> None:
    """Wait until nothing is lacking. Raises CommandError, with the logs of what isn't ready on stderr."""
    within_s = READY_S + MORE_READY_S * max(len(configs) - 2, 0)
    deadline = time.monotonic() + within_s
    programs: list[Supervised] | None = []
    progress = Progress()
    stores_due = time.monotonic() + STORES_S
    troubles: dict[str, list[str]] = {}
    try:
        while True:
            if process.poll() is not None or (programs is None and time.monotonic() > deadline):
                tail = _tail(state_dir / "log" / "supervisord.out") or _tail(state_dir / "log" / "supervisord.log")
                raise CommandError(f"supervisord doesn't run (status {process.returncode}): {reason_of(tail)}")
            programs = supervisor.programs()
            if programs is None:
                # Until it has answered once, it starts nothing: the first question wakes it.
                time.sleep(SOCKET_POLL_S)
                continue
            lacking = lacking_in(configs)
            if not lacking:
                return
            if time.monotonic() > stores_due:
                troubles = stores_trouble(lacking, configs, state_dir)
                stores_due = time.monotonic() + STORES_S
            lacking = {dc: names + troubles.get(dc, []) for dc, names in lacking.items()}
            broken = [each for each in programs if each.state == "FATAL"]
            if broken or time.monotonic() > deadline:
                show_logs(lacking, programs, state_dir)
                reason = f"not ready after {within_s:g} s" if not broken else "a program can't be started"
                raise CommandError(f"{reason}: {as_text(lacking)}", hint="logs above; all of it is stopped again")
            progress.show(f"waiting for {as_text(lacking)}")
            time.sleep(POLL_S)
    finally:
        progress.end()


def lacking_in(configs: Sequence[Config]) -> dict[str, list[str]]:
    """What isn't ready yet, by datacenter: instances by name, perhaps with a reason, then partitions."""
    found = {}
    for config in configs:
        answer = picture.ask(config)
        lacking = picture.missing(config, answer)
        lacking += _restoring(config, answer)
        if not lacking:
            lacking = _strangers(config, answer)
        if not lacking:
            lacking = unable(config, "collector", http.client.OK)
        if not lacking and front(config) != by_role(config)["collector"]:
            # A live route may answer in the collectors' place: that is the balancer's work too.
            lacking = unable(config, "balancer", http.client.INTERNAL_SERVER_ERROR - 1)
        if lacking:
            found[config.name] = lacking
    return found


def stores_trouble(lacking: dict[str, list[str]], configs: Sequence[Config], state_dir: Path) -> dict[str, list[str]]:
    """What is wrong with the stores, by datacenter, where nobody takes partitions."""
    asked = [each for each in configs if any(_are_partitions(name) for name in lacking.get(each.name, ()))]
    found = {config.name: trouble(config, state_dir / config.name) for config in asked}
    return {dc: [said] for dc, said in found.items() if said}


def _are_partitions(name: str) -> bool:
    return name.endswith(" partitions")


def _restoring(config: Config, answer: Answer | None) -> list[str]:
    """The processors that still bring rows back from other datacenters, with how many partitions."""
    loads = _loads(config, answer, "processor", "restoring")
    return [f"{name} (brings the rows of {count:g} partitions back from the others)" for name, count in loads]


def _strangers(config: Config, answer: Answer | None) -> list[str]:
    """The Nexuses that don't hear some other datacenter yet, with how many."""
    loads = _loads(config, answer, "nexus", UNHEARD)
    return [f"{name} (doesn't hear {count:g} of the other datacenters)" for name, count in loads]


def _loads(config: Config, answer: Answer | None, role: Role, figure: str) -> list[tuple[str, float]]:
    """The living instances of this datacenter with a load figure above 0; one without it has none."""
    instances = [seen.instance for seen in picture.alive(answer, role) if seen.instance.dc == config.name]
    return sorted((one.name, one.load[figure]) for one in instances if one.load.get(figure, 0) > 0)


def unable(config: Config, role: Role, highest: int) -> list[str]:
    """The instances, with the reason, that don't answer /health with a status up to `highest`."""
    reasons = {
        each.name: _unhealthy(host_port_text(each.address, each.port), highest) for each in config.instances(role)
    }
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


def as_text(lacking: dict[str, list[str]]) -> str:
    """In one line."""
    return "; ".join(f"{dc}: {', '.join(names)}" for dc, names in lacking.items())


def reason_of(lines: Sequence[str]) -> str:
    """Why supervisord ended, of its last lines: without how to use it, and without all that is in its environment."""
    said = [line.partition("Available names:")[0].strip() for line in lines if not line.startswith("For help, use")]
    return " / ".join([line for line in said if line][-3:]) or "it doesn't say why"


def show_logs(lacking: dict[str, list[str]], programs: Sequence[Supervised], state_dir: Path) -> None:
    """The last lines of the logs of what isn't ready, on stderr; of partitions those who could own them."""
    for each in programs:
        names = {name.split()[0] for name in lacking.get(each.dc, ())}
        is_asked = each.role == "processor" and any(map(_are_partitions, lacking.get(each.dc, ())))
        if each.name in names or is_asked or each.state != "RUNNING":
            why = f" ({each.why})" if each.why else ""
            show(f"--- {each.full_name}: {each.state.lower()}{why}")
            for line in _tail(state_dir / "log" / f"{each.full_name}.log"):
                show(f"    {line}")


def _tail(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    except OSError:
        return []
