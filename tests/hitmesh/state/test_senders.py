"""Whose parts are added to a lane."""

from __future__ import annotations

import pytest

from hitmesh.state.keylist import Peer
from hitmesh.state.senders import why_not
from hitmesh.state.view import MeshView
from tests.hitmesh.mesh.instances import change, instance, seen

DC = "dev"
WORKER = "collector-1.0a1b"
OWN, OTHER = Peer(DC, "collector", "collector-1"), Peer(DC, "collector", "collector-2")
RETRY_DELAY_S = 5.0
ACKED = {"unacked_s": 1.0, "unknown": 0.0}


def shown(load: dict[str, float] | None = None) -> MeshView:
    """What a processor sees; the worker was heard at 0."""
    view = MeshView(["A"], dc=DC, timeout_s=3.0)
    one = instance("collector-1", WORKER, role="collector", load=ACKED if load is None else load)
    view.change("A", change(1, seen(one)), 0.0)
    return view


def test_a_worker_that_lives_and_gets_its_acks_sends_its_own_and_nobody_else_does() -> None:
    assert why_not(OWN, WORKER, shown(), 1.0, RETRY_DELAY_S) == ""
    assert why_not(OTHER, WORKER, shown(), 1.0, RETRY_DELAY_S) == (
        "dev/collector/collector-2 sends it, and its worker lives and gets its acks"
    )


@pytest.mark.parametrize("worker", ["collector-1.0c", "collector-3.0a", "no id"])
def test_of_a_worker_that_is_not_shown_anybody_may_have_claimed_a_job(worker: str) -> None:
    assert why_not(OTHER, worker, shown(), 1.0, RETRY_DELAY_S) == ""


def test_of_a_worker_that_is_not_heard_though_nobody_has_called_it_dead_yet_too() -> None:
    assert why_not(OTHER, WORKER, shown(), RETRY_DELAY_S / 2, RETRY_DELAY_S) == ""


@pytest.mark.parametrize(
    "load",
    [
        {"unacked_s": 2.0, "unknown": 0.0},  # cut off from the owner, or left to the spool
        {"unacked_s": 0.0, "unknown": 1.0},  # its put had no clear answer, so it doesn't send it itself
        {},  # an older release
    ],
)
def test_of_one_that_says_that_it_waits_too(load: dict[str, float]) -> None:
    assert why_not(OTHER, WORKER, shown(load), 1.0, RETRY_DELAY_S) == ""


def test_without_keys_nobody_is_known_and_everybody_may() -> None:
    assert why_not(None, WORKER, shown(), 1.0, RETRY_DELAY_S) == ""
