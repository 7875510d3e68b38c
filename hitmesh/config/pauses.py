"""Routes that are paused for a while: what is answered, or how long requests wait, and until when. Pure.

A live setting, `pauses/<host pattern>`, whose value is JSON; it ends by itself, whoever is there to hear it.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from hitmesh.config.addresses import host_pattern
from hitmesh.config.routes import Hold, Static
from hitmesh.errors import ConfigError
from hitmesh.mistakes import mistakes

PAUSES: Final = "pauses/"  # what follows is a host pattern
TEXT: Final = "This site is being worked on, and will be back soon.\n"
MAX_TEXT_CHARS: Final = 16 * 1024  # a small page
LONGEST_HOLD_S: Final = 600.0  # browsers and proxies give up before
LONGEST_S: Final = 7 * 86_400.0  # what is down for longer has another route
USUAL_S: Final = 600.0
STATUS: Final = 503

_PAGE: Final = "text/html; charset=utf-8"  # of a text that begins as one


class RoutePause(Struct, frozen=True, forbid_unknown_fields=True):
    """What happens to the requests of a route meanwhile: they get a text, or they wait."""

    until: Annotated[float, Meta(ge=0, le=2**40, description="when it ends, in seconds since 1970")]
    text: Annotated[str, Meta(max_length=MAX_TEXT_CHARS, description="what is answered, with status 503")] = ""
    hold_s: Annotated[float, Meta(ge=0, le=LONGEST_HOLD_S, description="for which a request waits (503)")] = 0.0

    def stand_in(self) -> Static | Hold:
        """The route that is in force in its place."""
        if self.hold_s:
            return Hold(hold_s=self.hold_s)
        return Static(body=self.text, status=STATUS, type=_PAGE if self.text.lstrip().startswith("<") else "")


def pattern_of(key: str) -> str:
    """The host pattern that a key is about. Raises ConfigError for one that isn't written as routes have it."""
    pattern = key.removeprefix(PAUSES)
    try:
        normal = host_pattern(pattern)
    except ValueError as error:
        raise ConfigError(f"{key}: a Host {error}") from error
    if normal != pattern:
        raise ConfigError(f"{key}: this is no Host as routes have it; did you mean {PAUSES}{normal}?")
    return pattern


def parse_pause(key: str, value: str | bytes) -> RoutePause:
    """What the settings store has under a key. Raises ConfigError."""
    pattern_of(key)
    try:
        data = msgspec.json.decode(value)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{key}: not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f'{key}: a pause is a JSON object, such as {{"until": 1800000000, "text": "back soon"}}')
    for problem in mistakes(data, RoutePause):
        raise ConfigError(f"{key}: {problem}")
    pause = msgspec.convert(data, RoutePause)
    if bool(pause.text) == bool(pause.hold_s):
        raise ConfigError(f"{key}: text and hold_s: exactly one of them must be given")
    return pause
