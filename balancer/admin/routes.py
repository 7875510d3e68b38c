"""Routes by REST: what is in force and what is stored, and changing the live ones.

Owns the JSON of /routes and what is checked before something is written. What is stored is in the
settings store under `routes/<pattern>`; every worker of every balancer follows it by itself, so
what was just written is in force a moment later, which `in_force` tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

import falcon
import msgspec
from falcon import Request, Response

from balancer.admin.changing import NO_STORE, author_of, change
from balancer.measures.stats import Pause
from balancer.middle.routes import KEYS, RouteTable
from hitmesh.config import Alias, host_pattern, parse_stored
from hitmesh.errors import ConfigError, StoreUnknown
from hitmesh.settings import Setting, SettingsStore

SHOWN_CHARS: Final = 100  # of what was sent, in the description of what is wrong with it

_ETAG: Final = re.compile(r'"([0-9]{1,18})"')
_VERSION: Final = re.compile(r"[0-9]{1,18}")

_encode: Final = msgspec.json.Encoder().encode


class Tables(Protocol):
    """Who has the routes in force."""

    def table(self) -> RouteTable:
        """The routes in force in this worker."""

    def pause(self) -> Pause:
        """For what there is to do for each of them."""


class _Routes:
    """What both resources share."""

    def __init__(self, tables: Tables, settings: SettingsStore | None) -> None:
        self._tables = tables
        self._settings = settings

    def _stored(self) -> tuple[Mapping[str, Setting], str]:
        """Live routes by pattern, and why they aren't known."""
        if self._settings is None:
            return {}, NO_STORE
        try:
            found = self._settings.list(KEYS)
        except StoreUnknown as error:
            return {}, str(error)
        return {key.removeprefix(KEYS): setting for key, setting in found.items()}, ""


class RouteList(_Routes):
    """GET /routes: all of them."""

    def on_get(self, req: Request, resp: Response) -> None:
        """Those in force and those stored, and whether the store could be asked."""
        table = self._tables.table()
        stored, reason = self._stored()
        told, pause = [], self._tables.pause()
        for pattern in sorted({*table.configured, *table.live, *stored}):
            told.append(_told(pattern, table, stored.get(pattern)))
            pause()
        _answer(resp, {"routes": told, "settings": {"available": not reason, "reason": reason}})

    on_head = on_get


class OneRoute(_Routes):
    """GET, PUT and DELETE /routes/<pattern>."""

    def on_get(self, req: Request, resp: Response, pattern: str) -> None:
        """The route; its version is the ETag."""
        pattern = pattern_named(pattern)
        table = self._tables.table()
        setting = self._stored()[0].get(pattern)
        if setting is None and table.get(pattern) is None:
            raise no_route(pattern)
        _answer(resp, _told(pattern, table, setting))

    on_head = on_get

    def on_put(self, req: Request, resp: Response, pattern: str) -> None:
        """Store a live route, which wins over the configured one."""
        pattern = pattern_named(pattern)
        expected, author = _expected(req), author_of(req)
        body = req.bounded_stream.read()  # which the listener has bounded, and read whole

        def put(settings: SettingsStore) -> Setting:
            value = _encode(parse_stored(pattern, body))
            return settings.set(KEYS + pattern, value, author=author, expect_version=expected)

        setting = change(self._settings, put)
        _answer(resp, _told(pattern, self._tables.table(), setting))

    def on_delete(self, req: Request, resp: Response, pattern: str) -> None:
        """Remove a live route; the configured one, if there is one, is in force again."""
        pattern = pattern_named(pattern)
        expected, author = _expected(req), author_of(req)
        configured = self._tables.table().configured.get(pattern)
        if not change(
            self._settings, lambda store: store.delete(KEYS + pattern, author=author, expect_version=expected)
        ):
            if configured is None:
                raise no_route(pattern)
            raise falcon.HTTPConflict(
                title="Configured route",
                description=f"{pattern} is in the configuration and has no live route to delete; change the "
                "configuration, or PUT a live route, which wins over it",
            )
        _answer(resp, {"host": pattern, "deleted": True, "route": configured})


def _told(pattern: str, table: RouteTable, setting: Setting | None) -> dict[str, Any]:
    """A pattern's route: the stored one where there is one, and whether that is in force."""
    configured, live = table.configured.get(pattern), table.live.get(pattern)
    told: dict[str, Any] = {
        "host": pattern,
        "route": live or configured,
        "origin": "config" if live is None else "live",
        "in_force": True,
        "paused": table.paused.get(pattern),
        "problem": "",
        "version": None,
        "author": None,
        "changed_at": None,
    }
    if setting is not None:
        told |= {"version": setting.version, "author": setting.author, "changed_at": setting.changed_at}
        try:
            stored = parse_stored(pattern, setting.value)
        except ConfigError as error:
            return told | {"in_force": False, "problem": f"the stored route can't be used: {error}"}
        told |= {"route": stored, "origin": "live", "in_force": stored == live}
        if configured is not None:
            told["hides"] = configured
    if isinstance(told["route"], Alias):
        told["problem"] = _alias_problem(pattern, told["route"], table)
    return told


def _alias_problem(pattern: str, alias: Alias, table: RouteTable) -> str:
    """Why an alias leads nowhere, once it is in force. Of the other routes only one matters, however many there are."""
    target = table.live.get(alias.of) or table.configured.get(alias.of)
    coming = RouteTable({} if target is None else {alias.of: target}, {pattern: alias})
    match = coming.get(pattern)
    return match.problem if match else ""


def pattern_named(text: str) -> str:
    """The pattern in a URL, in its one way of writing; 400 for what is none."""
    try:
        # WSGI gives a path's bytes as Latin-1, and falcon makes UTF-8 of them where it can.
        return host_pattern(text)
    except ValueError as error:
        raise falcon.HTTPBadRequest(title="Bad Host", description=f"{text[:SHOWN_CHARS]!r} {error}") from error


def no_route(pattern: str) -> falcon.HTTPNotFound:
    """What is said of a pattern without a route."""
    return falcon.HTTPNotFound(title="No such route", description=f"there is no route {pattern}")


def _expected(req: Request) -> int | None:
    """The version that must be there: If-Match "7", If-None-Match *, or ?expect_version=7 (0: none)."""
    if_match, if_none_match = req.get_header("If-Match"), req.get_header("If-None-Match")
    asked = req.get_param("expect_version")
    if sum(each is not None for each in (if_match, if_none_match, asked)) > 1:
        raise falcon.HTTPBadRequest(
            title="Bad condition", description="one of If-Match, If-None-Match and expect_version says enough"
        )
    if asked is not None and _VERSION.fullmatch(asked):
        return int(asked)
    if if_match is not None and (found := _ETAG.fullmatch(if_match.strip())):
        return int(found[1])
    if if_none_match is not None and if_none_match.strip() == "*":
        return 0
    if asked is if_match is if_none_match is None:
        return None
    raise falcon.HTTPBadRequest(
        title="Bad condition",
        description='it is If-Match: "7", If-None-Match: * or expect_version=7, with the version of the route',
    )


def _answer(resp: Response, told: dict[str, Any]) -> None:
    if told.get("version") is not None:
        resp.set_header("ETag", f'"{told["version"]}"')
    resp.data = _encode(told)
    resp.content_type = "application/json"
