"""Live settings as `hitmesh config` shows them: what is in force and where it comes from. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from hitmesh.cli.columns import columns
from hitmesh.config import Config
from hitmesh.config.hands import is_hand
from hitmesh.config.live import DATACENTERS, DEPLOYS, FORMATS, LIVE, ROUTES, apply, meaning, value_of
from hitmesh.config.pauses import PAUSES
from hitmesh.settings import Edition, Setting, live_settings
from hitmesh.visible import visible

SHOWN_CHARS = 60  # of a value in the table; routes are long


class Line(Struct, frozen=True):
    """One live setting."""

    key: str
    value: str  # in force
    default: str | None  # None: it has none
    origin: str  # live, file or default
    problem: str  # why the live value isn't in force here; empty when it is
    setting: Setting | None  # as it is live


def entries(config: Config, editions: Mapping[str, Edition]) -> list[Line]:
    """All live settings of a datacenter, by key: those of its file, then what is only there when it is set."""
    live = live_settings(editions)
    texts = {key: each.value.decode("utf-8", "replace") for key, each in live.items()}
    applied = apply(config, texts)
    defaults = Config(name=config.name, nodes={})
    lines = []
    for key in LIVE:
        value, in_file, default = (value_of(each, key) for each in (applied.config, config, defaults))
        problem = applied.refused.get(key, "")
        from_where = "live" if key in live and not problem else "default" if in_file == default else "file"
        lines.append(Line(key, value, default, from_where, problem, live.get(key)))
    others = sorted(key for key in live.keys() - set(LIVE) if not key.startswith(DEPLOYS))
    return lines + [Line(key, texts[key], None, "live", applied.refused.get(key, ""), live[key]) for key in others]


def json_of(line: Line) -> dict[str, object]:
    """The object that --json prints."""
    setting = line.setting
    return {
        "key": line.key,
        "value": line.value,
        "default": line.default,
        "from": line.origin,
        "author": setting.author if setting else None,
        "changed_at": setting.changed_at if setting else None,
        "version": setting.version if setting else None,
        "problem": line.problem or None,
        "meaning": _meaning(line.key),
    }


def table(lines: Sequence[Line]) -> str:
    """Columns for people."""
    rows: list[tuple[str, ...]] = [("KEY", "VALUE", "FROM", "VERSION", "CHANGED", "BY")]
    notes = []
    for each in lines:
        setting = each.setting
        made = (str(setting.version), moment(setting.changed_at), setting.author) if setting else ("-", "-", "")
        where = each.origin if each.default in (None, each.value) else f"{each.origin} (default {each.default})"
        rows.append((each.key, short(each.value), where, *made))
        if each.problem:
            notes.append(visible(f"{each.key} is set, and doesn't apply here: {each.problem}"))
    return "\n".join([columns(rows), *notes])


def change_line(
    config: Config,
    key: str,
    before: Edition | None,
    now: Edition,
    *,
    as_json: bool = False,
    with_time: bool = False,
) -> str:
    """A change of a setting, in a line."""
    old, new = (
        None if each is None or each.value is None else each.value.decode("utf-8", "replace") for each in (before, now)
    )
    if as_json:
        found = {"key": key, "value": new, "before": old, "version": now.version, "author": now.author}
        return json.dumps({**found, "changed_at": now.changed_at})
    in_file = ""
    if key in LIVE:
        value = value_of(config, key)
        is_default = value == value_of(Config(name=config.name, nodes={}), key)
        in_file = f"{value} by default" if is_default else f"{value} from the file"
    was = short(old) if old is not None else in_file or "not set"
    what = f"{key} = {short(new)}" if new is not None else f"{key} unset" + (f", now {in_file}" if in_file else "")
    made = f"version {now.version}, by {now.author}" if now.version else "removed by hand"
    time = f"{moment(now.changed_at)}  " if with_time and now.version else ""
    return visible(f"{time}{what} (was {was}), {made}")


def moment(seconds: float) -> str:
    """A wall-clock time for people, to the second."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):  # it came with a setting, from anywhere
        return f"{seconds:g} s after 1970"


def short(value: str) -> str:
    """A value on one line."""
    text = " ".join(value.split())
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."


def _meaning(key: str) -> str:
    if key.startswith(ROUTES):
        return "what is done with the requests for a Host"
    if key.startswith(DATACENTERS):
        return "a datacenter that is gone for good"
    if key.startswith(FORMATS):
        return "the format that is written, since every release that runs reads it"
    if key.startswith(PAUSES):
        return "what is done with the requests of a route for a while"
    if is_hand(key):
        return "what an operator says of one instance or backend"
    return meaning(key) if key in LIVE else ""
