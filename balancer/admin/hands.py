"""Instances and backends by REST: who there is, and draining or weighing one.

    GET /instances            all of the datacenter
    GET /instances/<name>     one; PUT {"drained": true, "weight": 50} says both anew, DELETE takes both back

Owns the JSON and what is checked before something is written; the rules are `hitmesh.state.handling`'s, and what is
written are live settings, which every worker of every balancer, and the instance itself, follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Protocol

import falcon
import msgspec
from falcon import Request, Response
from msgspec import Meta, Struct

from balancer.admin.changing import author_of, change, parsed
from balancer.measures.stats import Pause
from hitmesh.config.hands import MAX_PERCENT, THE_VALUE, USUAL_PERCENT, Hands, drained_key, weight_key
from hitmesh.errors import CommandError
from hitmesh.settings import SettingsStore
from hitmesh.state.handling import Known, check_drain, check_name, check_weight

_encode: Final = msgspec.json.Encoder().encode


class Handled(Protocol):
    """Who knows the instances."""

    def known(self) -> Sequence[Known]:
        """Whom the datacenter has."""

    def hands(self) -> Hands:
        """What operators say of them, as it is in force in this worker."""

    def pause(self) -> Pause:
        """For what there is to do for each of them."""


class _Wanted(Struct, forbid_unknown_fields=True):
    """The body of a PUT."""

    drained: Annotated[bool, Meta(description="whether it gets no new work")] = False
    weight: Annotated[int, Meta(ge=1, le=MAX_PERCENT, description="percent of its usual share")] = USUAL_PERCENT


class InstanceList:
    """GET /instances."""

    def __init__(self, handled: Handled) -> None:
        self._handled = handled

    def on_get(self, req: Request, resp: Response) -> None:
        """All that are known."""
        hands, pause, told = self._handled.hands(), self._handled.pause(), []
        for one in self._handled.known():
            told.append(_told(one, hands))
            pause()
        resp.data = _encode({"instances": told})
        resp.content_type = "application/json"

    on_head = on_get


class OneInstance:
    """GET, PUT and DELETE /instances/<name>."""

    def __init__(self, handled: Handled, settings: SettingsStore | None, dc: str) -> None:
        self._handled, self._settings, self._dc = handled, settings, dc

    def on_get(self, req: Request, resp: Response, name: str) -> None:
        """How it is."""
        self._check_name(name)
        self._answer(resp, name, self._handled.hands())

    on_head = on_get

    def on_put(self, req: Request, resp: Response, name: str) -> None:
        """Drain or undrain it, and set its weight; ?force=1 drains the last one of its kind."""
        self._check_name(name)
        wanted = parsed(req.bounded_stream.read(), _Wanted)  # which the listener has bounded, and read whole
        force = req.get_param_as_bool("force", default=False)
        try:
            if wanted.drained:
                check_drain(name, self._handled.known(), self._handled.hands(), force=force)
            if wanted.weight != USUAL_PERCENT:
                check_weight(name, self._handled.known())
        except CommandError as error:
            raise _conflict(error) from error
        is_new = wanted.drained and name not in self._handled.hands().drained
        self._write(req, name, wanted, may_be_last=force or not is_new)
        self._answer(resp, name, _hands(name, wanted))

    def on_delete(self, req: Request, resp: Response, name: str) -> None:
        """Undrain it, and give it its own weight again; it may be gone."""
        hands = self._handled.hands()
        if name not in hands.drained and name not in hands.weights:
            self._check_name(name)
        self._write(req, name, _Wanted())
        self._answer(resp, name, Hands())

    def _write(self, req: Request, name: str, wanted: _Wanted, *, may_be_last: bool = True) -> None:
        author = author_of(req)

        def write(store: SettingsStore) -> None:
            words = {
                drained_key(self._dc, name): THE_VALUE if wanted.drained else None,
                weight_key(self._dc, name): None if wanted.weight == USUAL_PERCENT else str(wanted.weight),
            }
            if not may_be_last:
                self._drain(store, name, author)
                del words[drained_key(self._dc, name)]
            for key, value in words.items():
                if value is None:
                    store.delete(key, author=author)
                else:
                    store.set(key, value.encode(), author=author)

        change(self._settings, write)

    def _drain(self, store: SettingsStore, name: str, author: str) -> None:
        """Drain it, and take that back if another one, written in the same moment, has left nobody of its kind."""
        key = drained_key(self._dc, name)
        store.set(key, THE_VALUE.encode(), author=author)
        drained = frozenset(
            each.removeprefix(drained_key(self._dc, "")) for each in store.list(drained_key(self._dc, ""))
        )
        try:
            check_drain(name, self._handled.known(), Hands(drained - {name}), force=False)
        except CommandError as error:
            store.delete(key, author=author)
            raise _conflict(error, "; it works on: others were drained in the same moment") from error

    def _check_name(self, name: str) -> None:
        try:
            check_name(name, self._handled.known())
        except CommandError as error:
            raise falcon.HTTPNotFound(title="No such instance", description=error.reason) from error

    def _answer(self, resp: Response, name: str, hands: Hands) -> None:
        one = next((each for each in self._handled.known() if each.name == name), Known(name, "", "-"))
        resp.data = _encode(_told(one, hands))
        resp.content_type = "application/json"


def _conflict(error: CommandError, then: str = "") -> falcon.HTTPConflict:
    title = "Not possible" if "--force" not in error.hint else "The last one"
    hint = f" ({error.hint.replace('--force drains', '?force=1 drains')})" if error.hint else ""
    return falcon.HTTPConflict(title=title, description=f"{error.message}{then}{hint}")


def _hands(name: str, wanted: _Wanted) -> Hands:
    return Hands(frozenset([name] if wanted.drained else []), {name: wanted.weight})


def _told(one: Known, hands: Hands) -> dict[str, Any]:
    """What there is to say of one. `state` is what it said last, and may follow a moment later."""
    return {
        "name": one.name,
        "role": one.role,
        "route": one.place or None,
        "state": one.state,
        "drained": one.name in hands.drained,
        "weight": hands.weights.get(one.name, USUAL_PERCENT),
    }
