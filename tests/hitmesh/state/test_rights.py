"""Who may connect where, and say what: every role, and every message of the protocol."""

from __future__ import annotations

import itertools

import pytest

from hitmesh.protocol.messages import (
    Ack,
    Batch,
    Close,
    Control,
    Have,
    Heartbeat,
    Instance,
    Leave,
    Lookup,
    Message,
    Neighbours,
    News,
    Read,
    Records,
    Redirect,
    Rows,
    Seen,
    make,
)
from hitmesh.protocol.names import with_key
from hitmesh.state.keylist import KEY_ROLES, KeyList, Peer
from hitmesh.state.rights import LINKS, may_connect, refusal

HERE, THERE = "eu-west", "us-west"
COLLECTOR, PROCESSOR = Peer(HERE, "collector", "collector-1"), Peer(HERE, "processor", "processor-1")
NEXUS, BALANCER, OPERATOR = Peer(HERE, "nexus", "nexus-1"), Peer(HERE, "balancer", "b"), Peer(HERE, "operator", "ops")
DASHBOARD = Peer(HERE, "dashboard", "dashboard-1")
FAR_NEXUS, FAR_PROCESSOR = Peer(THERE, "nexus", "nexus-1"), Peer(THERE, "processor", "processor-1")
EVERYBODY = [Peer(dc, role, f"{role}-1") for dc in (HERE, THERE) for role in KEY_ROLES]
KEYS = {f"{number:064x}": peer for number, peer in enumerate((COLLECTOR, PROCESSOR, FAR_PROCESSOR), start=1)}
KEY_OF = {peer: key for key, peer in KEYS.items()}
AT = "tcp://10.0.0.1:4000"
OWNER = KeyList(KEYS).owner

MAY_CONNECT = {
    "heartbeats": {Peer(HERE, role, f"{role}-1") for role in KEY_ROLES if role != "operator"} | {FAR_NEXUS},
    "changes": {Peer(HERE, role, f"{role}-1") for role in KEY_ROLES},
    "lookups": {Peer(HERE, role, f"{role}-1") for role in KEY_ROLES}
    | {FAR_NEXUS, Peer(THERE, "operator", "operator-1")},
    "batches": {COLLECTOR},
    "acks": {PROCESSOR},
    "rows": {FAR_PROCESSOR},
    "records": {Peer(HERE, role, f"{role}-1") for role in KEY_ROLES if role != "operator"},
    "logs": {Peer(dc, "operator", "operator-1") for dc in (HERE, THERE)},
    "news": {Peer(dc, "dashboard", "dashboard-1") for dc in (HERE, THERE)},
}


@pytest.mark.parametrize(("link", "peer"), list(itertools.product(LINKS, EVERYBODY)), ids=str)
def test_who_may_connect_where(link: str, peer: Peer) -> None:
    assert may_connect(peer, link, HERE) is (peer in MAY_CONNECT[link])


def heartbeat(peer: Peer, *, id: str = "", at: str = "") -> Message:
    endpoints = {"batches": at} if at else {}
    instance = Instance(*peer, id or f"{peer.name}.0a1b", "up", 1, 0, endpoints, {}, {})
    return make(Heartbeat, 1, 1000, instance)


def records(peer: Peer, *, id: str = "") -> Message:
    return make(Records, *peer, id or f"{peer.name}.0a1b", 1, 0, ())


def neighbours(dc: str, nexus: str, seen: tuple[Seen, ...] = (), **nexuses: tuple[str, ...]) -> Message:
    return make(Neighbours, dc, nexus, 1, 5000, 32, "-", nexuses, seen)


def shown(peer: Peer, key: str) -> tuple[Seen, ...]:
    return (Seen(Instance(*peer, "x.0a", "up", 1, 0, {"rows": with_key(AT, key)}, {}, {}), 1, 0, True),)


ALLOWED: list[tuple[Peer, Message]] = [
    (COLLECTOR, heartbeat(COLLECTOR)),
    (COLLECTOR, heartbeat(COLLECTOR, at=with_key(AT, KEY_OF[COLLECTOR]))),
    (COLLECTOR, heartbeat(COLLECTOR, at="http://10.0.0.1:80")),
    (BALANCER, heartbeat(Peer(HERE, "balancer", "b-w3"), id="b-w3-00ff")),
    (DASHBOARD, heartbeat(DASHBOARD)),
    (DASHBOARD, make(Lookup, 1, "snapshot", "")),
    (COLLECTOR, make(Leave, "collector-1.0a1b")),
    (FAR_NEXUS, neighbours(THERE, "nexus-1-00ff")),
    (FAR_NEXUS, neighbours(THERE, "nexus-1-00ff", shown(FAR_PROCESSOR, KEY_OF[FAR_PROCESSOR]))),
    (FAR_NEXUS, neighbours(THERE, "nexus-1-00ff", shown(FAR_PROCESSOR, "e" * 64), asia=(with_key(AT, "f" * 64),))),
    (PROCESSOR, make(Heartbeat, 1, 1000, Instance(*PROCESSOR, "processor-1.0a", "up", 1, 0, {}, {}, {3: 1}))),
    (COLLECTOR, make(Lookup, 1, "snapshot", "")),
    (OPERATOR, make(Control, 1, "forget", "x")),
    (COLLECTOR, make(Batch, "collector-2.0a", with_key(AT, KEY_OF[COLLECTOR]), ())),
    (COLLECTOR, make(Close, "collector-1.0a", ())),
    (PROCESSOR, make(Ack, "collector-1.0a", ())),
    (PROCESSOR, make(Redirect, "processor-1.0a", {})),
    (FAR_PROCESSOR, make(Have, THERE, "processor-1.0a", with_key(AT, KEY_OF[FAR_PROCESSOR]), ())),
    (FAR_PROCESSOR, make(Rows, THERE, "processor-1.0a", ())),
    (COLLECTOR, records(COLLECTOR)),
    (NEXUS, records(NEXUS, id="nexus-1-00ff")),
    (BALANCER, records(Peer(HERE, "balancer", "b-w3"), id="b-w3-00ff")),
    (OPERATOR, make(Read, 1, 0, 1, 0, 0)),
    (Peer(THERE, "operator", "o"), make(Read, 1, 0, 1, 0, 0)),
]

REFUSED: list[tuple[Peer, Message, str]] = [
    (COLLECTOR, heartbeat(Peer(HERE, "collector", "collector-2")), "speaks as eu-west/collector/collector-2"),
    (COLLECTOR, heartbeat(Peer(HERE, "nexus", "collector-1")), "speaks as eu-west/nexus/collector-1"),
    (COLLECTOR, heartbeat(Peer(THERE, "collector", "collector-1")), "speaks as us-west/collector/collector-1"),
    (COLLECTOR, heartbeat(Peer(HERE, "collector", "collector-1-w1"), id="collector-1-w1-00"), "speaks as"),
    (BALANCER, heartbeat(Peer(HERE, "balancer", "b-wx"), id="b-wx-00"), "speaks as eu-west/balancer/b-wx"),
    (COLLECTOR, heartbeat(COLLECTOR, id="collector-2.0a1b"), "speaks as collector-2.0a1b"),
    (COLLECTOR, heartbeat(COLLECTOR, id="collector-1"), "speaks as collector-1"),
    (COLLECTOR, heartbeat(COLLECTOR, at=AT), "isn't under its key"),
    (COLLECTOR, heartbeat(COLLECTOR, at=with_key(AT, KEY_OF[PROCESSOR])), "isn't under its key"),
    (COLLECTOR, heartbeat(COLLECTOR, at=with_key(AT, "f" * 64)), "isn't under its key"),
    (FAR_NEXUS, heartbeat(FAR_NEXUS), "is of another datacenter"),
    (COLLECTOR, make(Leave, "collector-2.0a1b"), "speaks as collector-2.0a1b"),
    (Peer(HERE, "collector", "a"), make(Leave, "a.b.0a1b"), "speaks as a.b.0a1b"),
    (FAR_NEXUS, make(Leave, "nexus-1-00ff"), "is of another datacenter"),
    (FAR_NEXUS, neighbours("ap-south", "nexus-1-00ff"), "speaks as a Nexus of datacenter ap-south"),
    (FAR_NEXUS, neighbours(THERE, "nexus-2-00ff"), "speaks as nexus-2-00ff"),
    (COLLECTOR, neighbours(HERE, "collector-1-00ff"), "speaks as a Nexus of datacenter eu-west"),
    (FAR_NEXUS, neighbours(THERE, "nexus-1-00ff", shown(FAR_PROCESSOR, KEY_OF[COLLECTOR])), "under the key of eu-west"),
    (FAR_NEXUS, neighbours(THERE, "nexus-1-00ff", asia=(with_key(AT, KEY_OF[FAR_PROCESSOR]),)), "under the key of us"),
    (
        COLLECTOR,
        make(Heartbeat, 1, 1000, Instance(*COLLECTOR, "collector-1.0a", "up", 1, 0, {}, {}, {3: 1})),
        "claims partitions, as only processors may",
    ),
    (DASHBOARD, heartbeat(COLLECTOR), "speaks as eu-west/collector/collector-1"),
    (DASHBOARD, make(Control, 1, "forget", "x"), "gives an order, as only operators may"),
    (DASHBOARD, make(News, HERE, "dashboard-1.0a", 1, 1, b""), "says what nobody may say here"),
    (COLLECTOR, make(Control, 1, "forget", "x"), "gives an order, as only operators may"),
    (Peer(THERE, "operator", "o"), make(Control, 1, "forget", "x"), "is of another datacenter"),
    (COLLECTOR, make(Batch, "collector-1.0a", AT, ()), "isn't under its key"),
    (COLLECTOR, make(Batch, "collector-1.0a", with_key(AT, KEY_OF[PROCESSOR]), ()), "isn't under its key"),
    (COLLECTOR, make(Close, "collector-2.0a", ()), "speaks as collector-2.0a"),
    (PROCESSOR, make(Redirect, "processor-2.0a", {}), "speaks as processor-2.0a"),
    (
        FAR_PROCESSOR,
        make(Have, HERE, "processor-1.0a", with_key(AT, KEY_OF[FAR_PROCESSOR]), ()),
        "speaks as datacenter",
    ),
    (FAR_PROCESSOR, make(Have, THERE, "processor-1.0a", AT, ()), "isn't under its key"),
    (FAR_PROCESSOR, make(Rows, "ap-south", "processor-1.0a", ()), "speaks as datacenter ap-south"),
    (FAR_PROCESSOR, make(Rows, THERE, "processor-2.0a", ()), "speaks as processor-2.0a"),
    (COLLECTOR, records(PROCESSOR), "speaks as eu-west/processor/processor-1"),
    (COLLECTOR, records(Peer(HERE, "collector", "collector-2")), "speaks as eu-west/collector/collector-2"),
    (COLLECTOR, records(COLLECTOR, id="collector-2.0a1b"), "speaks as collector-2.0a1b"),
    (FAR_PROCESSOR, records(FAR_PROCESSOR), "is of another datacenter"),
    (FAR_PROCESSOR, records(PROCESSOR), "speaks as eu-west/processor/processor-1"),
    (COLLECTOR, make(Read, 1, 0, 1, 0, 0), "reads what is recorded, as only operators may"),
]


@pytest.mark.parametrize(("peer", "message"), ALLOWED, ids=lambda one: type(one).__name__)
def test_what_is_one_s_own_may_be_said(peer: Peer, message: Message) -> None:
    assert refusal(peer, message, HERE, OWNER) == ""


@pytest.mark.parametrize(("peer", "message", "why"), REFUSED)
def test_what_is_another_s_may_not(peer: Peer, message: Message, why: str) -> None:
    assert why in refusal(peer, message, HERE, OWNER)
