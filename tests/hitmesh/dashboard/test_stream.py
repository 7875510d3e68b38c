"""What is streamed of a status: patches that lead from the first document to the last."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hitmesh.dashboard.status import (
    Datacenter,
    Event,
    Hits,
    Instance,
    Problem,
    SeenFrom,
    Spool,
    State,
    Status,
    Store,
    Total,
)
from hitmesh.dashboard.stream import Stream, merge_patch, stream_form, tick

scalars = st.one_of(
    st.booleans(), st.integers(-3, 3), st.text(max_size=3), st.lists(st.none() | st.integers(0, 2), max_size=2)
)
documents = st.dictionaries(
    st.sampled_from("abcd"),
    st.recursive(scalars, lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3), max_leaves=8),
    max_size=4,
)
STATES: tuple[State, ...] = ("up", "starting", "draining", "silent", "dead")


def applied(document: Any, patch: Any) -> Any:
    """RFC 7396, section 2, as it stands there."""
    if not isinstance(patch, dict):
        return patch
    found = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = applied(found.get(name), value)
    return found


def exactly(value: object) -> str:
    """As text, in which 1, 1.0 and true are three things."""
    return json.dumps(value, sort_keys=True)


@given(documents, documents)
def test_a_patch_makes_the_next_document_of_the_one_before(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert exactly(applied(old, merge_patch(old, new))) == exactly(new)


@given(documents)
def test_of_the_same_document_there_is_no_patch(document: dict[str, Any]) -> None:
    assert merge_patch(document, json.loads(exactly(document))) == {}


def instance(name: str, state: State = "up", pid: int | None = None, hour: str = "") -> Instance:
    return Instance(key=name, name=name, role="collector", node="a", state=state, pid=pid, since=1.0, hour=hour)


def status(now: float = 0.0, **parts: Any) -> Status:
    seen_from = SeenFrom(dc="eu", name="dashboard-1", version="1", uptime_s=1.0)
    return Status(ok=True, says="all is well", now=now, seen_from=seen_from, total=Total(hits=None), **parts)


def datacenter(**parts: Any) -> Datacenter:
    return Datacenter(key="eu", state="up", age_s=0.0, hits=Hits(count=None), **parts)


instances = st.builds(
    instance, st.sampled_from(["c-1", "c-2", "c-3"]), st.sampled_from(STATES), st.none() | st.integers(1, 2),
    st.text("ufx", max_size=2),
)  # fmt: skip
statuses = st.builds(
    lambda now, some, owners, depth, ids: status(
        now,
        dcs={
            "eu": datacenter(
                instances=list({one.key: one for one in some}.values()),
                spools=[Spool(key="s", name="s", depth=depth, oldest_s=None)],
                store=Store(owners=owners),
            )
        },
        events=[Event(key=key, at=1.0, dc="eu", kind="joined", says="x") for key in ids],
    ),
    st.floats(0, 9, allow_nan=False),
    st.lists(instances, max_size=4),
    st.lists(st.none() | st.sampled_from(["p-1", "p-2"]), max_size=3),
    st.none() | st.integers(0, 3),
    st.lists(st.sampled_from("123456"), max_size=4, unique=True),
)


@given(st.lists(statuses, min_size=1, max_size=6))
def test_the_whole_document_and_every_patch_after_it_make_the_last_status(course: list[Status]) -> None:
    stream = Stream()
    stream.advance(course[0])
    held = data_of(stream.whole(), "status")
    for one in course[1:]:
        if sent := stream.advance(one):
            held = applied(held, data_of(sent, "patch"))
    wanted = json.loads(json.dumps(stream_form(course[-1])))
    if held != wanted:
        held["now"] = wanted["now"]  # which a tick says
    assert held == wanted
    assert held == data_of(stream.whole(), "status") | {"now": held["now"]}


def data_of(sent: bytes, name: str) -> Any:
    first, second, *rest = sent.split(b"\n")
    assert (first, rest) == (f"event: {name}".encode(), [b"", b""])
    assert second.startswith(b"data: ")
    return json.loads(second.removeprefix(b"data: "))


def test_lists_of_objects_are_objects_by_key_and_a_null_is_left_out() -> None:
    form = stream_form(status(dcs={"eu": datacenter(instances=[instance("c-1")], store=Store(owners=["p-1", None]))}))
    there = form["dcs"]["eu"]
    assert there["instances"]["c-1"]["state"] == "up"
    assert "pid" not in there["instances"]["c-1"]
    assert there["store"]["owners"] == ["p-1", None]
    assert (there["spools"], form["problems"], form["events"]) == ({}, {}, {})


def test_nothing_is_sent_where_nothing_but_the_moment_has_changed() -> None:
    stream = Stream()
    stream.advance(status(1.0))
    assert stream.advance(status(2.0)) == b""
    problem = Problem(key="x", level="bad", kind="spool", dc="eu", says="it is full", since=1.0)
    sent = data_of(stream.advance(status(3.0, problems=[problem])), "patch")
    assert (sent["now"], list(sent["problems"])) == (3.0, ["x"])
    assert data_of(tick(4.5), "tick") == {"now": 4.5}


def test_what_strangers_wrote_ends_no_event() -> None:
    stream = Stream()
    stream.advance(status(dcs={"eu": datacenter(instances=[instance("c-1")])}))
    evil = "x\n\nevent: status\ndata: {}\r\n\u2028"
    sent = stream.advance(status(dcs={"eu": datacenter(instances=[instance("c-1", hour=evil)])}))
    assert data_of(sent, "patch")["dcs"]["eu"]["instances"]["c-1"]["hour"] == evil
