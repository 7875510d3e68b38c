"""Changes of live settings by REST: what was sent, who sent it, and what HTTP says of a store that doesn't take it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import falcon
import msgspec
from falcon import Request

from hitmesh.errors import ConfigError, SettingConflict, StoreUnknown
from hitmesh.http.asking import credentials
from hitmesh.mistakes import mistakes
from hitmesh.settings import SettingsStore

T = TypeVar("T")

RETRY_AFTER_S: Final = 1
MAX_NAME_CHARS: Final = 64  # of who changes something: a setting's author has room for it and an address
NO_STORE: Final = "this balancer runs without a settings store: its routes are those that it was started with"


def parsed(body: bytes, kind: type[T]) -> T:
    """A request's body as a `kind`, a Struct; 400 says what is wrong with it."""
    try:
        data = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise falcon.HTTPBadRequest(title="Bad body", description=f"not JSON: {error}") from error
    for problem in mistakes(data, kind, "the body"):
        raise falcon.HTTPBadRequest(title="Bad body", description=problem)
    return msgspec.convert(data, kind)


def change(settings: SettingsStore | None, make: Callable[[SettingsStore], T]) -> T:
    """Do something to the store, and say it in HTTP when that fails."""
    if settings is None:
        raise falcon.HTTPConflict(title="No settings store", description=NO_STORE)
    try:
        return make(settings)
    except ConfigError as error:
        raise falcon.HTTPBadRequest(title="Bad route", description=str(error)) from error
    except SettingConflict as error:
        raise falcon.HTTPPreconditionFailed(title="Changed meanwhile", description=str(error)) from error
    except StoreUnknown as error:
        raise falcon.HTTPServiceUnavailable(
            title="Perhaps done", description=str(error), retry_after=RETRY_AFTER_S
        ) from error


def author_of(req: Request) -> str:
    """Who changes something: the name given with the token, and where from."""
    name = credentials(req.env)[0]
    if not name.isprintable() or len(name) > MAX_NAME_CHARS:
        raise falcon.HTTPBadRequest(title="Bad name", description=f"a name has at most {MAX_NAME_CHARS} characters")
    return f"{name or 'admin'} at {req.env.get('REMOTE_ADDR', '')}"
