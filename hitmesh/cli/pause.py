"""`hitmesh pause` and `resume`: a route that answers a text, or lets requests wait, for a while."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Final

import click
import msgspec

from hitmesh.cli.config import change, opened, routes_of
from hitmesh.cli.options import Seconds, config_option, state_dir_option
from hitmesh.config import host_pattern
from hitmesh.config.pauses import LONGEST_HOLD_S, LONGEST_S, PAUSES, TEXT, RoutePause
from hitmesh.errors import CommandError
from hitmesh.mistakes import nearest

_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION: Final = re.compile("([0-9]{1,7})([smhd]?)", re.ASCII)


def _seconds(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    found = _DURATION.fullmatch(value)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 1 <= seconds <= LONGEST_S:
        raise click.BadParameter(f"{value!r} is not a time from 1s to 7d, such as 30s, 10m or 2h")
    return seconds


@click.command(short_help="Let a route answer a maintenance text, or wait, for a while.")
@click.argument("route", metavar="ROUTE")
@click.option(
    "--text", metavar="T", help="What is answered, with status 503 and Retry-After; a page if it begins with <."
)
@click.option("--hold", "hold_s", type=Seconds(0, LONGEST_HOLD_S, min_open=True), metavar="S",
              help="Let requests wait instead, each for S seconds at most (503).")  # fmt: skip
@click.option("--for", "for_s", callback=_seconds, default="10m", show_default=True, metavar="TIME",
              help="When it ends by itself: 30s, 10m, 2h.")  # fmt: skip
@click.option("--dc", metavar="NAME", help="Whose settings store is asked; the first one's by default.")
@config_option
@state_dir_option
def pause(
    route: str,
    text: str | None,
    hold_s: float | None,
    for_s: float,
    dc: str | None,
    config_path: Path | None,
    state_dir: Path,
) -> int:
    """Let ROUTE, a Host as in `routes`, answer a maintenance text for a while, or let its requests wait.

    In every balancer of every datacenter, also one that starts meanwhile. What is under way is finished. It ends by
    itself, or by `hitmesh resume`; those that wait then go on.

    \b
    Example:
      hitmesh pause www.example.com --text "Back at ten." --for 30m
      hitmesh pause default --hold 20 --for 1m
    """
    if text is not None and hold_s is not None:
        raise click.UsageError("--text or --hold, not both")
    if any("\ud800" <= each <= "\udfff" for each in text or ""):  # what argv has of bytes that are no text
        raise click.UsageError("--text isn't UTF-8")
    if text is not None and not text.strip():
        raise click.UsageError("--text says nothing")
    wanted = RoutePause(until=round(time.time() + for_s, 3), hold_s=hold_s or 0.0, text="" if hold_s else text or TEXT)
    with opened(config_path, dc, state_dir) as place:
        editions = place.editions()
        known = sorted(pattern for pattern, _ in routes_of(place.config, editions))
        pattern = _pattern(route)
        if pattern not in known:
            raise CommandError(f"there is no route {pattern}", hint=nearest(pattern, known))
        return change(place, editions, PAUSES + pattern, msgspec.json.encode(wanted).decode())


@click.command(short_help="End a pause.")
@click.argument("route", metavar="ROUTE")
@click.option("--dc", metavar="NAME", help="Whose settings store is asked; the first one's by default.")
@config_option
@state_dir_option
def resume(route: str, dc: str | None, config_path: Path | None, state_dir: Path) -> int:
    """Let ROUTE do again what it does. Requests that wait go on.

    \b
    Example:
      hitmesh resume www.example.com
    """
    with opened(config_path, dc, state_dir) as place:
        editions = place.editions()
        key = PAUSES + _pattern(route)
        paused = [key.removeprefix(PAUSES) for key, each in editions.items() if key.startswith(PAUSES) and each.value]
        if _pattern(route) not in paused:
            raise CommandError(
                f"the route {_pattern(route)} isn't paused", hint=nearest(_pattern(route), paused) if paused else ""
            )
        return change(place, editions, key, None)


def _pattern(text: str) -> str:
    try:
        return host_pattern(text)
    except ValueError as error:
        raise CommandError(f"{text!r} {error}") from error
