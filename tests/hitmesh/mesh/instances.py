"""Instances and their words, for the tests of everybody who hears them."""

from __future__ import annotations

from msgspec.structs import replace

from hitmesh.protocol.messages import Answer, Change, Heartbeat, Instance, Seen, make

INTERVAL_S = 1.0


def instance(
    name: str = "processor-1",
    id: str = "",
    *,
    role: str = "processor",
    state: str = "up",
    started_ms: int = 1_000,
    load: dict[str, float] | None = None,
    owns: dict[int, int] | None = None,
    endpoints: dict[str, str] | None = None,
    dc: str = "dev",
) -> Instance:
    return Instance(dc, role, name, id or f"{name}-a", state, 7, started_ms, endpoints or {}, load or {}, owns or {})


def heartbeat(one: Instance, number: int, interval_s: float = INTERVAL_S) -> Heartbeat:
    return make(Heartbeat, number, int(interval_s * 1000), one)


def seen(one: Instance, number: int = 1, *, alive: bool = True) -> Seen:
    return Seen(one, number, 0, alive)


def change(number: int, *news: Seen, nexus: str = "n1", warm: bool = True, forgotten: tuple[str, ...] = ()) -> Change:
    return make(Change, nexus, number, warm, news, forgotten)


def answer(number: int, *everybody: Seen, nexus: str = "n1", warm: bool = True, error: str = "") -> Answer:
    return make(Answer, 1, error, nexus, number, warm, everybody)


def with_state(one: Instance, state: str) -> Instance:
    return replace(one, state=state)
