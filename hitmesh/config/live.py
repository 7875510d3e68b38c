"""The settings that can be changed while a mesh runs: which they are, what a value must be, and a
configuration with them over it. Pure; knows no store.

A live setting has the key that it has in a datacenter's file, such as `timing.commit_s`, and its
value is written as there. Besides there are keys with a slash: `routes/<host pattern>`, whose value
is the route as JSON, `datacenters/<name>`, which says that one is gone for good, and `formats/<name>`, whose value
is the number of the format that the mesh writes (hitmesh.protocol.formats); and what operators say of single instances
and backends (hitmesh.config.hands), and of routes that are paused (hitmesh.config.pauses).

A key stands in `LIVE` only if every role that uses it does so without a restart. What contradicts
the rest of a configuration is refused when it is set; where it comes from elsewhere it is left out,
and the others apply.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from hitmesh.config.checks import beyond_places, contradictions
from hitmesh.config.datacenter import Config
from hitmesh.config.hands import Hands, checked, gather, is_hand, place_of
from hitmesh.config.pauses import PAUSES, parse_pause, pattern_of
from hitmesh.config.routes import parse_stored
from hitmesh.config.sections import Name
from hitmesh.errors import ConfigError
from hitmesh.mistakes import mistakes
from hitmesh.protocol.formats import Written, why_unreadable

ROUTES: Final = "routes/"  # what follows is a host pattern
DATACENTERS: Final = "datacenters/"  # what follows is a datacenter's name
DEPLOYS: Final = (
    "deploys/"  # what follows is a datacenter's name: who is at work there, and who was; no role's business
)
# What dashboards remember of alerts, and which are silenced. It is there since 0.2.0 takes any other place for that of a
# setting which doesn't apply, and says so.
ALERTS: Final = f"{DEPLOYS}alerts/"
SCALER: Final = f"{DEPLOYS}scaler/"  # what follows is a datacenter's name: how many its scalers want where; as above
RETIRED: Final = "retired"  # the only value there
FORMATS: Final = "formats/"  # what follows is a format's name
MAX_TEXT_CHARS: Final = 16 * 1024  # of a value in TOML: a long list

LIVE: Final = (
    "balancer.limits.backend_idle_s",
    "balancer.limits.between_bytes_s",
    "balancer.limits.body_bytes",
    "balancer.limits.body_s",
    "balancer.limits.client_burst",
    "balancer.limits.client_connections",
    "balancer.limits.client_rps",
    "balancer.limits.connect_s",
    "balancer.limits.connections",
    "balancer.limits.first_byte_s",
    "balancer.limits.head_bytes",
    "balancer.limits.head_s",
    "balancer.limits.header_bytes",
    "balancer.limits.headers",
    "balancer.limits.idle_s",
    "balancer.limits.least_rate",
    "balancer.limits.line_bytes",
    "balancer.limits.small_body_bytes",
    "balancer.limits.tries",
    "balancer.limits.tunnel_s",
    "balancer.limits.write_s",
    "counting.bots",
    "counting.ignore",
    "counting.reload_s",
    "limits.batch_body_bytes",
    "limits.batch_pages",
    "limits.forming_bytes",
    "limits.forming_pages",
    "limits.hit_body_bytes",
    "limits.known_pages",
    "limits.unacked_bytes",
    "log.level",
    "log.slow_ms",
    "pages.allow",
    "pages.case",
    "pages.index_files",
    "pages.merge",
    "pages.query",
    "pages.query_keep",
    "pages.trailing_slash",
    "scaler.balancer.busy",
    "scaler.balancer.down_s",
    "scaler.balancer.max",
    "scaler.balancer.min",
    "scaler.balancer.up_s",
    "scaler.collector.busy",
    "scaler.collector.down_s",
    "scaler.collector.max",
    "scaler.collector.min",
    "scaler.collector.p99_ms",
    "scaler.collector.up_s",
    "scaler.dry_run",
    "scaler.host_busy",
    "scaler.host_free_mb",
    "scaler.processor.busy",
    "scaler.processor.down_s",
    "scaler.processor.max",
    "scaler.processor.min",
    "scaler.processor.up_s",
    "timing.commit_s",
    "timing.fresh_s",
    "timing.read_s",
    "timing.resend_s",
    "timing.rows_s",
)
"""The live settings of a datacenter's file. Whoever adds one sees to it that it is read at every use."""


class Applied(Struct, frozen=True):
    """A configuration with live settings over it."""

    config: Config
    retired: frozenset[str]  # datacenters
    refused: dict[str, str]  # key -> why it doesn't apply; routes and their pauses aren't looked at here
    written: Written = Written()
    hands: Hands = Hands()


def kind(key: str) -> Any:
    """The declared type of a setting of the file, with its bounds and help."""
    *tables, name = key.split(".")
    table: Any = Config
    for each in tables:
        table = get_type_hints(table)[each]
    return get_type_hints(table, include_extras=True)[name]


def meaning(key: str) -> str:
    """What a setting of the file is for, in a few words."""
    found = kind(key)
    metas = get_args(found)[1:] if get_origin(found) else ()
    words = [each.description for each in metas if isinstance(each, Meta) and each.description]
    return words[0] if words else ""


def value_of(config: Config, key: str) -> str:
    """A setting of the file as text, in its one way of writing."""
    found: Any = config
    for name in key.split("."):
        found = getattr(found, name)
    return _text(found)


def check(key: str, text: str, config: Config) -> str:
    """The value in its one way of writing. `config` is what is in force without it. Raises ConfigError.

    What is refused: an unknown key, one that isn't live, a value that isn't what the key's
    declaration says, one that contradicts the other settings, and more instances than there are programs for.
    """
    _check_key(key)
    if key.startswith(FORMATS):
        raise ConfigError(f"{key} isn't set by hand: `hitmesh formats finalize` sees to it that everybody reads it")
    if key.startswith(ROUTES):
        return _route(key.removeprefix(ROUTES), text)
    if key.startswith(DATACENTERS):
        return _retired(key, text)
    if is_hand(key):
        return checked(key, text)
    if key.startswith(PAUSES):
        return msgspec.json.encode(parse_pause(key, text)).decode()
    value = _parsed(key, text)
    for problem in _new_problems(config, _replaced(config, {key: value})):
        raise ConfigError(problem if problem.startswith(key) else f"{key} = {_text(value)}: {problem}")
    if problem := beyond_places(key, value, config):
        raise ConfigError(problem)
    return _text(value)


def check_without(key: str, config: Config, values: Mapping[str, str]) -> None:
    """Raise ConfigError when `key` can't be unset: the others of `values` would contradict `config` without it."""
    _check_key(key)
    if key.startswith(FORMATS) and key in values and key not in apply(config, values).refused:
        raise ConfigError(f"{key} can't be unset: what is written already stays, and an older release can't read it")
    before = apply(config, values).refused
    after = apply(config, {other: value for other, value in values.items() if other != key}).refused
    for other, problem in after.items():
        if other not in before:
            raise ConfigError(f"{key} can't be unset while {other} is set: {problem}")


def apply(config: Config, values: Mapping[str, str]) -> Applied:
    """`config` with the live settings over it, as many as are right together."""
    refused: dict[str, str] = {}
    retired: set[str] = set()
    wanted: dict[str, object] = {}
    hands: dict[str, str] = {}
    formats, unreadable = dict[str, int](), ""
    for key, text in sorted(values.items()):
        if key.startswith((ROUTES, PAUSES, DEPLOYS)):
            continue
        try:
            _check_key(key)
            if key.startswith(DATACENTERS):
                _retired(key, text)
                retired.add(key.removeprefix(DATACENTERS))
            elif is_hand(key):
                hands[key] = checked(key, text)
            elif key.startswith(FORMATS):
                name, number = key.removeprefix(FORMATS), _format(key, text)
                if reason := why_unreadable(name, number):
                    unreadable = reason
                    raise ConfigError(reason)
                formats[name] = number
            else:
                wanted[key] = _parsed(key, text)
        except ConfigError as error:
            refused[key] = error.message
    applied, left = _as_many_as_fit(config, wanted)
    return Applied(
        applied, frozenset(retired), refused | left, Written(formats, unreadable), gather(hands, config.name)
    )


def _as_many_as_fit(config: Config, wanted: Mapping[str, object]) -> tuple[Config, dict[str, str]]:
    """The configuration with those of `wanted` that are right together, and why the others are not."""
    together = _replaced(config, wanted)
    if not any(_new_problems(config, together)):
        return together, {}
    # One may be right only beside another: so again, as long as one more has found its place.
    left, problems, found = dict(wanted), dict[str, str](), True
    while found:
        found = False
        for key, value in list(left.items()):
            changed = _replaced(config, {key: value})
            problems[key] = next(_new_problems(config, changed), "")
            if not problems[key]:
                config, found = changed, True
                del left[key]
    return config, {key: problems[key] for key in left}


def _new_problems(before: Config, after: Config) -> Iterator[str]:
    """What is wrong with `after`, and was not with `before`."""
    known = set(contradictions(before))
    return (problem for problem in contradictions(after) if problem not in known)


def _replaced(config: Config, values: Mapping[str, object]) -> Config:
    for key, value in values.items():
        config = _with(config, key.split("."), value)
    return config


def _with(table: Any, path: list[str], value: object) -> Any:
    first, *rest = path
    return msgspec.structs.replace(table, **{first: _with(getattr(table, first), rest, value) if rest else value})


def _check_key(key: str) -> None:
    if key.startswith(DATACENTERS):
        name = key.removeprefix(DATACENTERS)
        for problem in mistakes(name, Name, f"{DATACENTERS}<name>: the name"):
            raise ConfigError(problem)
        return
    if is_hand(key):
        place_of(key)
        return
    if key.startswith(PAUSES):
        pattern_of(key)
        return
    if key in LIVE or key.startswith((ROUTES, FORMATS)):
        return
    what = "can't be changed while the mesh runs" if _is_in_the_file(key) else "is not a setting"
    near = difflib.get_close_matches(key, LIVE, n=1)
    hint = f"did you mean {near[0]}?" if near else "`hitmesh config list` shows those that are live"
    if what.startswith("can't"):
        hint = "change the datacenter's file and restart its roles"
    raise ConfigError(f"{key} {what}; {hint}")


def _is_in_the_file(key: str) -> bool:
    try:
        kind(key)
    except (KeyError, TypeError, AttributeError):
        return False
    return True


def _route(pattern: str, text: str) -> str:
    try:
        route = parse_stored(pattern, text.encode("utf-8", "replace"))
    except ConfigError as error:
        raise ConfigError(f"{ROUTES}{error.message.removeprefix(ROUTES)}") from error
    return msgspec.json.encode(route).decode()


def _retired(key: str, text: str) -> str:
    if text.strip() != RETIRED:
        raise ConfigError(f"{key}: the only value is {RETIRED}; unset it for one that is back")
    return RETIRED


def _format(key: str, text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,5}", text, re.ASCII):
        raise ConfigError(f"{key}: a format is a number from 1 on")
    return int(text)


def _parsed(key: str, text: str) -> object:
    """The value of a setting of the file; a string may stand without quotes. Raises ConfigError."""
    declared, text = kind(key), text.strip()
    if len(text) > MAX_TEXT_CHARS or not text.isprintable():
        raise ConfigError(f"{key}: a value is written as in the file, on one line of {MAX_TEXT_CHARS} characters")
    data: object = text  # a string without quotes, or nothing of ours
    with contextlib.suppress(tomllib.TOMLDecodeError, RecursionError):
        data = tomllib.loads(f"value = {text}")["value"]
    if isinstance(data, str) and text.startswith("{"):  # a table as `_text` writes it
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            data = msgspec.json.decode(text)
    for problem in mistakes(data, declared, key):
        raise ConfigError(problem)
    return msgspec.convert(data, declared)


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
