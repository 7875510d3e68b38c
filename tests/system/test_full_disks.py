"""A mesh under supervisord whose disks are full for a while: one after the other, each by itself.

While a disk is full hits may be refused, and nobody dies; with room again everything is as before, by itself.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from hitmesh.cli import folder as state_folder
from tests.services import wait_for
from tests.services.disks import full, small_disk
from tests.system.user import DC, PATIENCE_S, PATIENT, User, answer_to, kill_all, mesh, up_again
from tests.system.visitors import Visitor, accepted, at_work, doubtful

FULL_S = 4.0  # longer than a put or a write waits for anything
DISKS = {"state": "", "spool": f"{DC}/spool", "totals": f"{DC}/totals", "settings": f"{DC}/settings", "logs": "log"}
STORES = {name: f"sqlite:///{name}/{name}.db" for name in ("totals", "settings")}
TIMING = {**PATIENT, "heartbeat_s": 0.5}
FEW = {"nexus": 2, "processor": 1, "collector": 1}


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A mesh each of whose files has a small disk of its own."""
    folder = tmp_path_factory.mktemp("disks")
    stores = {**STORES, "spools": ["sqlite:///spool/spool.db"]}
    with ExitStack() as stack:
        for path in DISKS.values():
            stack.enter_context(small_disk(folder / "var" / path, "8m"))
        yield stack.enter_context(mesh(folder, stores=stores, timing=TIMING, **FEW))


def assert_exact(user: User, site: str, visitor: Visitor) -> None:
    user.wait_until_settled()
    least, doubt = accepted(visitor), doubtful(visitor)
    counted = Counter(user.committed(f"{site}/"))
    assert least - counted == Counter(), "accepted, and not counted"
    assert counted - least - doubt == Counter(), "counted, and never accepted"


def complain(user: User) -> None:
    """Make a collector write a line to its log."""
    with socket.create_connection(user.collectors()[0].removeprefix("http://").split(":")) as connection:  # type: ignore[arg-type]
        connection.sendall(b"GARBAGE\r\n\r\n")
        connection.recv(1)


def goes_on(visitor: Visitor) -> None:
    before = sum(accepted(visitor).values())
    wait_for(lambda: sum(accepted(visitor).values()) > before + 10, within_s=PATIENCE_S, what="hits to be accepted")


@pytest.mark.parametrize("disk", DISKS)
def test_a_full_disk_is_an_outage_only_while_it_is_full(user: User, disk: str) -> None:
    before = user.processes()
    visitor = Visitor(user.collectors()[0], [f"{disk}/{number}" for number in range(20)])
    with at_work(visitor):
        goes_on(visitor)
        with full(user.folder / DISKS[disk]):
            if disk == "spool":
                wait_for(lambda: sum(visitor.refused.values()) > 3, within_s=PATIENCE_S, what="hits to be refused")
            until = time.monotonic() + FULL_S
            user.supervisorctl("restart", f"{DC}-nexus-2")  # supervisord has something to say of it
            while time.monotonic() < until:
                complain(user)
                time.sleep(0.01)
        goes_on(visitor)
        wait_for(
            lambda: answer_to(user.collectors()[0], "GET", "/health")[0] == 200, within_s=PATIENCE_S, what="health"
        )
    assert_exact(user, disk, visitor)
    wait_for(lambda: {each["state"] for each in user.ask("status")} == {"up"}, within_s=PATIENCE_S, what="all to be up")
    assert user.processes()[0] == before[0]
    user.assert_balanced()


def test_a_mesh_whose_supervisord_was_killed_goes_on_and_says_so(user: User) -> None:
    visitor = Visitor(user.collectors()[0], [f"orphaned/{number}" for number in range(20)])
    with at_work(visitor):
        goes_on(visitor)
        kill_all([int(state_folder.pid_path(user.folder).read_text())])
        complain(user)
        status = user.run("status")
        assert status.returncode == 0
        assert "supervisord doesn't answer; its processes go on without it" in status.stderr
        goes_on(visitor)
        time.sleep(1)
        goes_on(visitor)
    assert not doubtful(visitor)
    assert_exact(user, "orphaned", visitor)
    user.assert_balanced()
    assert user.run("down").returncode == 0
    up_again(user)
    user.assert_balanced()
    assert Counter(user.committed("orphaned/")) == accepted(visitor)
