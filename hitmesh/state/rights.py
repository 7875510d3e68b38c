"""What a key may say, and where: the one place. Pure.

Who speaks is known by the key of the connection, not by what a message says of itself. A key is an instance's
(datacenter, role, name); a *link* is a kind of bound socket.

    link         who may connect                           what they may say there
    heartbeats   every role of its datacenter              Heartbeat, Leave: of itself
                 Nexuses of the others                     Neighbours: of their own datacenter
    changes      everybody of its datacenter               nothing: they listen
    lookups      everybody of its datacenter               Lookup; an operator also Control
                 Nexuses and operators of the others       Lookup
    batches      collectors of its datacenter              Close: of their own lanes; Batch: hitmesh.state.senders
    acks         processors of its datacenter              Ack, Redirect
    rows         processors of the other datacenters       Have, Rows: of their own datacenter
    news         dashboards of every datacenter            nothing: they listen
    records      every role of its datacenter              Records: of itself
    logs         operators of every datacenter             Read
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, get_args

from hitmesh.protocol.messages import (
    Ack,
    Batch,
    Close,
    Control,
    Have,
    Heartbeat,
    Leave,
    Lookup,
    Message,
    Neighbours,
    Read,
    Records,
    Redirect,
    Rows,
)
from hitmesh.protocol.names import split_key
from hitmesh.state.keylist import OPERATOR, Peer

Link = Literal["heartbeats", "changes", "lookups", "batches", "acks", "rows", "news", "records", "logs"]
LINKS: Final[tuple[Link, ...]] = get_args(Link)

# Why somebody isn't heard, as it is counted and told.
UNKNOWN, REVOKED, WRONG_ROLE, WRONG_NAME = "unknown_key", "revoked_key", "wrong_role", "wrong_name"
OTHER_KEY, NO_KEY, BROKEN = "wrong_server_key", "no_key", "broken_handshake"
REASONS: Final = {
    UNKNOWN: "a key that isn't in the list",
    REVOKED: "a key that was taken off the list",
    WRONG_ROLE: "a key of a role that has no business there",
    WRONG_NAME: "a key of somebody else than the message says",
    OTHER_KEY: "another key in mind than is there",
    NO_KEY: "no key",
    BROKEN: "a handshake that was broken off",
}
TURNED_AWAY: Final = "turned_away."  # before link and reason, in the load that says how many
TURNED_AWAY_S: Final = "turned_away_s."  # the same, how many seconds ago the last one was
SHUT_OUT: Final = "shut_out"  # the load that says how many let us not in

_ID_END: Final = re.compile(r"[.-][0-9a-f]+\Z")  # what an instance's id has behind its name
_WORKER: Final = re.compile(r"-w[0-9]{1,4}")  # behind a balancer's name: its second process, and those after it

Owner = Callable[[str], Peer | None]


def may_connect(peer: Peer, link: str, dc: str) -> bool:
    """Whether `peer` has any business at a socket of `link` in datacenter `dc`."""
    here = peer.dc == dc
    match link:
        case "heartbeats":
            return peer.role != OPERATOR if here else peer.role == "nexus"
        case "changes":
            return here
        case "lookups":
            return here or peer.role in ("nexus", OPERATOR)
        case "batches":
            return here and peer.role == "collector"
        case "acks":
            return here and peer.role == "processor"
        case "rows":
            return not here and peer.role == "processor"
        case "news":
            return peer.role == "dashboard"
        case "records":
            return here and peer.role != OPERATOR
        case "logs":
            return peer.role == OPERATOR
    return False


def refusal(peer: Peer, message: Message, dc: str, owner: Owner) -> str:
    """Why `peer` may not say this in datacenter `dc`; empty: it may. `owner` tells whose a key is."""
    check = _CHECKS.get(type(message))
    return check(peer, message, dc, owner) if check else f"{peer} says what nobody may say here"


def _heartbeat(peer: Peer, message: Heartbeat, dc: str, owner: Owner) -> str:
    instance = message.instance
    said = Peer(instance.dc, instance.role, instance.name)
    if said[:2] != peer[:2] or not _is_own(peer, said.name):
        return _as_another(peer, str(said))
    if instance.owns and peer.role != "processor":
        return f"{peer} claims partitions, as only processors may"
    return _here(peer, dc) or _own_id(peer, instance.id) or _own_keys(peer, instance.endpoints.values(), owner)


def _leave(peer: Peer, message: Leave, dc: str, owner: Owner) -> str:
    return _here(peer, dc) or _own_id(peer, message.id)


def _neighbours(peer: Peer, message: Neighbours, dc: str, owner: Owner) -> str:
    if peer.role != "nexus" or message.dc != peer.dc:
        return _as_another(peer, f"a Nexus of datacenter {message.dc}")
    if why := _own_id(peer, message.nexus):
        return why
    told = [(Peer(dc, "nexus", ""), where) for dc, places in message.nexuses.items() for where in places]
    for one in message.seen:
        instance = one.instance
        told += [(Peer(instance.dc, instance.role, instance.name), where) for where in instance.endpoints.values()]
    for said, where in told:
        known = owner(split_key(where)[1])
        # Whose key isn't known here can't be connected to; who is known must be who is meant.
        if known is not None and (known[:2] != said[:2] or said.name not in ("", known.name)):
            return f"{peer} says that {said} is at {where:.140}, under the key of {known}"
    return ""


def _control(peer: Peer, message: Control, dc: str, owner: Owner) -> str:
    return _here(peer, dc) or ("" if peer.role == OPERATOR else f"{peer} gives an order, as only operators may")


def _batch(peer: Peer, message: Batch, dc: str, owner: Owner) -> str:
    return _own_keys(peer, [message.reply_to], owner)  # of whose lanes: hitmesh.state.senders


def _have(peer: Peer, message: Have, dc: str, owner: Owner) -> str:
    return _rows(peer, message, dc, owner) or _own_keys(peer, [message.reply_to], owner)


def _rows(peer: Peer, message: Have | Rows, dc: str, owner: Owner) -> str:
    if message.dc != peer.dc:
        return _as_another(peer, f"datacenter {message.dc}")
    return _own_id(peer, message.owner)


def _records(peer: Peer, message: Records, dc: str, owner: Owner) -> str:
    said = Peer(message.dc, message.role, message.name)
    if said[:2] != peer[:2] or not _is_own(peer, said.name):
        return _as_another(peer, str(said))
    return _here(peer, dc) or _own_id(peer, message.id)


def _read(peer: Peer, message: Read, dc: str, owner: Owner) -> str:
    return "" if peer.role == OPERATOR else f"{peer} reads what is recorded, as only operators may"


def _as_another(peer: Peer, said: str) -> str:
    return f"{peer} speaks as {said:.140}"


def _here(peer: Peer, dc: str) -> str:
    return "" if peer.dc == dc else f"{peer} is of another datacenter"


def is_own_id(peer: Peer, id: str) -> bool:
    """Whether an id is the peer's: its name, and behind a dot or a dash what tells its processes apart."""
    end = _ID_END.search(id)
    return end is not None and _is_own(peer, id[: end.start()])


def _own_id(peer: Peer, id: str) -> str:
    return "" if is_own_id(peer, id) else _as_another(peer, id)


def _is_own(peer: Peer, name: str) -> bool:
    """Whether a name is the peer's, or that of a worker of its balancer."""
    return name == peer.name or (
        peer.role == "balancer" and _WORKER.fullmatch(name.removeprefix(peer.name)) is not None
    )


def _own_keys(peer: Peer, endpoints: Iterable[str], owner: Owner) -> str:
    """Whoever says where it can be reached says its own key with it, and nobody else's."""
    for endpoint in endpoints:
        if endpoint.startswith("tcp://") and owner(split_key(endpoint)[1]) != peer:
            return f"{peer} says that it is at {endpoint:.140}, which isn't under its key"
    return ""


_CHECKS: Final[Mapping[type[Message], Callable[[Peer, Any, str, Owner], str]]] = {
    Heartbeat: _heartbeat,
    Leave: _leave,
    Neighbours: _neighbours,
    Lookup: lambda peer, message, dc, owner: "",
    Control: _control,
    Batch: _batch,
    Close: lambda peer, message, dc, owner: _own_id(peer, message.worker),
    Ack: lambda peer, message, dc, owner: "",
    Redirect: lambda peer, message, dc, owner: _own_id(peer, message.owner),
    Have: _have,
    Rows: _rows,
    Records: _records,
    Read: _read,
}
