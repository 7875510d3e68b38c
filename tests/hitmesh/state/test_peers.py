"""Which other datacenters there are: whoever was ever named, until it is retired; and when that isn't known."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hitmesh.protocol.messages import Instance
from hitmesh.state.peers import UNHEARD, Peers
from hitmesh.state.view import MeshView
from tests.hitmesh.mesh.instances import answer, change, instance, seen


def nexus(name: str = "nexus-1", unheard: float = 0) -> Instance:
    return replace(instance(name, role="nexus"), load={UNHEARD: unheard})


def view(*instances: Instance, warm: bool = True) -> MeshView:
    """A view whose only Nexus has said that these are alive."""
    one = MeshView(["A"], dc="dev", timeout_s=3.0)
    one.change("A", change(1, warm=warm), 0.0)
    one.answer("A", answer(1, *(seen(each) for each in instances), warm=warm), 0.0)
    return one


def test_listed_heard_and_found_ones_are_all_there() -> None:
    peers = Peers("dev", ["listed"])
    peers.saw(["found", "dev"])
    heard = replace(instance("processor-1"), dc="heard")
    assert peers.known(view(nexus(), heard), ()) == frozenset({"listed", "heard", "found"})


def test_whoever_was_heard_and_has_rows_here_stays_until_it_is_retired() -> None:
    peers = Peers("dev", [])
    peers.known(view(nexus(), replace(instance("processor-1"), dc="heard")), ())
    peers.saw(["heard"])
    assert peers.known(view(nexus()), ()) == frozenset({"heard"})
    assert peers.known(view(nexus()), {"heard"}) == frozenset()
    assert peers.so_far({"heard"}) == frozenset()


def test_a_stranger_that_was_heard_and_left_nothing_is_forgotten_with_its_silence() -> None:
    peers = Peers("dev", [])
    assert peers.known(view(nexus(), replace(instance("processor-1"), dc="stranger")), ()) == frozenset({"stranger"})
    assert peers.rooted(()) == frozenset()
    assert peers.known(view(nexus()), ()) == frozenset()


def test_nobody_else_is_an_answer() -> None:
    assert Peers("dev", []).known(view(nexus()), ()) == frozenset()


@pytest.mark.parametrize(
    "unknown",
    [
        None,
        MeshView(["A"], dc="dev", timeout_s=3.0),
        view(nexus(), warm=False),
        view(instance("processor-1")),
        view(nexus("nexus-1"), nexus("nexus-2", unheard=1)),
    ],
    ids=[
        "no view",
        "no word of a Nexus yet",
        "it may not know all",
        "no Nexus alive",
        "one of two doesn't hear everybody",
    ],
)
def test_it_is_not_known_whether_there_are_more(unknown: MeshView | None) -> None:
    peers = Peers("dev", ["listed"])
    assert peers.known(unknown, ()) is None
    assert peers.so_far(()) == {"listed"}


def test_who_is_heard_while_not_all_are_is_remembered() -> None:
    peers = Peers("dev", [])
    assert peers.known(view(nexus(unheard=1), replace(instance("processor-1"), dc="heard")), ()) is None
    assert peers.so_far(()) == {"heard"}
