"""What alerts tell of: each rule looks at what the dashboard knows, and gives its signs. Pure.

A sign is what a rule finds now; whether it lasts, and who is told of it, is the machine's business. What can't be judged
now (a spool that can't be asked) is neither there nor gone: its rule is among the `unjudged`.

A datacenter's dashboards judge their own datacenter. Of others they say only that they can't be heard, and of several
that hear one another the first by name says it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

from msgspec import Struct

from hitmesh.config import alerts as settings
from hitmesh.dashboard.alerts.shares import Share
from hitmesh.dashboard.problems import FULL_DISK_SHARE
from hitmesh.dashboard.status import Datacenter, Level, Part
from hitmesh.state.standing import CERTIFICATE_ENDS, DEAD, DISK_USED, SILENT
from hitmesh.visible import visible

LAST_DAYS: Final = 3.0  # of a certificate: nobody who renews them weekly comes by before its end
MAX_SAYS_CHARS: Final = 200  # of one sign
MAX_SIGNS: Final = 1000  # that are looked at; as many as a datacenter has instances, and more than anybody is told of
MAX_NAME_CHARS: Final = 120  # of an alert's name: in a setting's key there is a datacenter's besides
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_TOLD_ELSEWHERE: Final = ("books", "depth", "oldest", "spools", "spool ", "disk", "datacenter", "alerts")
"""How the keys of problems begin that another rule is for."""
_OF_SCALERS: Final = ("scaler ", "hook ")
"""How the keys of a scaler's problems begin, with its name at their end."""


class Seen(Struct, frozen=True, kw_only=True):
    """What a dashboard knows."""

    part: Part  # of its own datacenter
    dcs: Mapping[str, Datacenter] = {}  # all of them, by name
    share: Share | None = None  # of errors; None: it can't be told
    wall: float


class Sign(Struct, frozen=True, kw_only=True):
    """What a rule finds."""

    rule: str
    subject: str = ""  # the instance, host, spool or datacenter that it is about; empty: the datacenter as a whole
    level: Level
    says: str
    begins: bool = True  # False: it keeps an alert that fires, and begins none

    @property
    def name(self) -> str:
        """The alert's, such as `hub_lag/collector-1`; a setting's key may have it."""
        subject = _UNFIT.sub("-", self.subject).strip(".-")
        return f"{self.rule}/{subject}"[:MAX_NAME_CHARS] if subject else self.rule


class Judged(Struct, frozen=True):
    """What all rules find."""

    signs: Mapping[str, Sign] = {}  # by name
    unjudged: frozenset[str] = frozenset()  # rules


Found: TypeAlias = Iterator[Sign | None]
"""What one rule finds. None: it can't be judged now."""


def judge(seen: Seen, rules: settings.Rules) -> Judged:
    """What isn't well now, by the rules that aren't off."""
    signs: dict[str, Sign] = {}
    unjudged = set()
    for name, rule in RULES.items():
        if getattr(rules, name).off:
            continue
        for sign in rule(seen, rules):
            if sign is None:
                unjudged.add(name)
            elif len(signs) < MAX_SIGNS:
                signs.setdefault(sign.name, sign)
    return Judged(signs, frozenset(unjudged))


def _sign(rule: str, level: Level, says: str, subject: str = "", *, begins: bool = True) -> Sign:
    return Sign(rule=rule, subject=subject, level=level, says=visible(says)[:MAX_SAYS_CHARS], begins=begins)


# --- the rules ----------------------------------------------------------------------------------


def _datacenter_silent(seen: Seen, _rules: settings.Rules) -> Found:
    mine = seen.part.dc
    heard = {dc for dc, each in seen.dcs.items() if each.state == "up"} | {mine}
    for dc, each in seen.dcs.items():
        if dc == mine or each.state not in ("silent", "dead"):
            continue
        first = mine == min(heard)
        if each.state == "dead":
            says = f"datacenter {dc} is out of reach from {mine}: nobody there is heard; its last count stands"
            yield _sign("datacenter_silent", "bad", says, dc, begins=first)
        else:
            says = f"the dashboards of {dc} aren't heard in {mine}: nobody there sends alerts"
            yield _sign("datacenter_silent", "warn", says, dc, begins=first)


def _books(seen: Seen, _rules: settings.Rules) -> Found:
    books, dc = seen.part.books, seen.part.dc
    if books is None or not seen.part.store.reachable:
        yield None
    elif not books.balanced:
        by = f" by {books.off} hits" if books.off else ""
        yield _sign("books", "bad", f"the books of {dc} are off{by}: {_first(books.problems)}")


def _first(problems: object) -> str:
    return str(problems[0]) if isinstance(problems, (list, tuple)) and problems else "nobody says where"


def _spool_deep(seen: Seen, rules: settings.Rules) -> Found:
    depths = [each.depth for each in seen.part.spools if each.depth is not None]
    if not depths:
        yield None
    elif max(depths) > rules.spool_deep.threshold:
        yield _sign(
            "spool_deep", "bad", f"{max(depths)} jobs wait in the spool of {seen.part.dc}: more than "
            f"{rules.spool_deep.threshold}",
        )  # fmt: skip


def _spool_old(seen: Seen, rules: settings.Rules) -> Found:
    if all(each.depth is None for each in seen.part.spools):
        yield None
        return
    oldest_s = max((each.oldest_s or 0.0 for each in seen.part.spools), default=0.0)
    if oldest_s > rules.spool_old.threshold:
        says = f"hits have waited in the spool of {seen.part.dc} for {oldest_s:.0f} s: more than {rules.spool_old.threshold:g}"
        yield _sign("spool_old", "bad", says)


def _spool_copy(seen: Seen, _rules: settings.Rules) -> Found:
    bad = [each for each in seen.part.spools if not each.usable]
    for each in bad:
        if len(bad) == len(seen.part.spools):
            says = f"the spool of {seen.part.dc} can't be used, hits are refused: {each.name}: {each.why}"
        else:
            says = f"a copy of the spool of {seen.part.dc} can't be used: {each.name}: {each.why}"
        yield _sign("spool_copy", "bad" if len(bad) == len(seen.part.spools) else "warn", says, each.name)


def _disk(seen: Seen, rules: settings.Rules) -> Found:
    fullest: dict[str, float] = {}
    for row in seen.part.instances:
        if DISK_USED in row.load:
            host = row.node or row.name
            fullest[host] = max(fullest.get(host, 0.0), row.load[DISK_USED])
    for host, used in fullest.items():
        if used >= rules.disk.threshold:
            says = f"the disk with the state folder of {host} in {seen.part.dc} is {100 * used:.0f}% full"
            yield _sign("disk", "bad" if used >= FULL_DISK_SHARE else "warn", says, host)


def _hub_lag(seen: Seen, rules: settings.Rules) -> Found:
    for row in seen.part.instances:
        lag_s = row.load.get("hub_lag_s", 0.0)
        if lag_s > rules.hub_lag.threshold and row.state not in (DEAD, SILENT):
            says = f"{row.name} of {seen.part.dc} is too busy: all that it does is {lag_s:.1f} s late"
            yield _sign("hub_lag", "warn", says, row.name)


def _errors(seen: Seen, rules: settings.Rules) -> Found:
    share = seen.share
    if share is None:
        yield None
    elif share.answers and share.errors / share.answers > rules.errors.threshold:
        says = (
            f"{100 * share.errors / share.answers:.1f}% of the answers of {seen.part.dc} are errors: "
            f"{share.errors} of {share.answers} in the last minute"
        )
        yield _sign("errors", "bad", says)


def _certificate(seen: Seen, rules: settings.Rules) -> Found:
    for row in seen.part.instances:
        if CERTIFICATE_ENDS in row.load and row.state not in (DEAD, SILENT):
            days = (row.load[CERTIFICATE_ENDS] - seen.wall) / 86_400
            if days < rules.certificate.threshold:
                when = f"ends in {days:.0f} days" if days >= 1 else "ends within a day" if days > 0 else "has ended"
                says = f"a certificate that {row.name} of {seen.part.dc} shows {when}"
                yield _sign("certificate", "bad" if days < LAST_DAYS else "warn", says, row.name)


def _instance_dead(seen: Seen, _rules: settings.Rules) -> Found:
    for row in seen.part.instances:
        if row.state == DEAD:
            why = f": {row.why}" if row.why else ""
            yield _sign("instance_dead", "warn", f"{row.name} of {seen.part.dc} is dead{why}", row.name)


def _scaler(seen: Seen, _rules: settings.Rules) -> Found:
    for each in seen.part.problems:
        key = each.key.removeprefix(f"{seen.part.dc} ")
        if key.startswith(_OF_SCALERS):
            yield _sign("scaler", "warn", each.says, key.rpartition(" ")[2])


def _trouble(seen: Seen, _rules: settings.Rules) -> Found:
    unheard = {f"link {dc}" for dc, each in seen.dcs.items() if each.state != "up"}  # told by datacenter_silent
    for each in seen.part.problems:
        key = each.key.removeprefix(f"{seen.part.dc} ")
        if each.level == "bad" and not key.startswith(_TOLD_ELSEWHERE) and key not in unheard:
            yield _sign("trouble", "bad", each.says, key)


Rule: TypeAlias = Callable[[Seen, settings.Rules], Found]

RULES: Final[Mapping[str, Rule]] = {
    "datacenter_silent": _datacenter_silent,
    "books": _books,
    "spool_deep": _spool_deep,
    "spool_old": _spool_old,
    "spool_copy": _spool_copy,
    "disk": _disk,
    "hub_lag": _hub_lag,
    "errors": _errors,
    "certificate": _certificate,
    "instance_dead": _instance_dead,
    "scaler": _scaler,
    "trouble": _trouble,
}
