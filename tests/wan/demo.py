"""`make demo-wan`: three datacenters on the bed of hosts, shown live while links are cut and one loses everything.

One of them is IPv4 inside and IPv6 to the others, one IPv6 only, one behind a router that translates.

    sudo make demo-wan
    sudo make demo-wan DEMO_ARGS="--cut-s 60 --delay-ms 200 --loss 0.05"

Root only. It makes network namespaces and TUN devices, and nothing of it is left afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.live import Live

from tests.access_log import lines
from tests.services import wait_for
from tests.wan import netns
from tests.wan.agreement import wait_for_agreement
from tests.wan.bed import DELAY_MS, LOSS, Bed, why_not
from tests.wan.clients import Guest, pages_in, replay_into
from tests.wan.datacenter import LET_IN, Datacenter, Stores
from tests.wan.mesh import HOSTS, NETWORKS, Mesh
from tests.wan.networks import Network
from tests.wan.picture import Picture

SITE = "demo.example"
CUT_S = 30.0  # the other datacenters are called dead after 25
AGREED_S = 60.0
FRAMES_A_SECOND = 4
PAUSE_S = 0.05  # of a guest, between two requests: the picture is the point, not the load


def main() -> int:
    """Show it; 1 when this machine can't, or the datacenters don't agree."""
    parser = argparse.ArgumentParser(prog="make demo-wan", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--delay-ms", type=float, default=DELAY_MS, help="of a packet, one way (%(default)s)")
    parser.add_argument("--loss", type=float, default=LOSS, help="share of packets, each way (%(default)s)")
    parser.add_argument("--cut-s", type=float, default=CUT_S, help="that a datacenter is cut off (%(default)s)")
    parser.add_argument("--limit", type=int, default=1_000, help="hits of the log, into each datacenter (%(default)s)")
    parser.add_argument("--ipv4", action="store_true", help="have all of them on IPv4, each as the others see it")
    parser.add_argument("--keep", action="store_true", help="leave the state folder, with its logs, for reading")
    options = parser.parse_args()
    if reason := why_not():
        print(f"make demo-wan: {reason}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    folder = Path(tempfile.mkdtemp(prefix="hitmesh-demo-"))
    try:
        with Bed(
            HOSTS, delay_ms=options.delay_ms, loss=options.loss, networks=_networks(options), let_in=LET_IN
        ) as bed:
            mesh = Mesh(bed, folder, stores=_stores())
            return _show(mesh, options)
    except KeyboardInterrupt:
        return 1
    except AssertionError as error:
        print(f"make demo-wan: {error}", file=sys.stderr)
        options.keep = True
        return 1
    finally:
        if options.keep:
            print(f"logs and stores are in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _stores() -> Stores:
    missing = [program for program in ("consul", "beanstalkd") if shutil.which(program) is None]
    if not missing:
        return "consul"
    print(f"{' and '.join(missing)} not installed (scripts/install-services does it): on SQLite", file=sys.stderr)
    return "sqlite"


def _networks(options: argparse.Namespace) -> Mapping[str, Network]:
    if options.ipv4:
        return {}
    if shutil.which(netns.NFT) is not None:
        return NETWORKS
    print("nft not installed (scripts/install-services does it): all on IPv4", file=sys.stderr)
    return {}


def _show(mesh: Mesh, options: argparse.Namespace) -> int:
    console = Console()
    picture = Picture(mesh)
    with _shown(picture, console):
        picture.say(f"starting three datacenters, {options.delay_ms:g} ms and {options.loss:.1%} loss apart")
        for dc in mesh:
            host = dc.hosts[0]
            picture.say(
                f"{dc.name}: {host.address}, {f'{host.wan_address} to the others' if host.wan_address else 'to all'}"
            )
        with mesh, picture.kept_up():
            expected = _replay(mesh, picture, options.limit)
            guests = [Guest(dc, _pages(), pause_s=PAUSE_S) for dc in mesh]
            _at_work(mesh, picture, guests, options.cut_s)
            for guest in guests:
                expected += guest.accepted
                assert not guest.wrong, guest.wrong
            picture.say("no more hits: do they agree?")
            took_s = wait_for_agreement(mesh, SITE, expected, within_s=AGREED_S)
            picture.say(f"they agree, {took_s:.1f} s after the last hit")
    console.print(f"all three say {expected.total():,}, page by page ({len(expected):,} pages)", highlight=False)
    return 0


def _replay(mesh: Mesh, picture: Picture, limit: int) -> Counter[str]:
    log = mesh.folder / "access.log"
    log.write_bytes(b"".join(lines()[:limit]))
    picture.say(f"an access log of {limit:,} requests is replayed into all three at once, 8 clients each")
    replayed = replay_into(mesh, log, SITE)
    for name, each in replayed.items():
        assert not each.failed, f"{name}: {each.failed} hits failed: {dict(each.reasons)}"
    once = pages_in(log, SITE)
    expected = Counter({page: 3 * count for page, count in once.items()})
    took_s = wait_for_agreement(mesh, SITE, expected, within_s=AGREED_S)
    picture.say(f"all three say {expected.total():,}, {took_s:.1f} s after the last answer")
    _pause(3)
    return expected


def _at_work(mesh: Mesh, picture: Picture, guests: list[Guest], cut_s: float) -> None:
    """What happens while hits go on."""
    last = guests[-1]
    lost = last.dc
    for guest in guests:
        guest.start()
    try:
        picture.say("eu-west is cut off from both others; all go on counting")
        mesh.bed.cut("eu-west")
        _pause(cut_s)
        mesh.bed.heal("eu-west")
        picture.say("the links are healed")
        _pause(8)
        assert not any(guest.troubles for guest in guests), "hits failed while the links were cut"
        last.stop()
        picture.say(f"{lost.name} takes no hits for now; its last ones go to the others")
        wait_for(lambda: _is_told(mesh, lost, last.accepted), within_s=AGREED_S, what=f"{lost.name}'s hits elsewhere")
        lost.kill()
        lost.wipe()
        picture.say(f"{lost.name} is dead: every process killed, its stores and spools wiped")
        _pause(8)
        lost.start()
        picture.say(f"{lost.name} starts anew, and asks the others for its rows")
        mesh.wait_until_ready()
        picture.say(f"{lost.name} is back with all that it had counted, and takes hits again")
        guests.append(Guest(lost, _pages(), pause_s=PAUSE_S, counts=last.counts))
        guests[-1].start()
        _pause(5)
    finally:
        for guest in guests:
            if guest.is_alive():
                guest.stop()


def _is_told(mesh: Mesh, lost: Datacenter, accepted: Counter[str]) -> bool:
    """Whether every other datacenter has that one's part of all that its guest was answered."""
    for name in mesh.others(lost.name):
        entries = mesh[name].totals(f"{SITE}/guests/")
        if any(entries[page]["dcs"].get(lost.name, {"count": 0})["count"] < count for page, count in accepted.items()):
            return False
    return True


def _pages() -> list[str]:
    return [f"{SITE}/guests/{number}" for number in range(20)]


def _pause(seconds: float) -> None:
    """Let people look."""
    time.sleep(seconds)


@contextlib.contextmanager
def _shown(picture: Picture, console: Console) -> Iterator[None]:
    """The picture in place on a terminal; elsewhere only what happens, a line each."""
    if not console.is_terminal:
        picture.on_say = lambda text: console.print(text, highlight=False)
        yield
        return
    with Live(get_renderable=picture.table, console=console, refresh_per_second=FRAMES_A_SECOND):
        yield


if __name__ == "__main__":
    sys.exit(main())
