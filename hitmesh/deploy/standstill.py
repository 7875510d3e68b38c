"""A datacenter that stands still: its balancers, collectors and processors stopped, and started again.

Nexuses, Consul and beanstalkd run on. Hits that were answered and not counted yet wait in the spools.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from hitmesh.deploy.desk import Desk
from hitmesh.deploy.facts import Facts, spares_up
from hitmesh.deploy.plan import Change, Ready
from hitmesh.deploy.runner import Runner
from hitmesh.errors import CommandError, HitmeshError

# The roles that must not run while a backup is brought back; a scaler would start some.
COUNTING: Final = ("balancer", "collector", "processor", "scaler")


def running(desk: Desk) -> list[str]:
    """The instances that would be stopped. Raises CommandError when a host doesn't answer."""
    facts = desk.facts()
    up = {
        (name, one.name) for name, fact in facts.items() for one in fact.programs or () if one.pid
    }  # also one that is just starting
    every = desk.fleet.in_order(spares_up(desk.fleet, facts))
    return [one.name for host, one in every if one.role in COUNTING and (host.name, one.name) in up]


def stop(desk: Desk) -> None:
    """Drain and stop them: who starts others first, and who takes hits before who counts them."""
    for host, one in reversed(list(desk.fleet.in_order(spares_up(desk.fleet, desk.facts())))):
        if one.role in COUNTING:
            desk.tell(f"{host.name}: drain and stop {one.name}")
            desk.hosts[host.name].stop(one.name)


def start(desk: Desk, may_go_on: Callable[[], None]) -> None:
    """Start each with the release that it has; what a scaler had started it starts again by itself.

    Raises CommandError for hosts that don't answer; the others are started.
    """
    answers = desk.each(desk.fleet.hosts, lambda host: host.facts())
    steps = [
        Change(host.name, one.name, release, "")
        for host, one in desk.fleet.in_order()
        if one.role in COUNTING
        and isinstance(facts := answers[host.name], Facts)
        and (release := facts.current.get(one.name))
    ]
    Runner(desk.fleet, desk.hosts, {}, desk.tell, may_go_on).run(steps, undo=False)
    if reasons := [str(answer) for answer in answers.values() if isinstance(answer, CommandError)]:
        raise CommandError("; ".join(reasons), hint="on the other hosts all were started")


def wait(desk: Desk) -> None:
    """Until every instance and every partition is there."""
    Runner(desk.fleet, desk.hosts, {}, desk.tell).run([Ready(desk.any_host().name)], undo=False)


def start_again(desk: Desk, names: Collection[str]) -> None:
    """Start those of these names, whatever becomes of the others; what can't be started is told."""
    for host, one in desk.fleet.in_order():
        if one.name in names:
            try:
                done = desk.hosts[host.name].start(one.name)
                said = f"starts again: {done.state.lower()} {done.why}".rstrip()
            except HitmeshError as error:
                said = f"can't be started again: {error}"
            desk.tell(f"{host.name}: {one.name} {said}")
