"""How long a client that retries isn't served when the host that has the virtual IP fails, in one way after another.

Two balancers' hosts with keepalived, one host with all the rest, and the client's, as network namespaces on this
machine; the client asks again after 0.25 s, on a new connection each time. Each kind of failure, and each return of
what had failed, as often as `--rounds` says. Then a balancer is ended as supervisord does it, and started again, under
load from clients that try nothing twice: there every request must be answered, and counted once.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.figures import milliseconds
from tests.services import wait_for
from tests.wan.bed import why_not
from tests.wan.virtual_ip import PORT, VirtualIp
from tests.wan.visits import Retrying, Steady

PAGE = "example.com/load"
NICE = -10  # hosts don't share their cores with whatever else runs here
REST_S = 2.0  # between two failures: whoever was bad must be good again


def main() -> int:
    """Run the bench; 1 when it can't, or a request was lost where none may be."""
    parser = argparse.ArgumentParser(prog="bench/run vip", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", choices=[*KINDS, "drained"], help="one kind of failure")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 1
    os.setpriority(os.PRIO_PROCESS, 0, NICE)  # the client, and whatever is started again
    with tempfile.TemporaryDirectory(prefix="hitmesh-vip-") as folder, VirtualIp(Path(folder)) as vip:
        print(f"{'':44}  median   worst  of {options.rounds}", flush=True)
        for name, kind in KINDS.items():
            if options.only in (None, name):
                _measure(vip, kind, options.rounds)
        if options.only in (None, "drained"):
            return 0 if _drained(vip, options.rounds) else 1
        return 0


def _measure(vip: VirtualIp, kind: Callable[[VirtualIp, int], Callable[[], None]], rounds: int) -> None:
    """`kind` makes a host fail, and returns what undoes that."""
    holes: dict[str, list[float]] = defaultdict(list)
    moves = failures = 0
    for _ in range(rounds):
        _settle(vip)
        [holder] = vip.holders()
        with Retrying(vip.client, vip.address, PORT) as client:
            time.sleep(0.5)
            began = time.monotonic()
            undo = kind(vip, holder)
            holes["away"].append(client.hole_s(began))
            failed, began = client.failed, time.monotonic()
            undo()
            holes["back"].append(client.hole_s(began))
            failures += client.failed - failed
        moves += vip.holders() == [holder]
    words = (kind.__doc__ or "").rstrip(".")
    for way, text in (("away", words), ("back", "  and back again")):
        worst, median = max(holes[way]), statistics.median(holes[way])
        print(f"{text:44}  {milliseconds(median):>6}  {milliseconds(worst):>6}", flush=True)
    print(f"  coming back failed {failures} requests, and took the address {moves} times", flush=True)


def _killed(vip: VirtualIp, holder: int) -> Callable[[], None]:
    """The balancer is killed."""
    name = f"balancer-{holder}"
    vip.signal(name, signal.SIGKILL)
    return lambda: vip.start(name)


def _stopped(vip: VirtualIp, holder: int) -> Callable[[], None]:
    """The balancer is stopped by SIGSTOP."""
    name = f"balancer-{holder}"
    vip.signal(name, signal.SIGSTOP)
    return lambda: vip.signal(name, signal.SIGCONT)


def _cut(vip: VirtualIp, holder: int) -> Callable[[], None]:
    """The host is cut off."""
    vip.cut(holder)
    return lambda: vip.heal(holder)


def _unreached(vip: VirtualIp, holder: int) -> Callable[[], None]:
    """The balancer reaches no collector."""
    gone = ExitStack()
    gone.enter_context(vip.without_collectors(holder))
    return gone.close


def _drained(vip: VirtualIp, rounds: int) -> bool:
    with Steady(vip.client, vip.address, PORT, PAGE) as load:
        time.sleep(1.0)
        for _ in range(rounds):
            _settle(vip)
            [holder] = vip.holders()
            vip.stop(f"balancer-{holder}")
            wait_for(lambda: len(vip.holders()) == 1, what="another host to have the address")
            vip.start(f"balancer-{holder}")
        time.sleep(1.0)
    print(
        f"{rounds} times ended and started again under load: {load.answered:,} requests answered, "
        f"{len(load.failed)} failed, the slowest in {load.slowest_s:.2f} s"
    )
    for text in load.failed[:10]:
        print(f"  {text}")
    try:
        wait_for(lambda: vip.total(PAGE) == load.answered, what="every answered hit to be counted once")
    except AssertionError as error:
        print(f"  {error}; the total is {vip.total(PAGE):,}")
        return False
    print("  each was counted once")
    return not load.failed


KINDS = {"killed": _killed, "stopped": _stopped, "cut": _cut, "unreached": _unreached}


def _settle(vip: VirtualIp) -> None:
    try:
        wait_for(vip.is_settled, within_s=60.0, what="both hosts to be well")
    except AssertionError:
        print(vip.logs(), file=sys.stderr)
        raise
    time.sleep(REST_S)


if __name__ == "__main__":
    sys.exit(main())
