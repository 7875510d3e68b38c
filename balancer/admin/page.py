"""A picture as a web page for people. Pure.

The page is whole in itself: no script, no font, no image, nothing from elsewhere. It loads itself
again by a meta element. Texts are escaped where they are put into it, in `balancer.admin.cells`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Final

from balancer.admin.cells import (
    NOTHING,
    Cell,
    Html,
    age,
    answers,
    checked,
    count,
    faults,
    in_ms,
    named,
    pill,
    size,
    spelled,
    table,
)
from balancer.admin.style import STYLE
from balancer.measures.stats import Pause, Picture, no_pause
from balancer.middle.routes import RouteTable
from hitmesh.config import Alias, Empty, Hold, Proxy, Redirect, Route, Static

REFRESH_S: Final = 2  # rates and averages are new every second; twice as calm


def page(
    picture: Picture, routes: RouteTable, *, refresh_s: int = REFRESH_S, now: str = "", pause: Pause = no_pause
) -> str:
    """The page. `now` is shown as it is; without a refresh when that is 0."""
    name = str(picture.get("name", "balancer"))
    refresh = f'<meta http-equiv="refresh" content="{refresh_s}">' if refresh_s else ""
    parts = [
        _head(picture, name, now, refresh_s),
        _cards(picture),
        _fronts(picture["fronts"]),
        *(_service(name, service, pause) for name, service in picture["services"].items()),
        _routes(routes, pause),
        _foot(),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(name)} &ndash; hitmesh balancer</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">'
        f"{refresh}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


# --- sections -------------------------------------------------------------------------------------


def _head(picture: Picture, name: str, now: str, refresh_s: int) -> str:
    state = str(picture.get("state", "up"))
    told = [
        str(picture["dc"]) if "dc" in picture else "",
        f"hitmesh {picture['version']}" if "version" in picture else "",
        f"pid {picture['pid']}" if "pid" in picture else "",
        f"up {age(picture['uptime_s'])}" if "uptime_s" in picture else "",
        f"{picture['workers']} worker{'' if picture['workers'] == 1 else 's'}",
        now,
    ]
    live = '<a href="?refresh=0">pause</a>' if refresh_s else '<a href="?">follow</a>'
    return (
        f"<header><h1>{escape(name)} {pill('UP' if state == 'up' else 'DRAIN', state)}</h1>"
        f"<p>{' · '.join(escape(each) for each in told if each)}</p><nav>{live}"
        '<a href="/stats;csv">CSV</a><a href="/stats.json">JSON</a><a href="/metrics">metrics</a>'
        '<a href="/routes">routes</a></nav></header>'
    )


def _cards(picture: Picture) -> str:
    fronts, services = list(picture["fronts"].values()), list(picture["services"].values())
    backends = [backend for service in services for backend in service["backends"].values()]
    up = sum(backend["status"].startswith("UP") for backend in backends)
    waiting = sum(service["queue"] + service["held"] for service in services)
    failures = sum(sum(service["failures"].values()) for service in services)
    refused = sum(front["denied"] + sum(front["errors"].values()) for front in fronts)
    cards = [
        ("requests a second", count(round(sum(front["request_rate"] for front in fronts))), ""),
        ("requests", count(sum(front["requests"] for front in fronts)), ""),
        ("clients connected", count(sum(front["sessions"] for front in fronts)), ""),
        ("waiting", count(waiting), "warn" if waiting else ""),
        ("backends up", f"{up} of {len(backends)}", "bad" if up < len(backends) else "good"),
        ("failed (5xx)", count(failures), "bad" if failures else ""),
        ("refused (4xx)", count(refused), "warn" if refused else ""),
        ("received", size(_sum(fronts, "bytes_in")), ""),
        ("sent", size(_sum(fronts, "bytes_out")), ""),
    ]
    boxes = "".join(f'<li class="{kind}"><b>{escape(value)}</b>{escape(label)}</li>' for label, value, kind in cards)
    return f'<ul class="cards">{boxes}</ul>'


def _fronts(fronts: dict[str, Picture]) -> str:
    heads = {
        "": ("listener",),
        "connections": ("now", "most", "limit", "total"),
        "a second": ("now", "most"),
        "requests": ("total",),
        "requests a second": ("now", "most"),
        "answers": ("by class",),
        "bytes": ("in", "out"),
        "refused": ("denied", "errors"),
        "clients": ("left early",),
    }
    lines: list[list[Cell]] = [
        [
            named(name),
            *(front["sessions"], front["sessions_max"], front["sessions_limit"] or NOTHING, front["sessions_total"]),
            *(round(front["session_rate"]), round(front["session_rate_max"])),
            *(front["requests"], round(front["request_rate"]), round(front["request_rate_max"])),
            answers(front["classes"]),
            *(size(front["bytes_in"]), size(front["bytes_out"])),
            faults(front["denied"] + front["denied_connections"]),
            faults(sum(front["errors"].values()) + front["handshake_failures"], spelled(front["errors"])),
            front["client_aborts"],
        ]
        for name, front in fronts.items()
    ]
    return table("Listeners", "", heads, lines)


def _service(name: str, service: Picture, pause: Pause) -> str:
    heads = {
        "": ("backend", "status, last check", "weight"),
        "in hand": ("now", "most", "limit"),
        "requests": ("total", "a second", "most"),
        "answers": ("by class",),
        "bytes": ("in", "out"),
        "errors": ("connect", "answer", "retried", "elsewhere"),
        "mean time, ms": ("queue", "connect", "answer", "total"),
        "checks": ("failed", "downs", "down"),
    }
    lines: Iterator[list[Cell]] = (
        [
            named(backend_name, backend["address"]),
            Html(f"{pill(backend['status'])} {age(backend['status_s'])}{checked(backend['check'])}"),
            f"{backend['weight']:.0%}",
            *(backend["sessions"], backend["sessions_max"], backend["sessions_limit"] or NOTHING),
            *(backend["sessions_total"], round(backend["rate"]), round(backend["rate_max"])),
            answers(backend["classes"]),
            *(size(backend["bytes_in"]), size(backend["bytes_out"])),
            *(faults(backend["connect_errors"]), faults(backend["response_errors"])),
            *(faults(backend["retries"]), faults(backend["redispatches"])),
            *(in_ms(backend["mean_s"][each]) for each in ("queue", "connect", "first_byte", "total")),
            *(faults(backend["check_failures"]), faults(backend["downs"]), age(backend["downtime_s"])),
        ]
        for backend_name, backend in service["backends"].items()
    )
    waiting = (
        f"queue {count(service['queue'])} of {count(service['queue_limit'])}, most {count(service['queue_max'])} · "
        f"held {count(service['held'])} of {count(service['held_limit'])}, most {count(service['held_max'])}"
    )
    failed = " · ".join(f"{reason}: {count(number)}" for reason, number in service["failures"].items())
    return table(name, f"{waiting} · {failed}" if failed else waiting, heads, lines, kind="backends", pause=pause)


def _routes(routes: RouteTable, pause: Pause) -> str:
    lines: list[list[Cell]] = []
    for match in routes:
        route = routes.route(match.name)
        to = Html(f'<span class="fault">{escape(match.problem)}</span>') if match.problem else _leads_to(route)
        action = "paused" if match.target in routes.paused else type(route).__name__.lower()
        lines.append([named(match.name), action, to, match.origin])
        pause()
    return table("Routes", "", {"": ("Host", "action", "leads to", "from")}, lines, kind="words", pause=pause)


def _leads_to(route: Route) -> str:
    match route:
        case Proxy():
            return f"service {route.service}" if route.service else ", ".join(route.backends)
        case Redirect():
            return f"{route.to} ({route.status})"
        case Static():
            return f"{route.file or route.content_type} ({route.status})"
        case Empty():
            return str(route.status)
        case Alias():
            return route.of
        case Hold():
            return f"{count(route.hold)} requests, {route.hold_s:g} s"


def _foot() -> str:
    return (
        "<footer>Times are means over the last 1,024 requests. In hand: requests that a backend has at the moment. "
        "Most: the highest value that one worker has seen since it started.</footer>"
    )


def _sum(pictures: Iterable[Picture], key: str) -> int:
    return sum(picture[key] for picture in pictures)
