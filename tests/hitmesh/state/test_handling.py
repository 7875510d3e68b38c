"""Whom an operator may drain or weigh, by tables."""

from __future__ import annotations

import pytest

from hitmesh.cli import folder
from hitmesh.config import Proxy, load
from hitmesh.config.hands import Hands
from hitmesh.errors import CommandError
from hitmesh.state.handling import Known, check_drain, check_weight, known
from hitmesh.state.standing import DRAINED
from tests.hitmesh.mesh.instances import instance, with_state

CONFIG = load(folder.shipped("config/dev.toml"))
NOBODY = Hands()
ROUTES = [("default", Proxy(service="collector")), ("a.example", Proxy(backends=("10.0.0.1:80", "10.0.0.2:80")))]
EVERYBODY = known(
    CONFIG,
    [
        *(instance(name, role="collector") for name in ("collector-1", "collector-2", "collector-9")),
        instance("processor-1"),
    ],
    ROUTES,
)


def refusal(name: str, hands: Hands = NOBODY, *, everybody: list[Known] = EVERYBODY) -> str:
    try:
        check_drain(name, everybody, hands, force=False)
    except CommandError as error:
        check_drain(name, everybody, hands, force=True) if "--force" in error.hint else None
        return error.reason
    return ""


def test_the_living_the_configured_and_the_backends_of_routes_are_known() -> None:
    states = {one.name: (one.role, one.state, one.place) for one in EVERYBODY}
    assert states["collector-9"] == ("collector", "up", "")
    assert states["processor-2"] == ("processor", "-", "")
    assert states["10.0.0.1:80"] == ("backend", "up", "a.example")
    assert {one.state for one in known(CONFIG, None, ())} == {"up"}, "without a Nexus nobody is known to be away"


def test_one_of_several_can_be_drained() -> None:
    assert refusal("collector-1") == refusal("10.0.0.1:80") == ""


def test_draining_the_last_one_wants_force() -> None:
    assert refusal("processor-1") == (
        "processor-1 is the last processor that is up and not drained: hits would wait in the spool (--force drains it)"
    )
    others = Hands(frozenset({"collector-2", "collector-9", "10.0.0.2:80"}))
    assert "the last collector" in refusal("collector-1", others)
    assert "the last backend of the route a.example" in refusal("10.0.0.1:80", others)


def test_one_that_says_that_it_is_drained_is_none_that_is_left() -> None:
    everybody = known(CONFIG, [instance("processor-1"), with_state(instance("processor-2"), DRAINED)], ())
    assert "the last processor" in refusal("processor-1", everybody=everybody)


def test_a_nexus_and_a_balancer_cannot_be_drained() -> None:
    assert "a nexus can't be drained" in refusal("nexus-1")
    assert "a balancer can't be drained" in refusal("balancer-1")


def test_a_name_that_nobody_has_is_answered_with_the_nearest() -> None:
    assert refusal("colector-1") == "no instance or backend is called 'colector-1' (did you mean collector-1?)"


def test_who_gets_no_requests_has_no_weight() -> None:
    check_weight("collector-1", EVERYBODY)
    check_weight("10.0.0.1:80", EVERYBODY)
    with pytest.raises(CommandError, match="a processor has no weight"):
        check_weight("processor-1", EVERYBODY)
