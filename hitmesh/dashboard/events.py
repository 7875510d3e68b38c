"""What has happened in a datacenter, the newest first: differences between what was and what is. Pure.

Owns the list of events and their numbers, and finds take-overs, changed settings and deploys by what it is shown. It
must not know where that comes from, nor where the list is kept.

Invariants:
- Numbers rise, over restarts too: an event's key is never another's.
- What was so when it was first looked at isn't an event.
- Bounded: EVENTS of them, each of a few hundred characters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from hitmesh.config import hands
from hitmesh.config.live import DATACENTERS, DEPLOYS, FORMATS, ROUTES, SCALER
from hitmesh.config.pauses import PAUSES
from hitmesh.dashboard.alerts.silences import SILENCES, silences_among
from hitmesh.dashboard.instances import Turn
from hitmesh.dashboard.status import EVENTS, Event
from hitmesh.settings import Edition, Setting, wanted
from hitmesh.settings.trail import Entry, read_trail

MAX_SAYS_CHARS: Final = 300
MAX_WHO_CHARS: Final = 128
SETTLED_S: Final = 1.0  # without another one, and the take-overs of an owner's death are told as one
LONGEST_S: Final = 5.0  # that they are gathered
CAUSE_S: Final = 15.0  # a death or a farewell before a take-over is its cause: it follows within 4 s
MAX_SET: Final = 20  # settings changed at once that are told one by one: a merge after a cut link may bring thousands

_SAID: Final = {
    "joined": "{who} joined",
    "died": "{who} died",
    "left": "{who} left",
    "drained": "{who} drains",
    "failed": "{who} fails",
    "recovered": "{who} is well again",
}


class Events:
    """The newest events of datacenter `dc`."""

    def __init__(self, dc: str) -> None:
        self._dc = dc
        self._events: deque[Event] = deque(maxlen=EVENTS)  # the newest first
        self._number = 0
        self._unsaved: list[tuple[int, Event]] = []
        self._owners: dict[int, str] = {}
        self._moved: dict[tuple[str, str], list[int]] = {}  # new and old owner: partitions
        self._moved_at = self._moving_since = 0.0
        self._ends: dict[str, tuple[str, float]] = {}  # by name: what ended it, and when
        self._settings: Mapping[str, Edition] | None = None

    def add(self, kind: str, who: str, says: str, cause: str, wall: float) -> Event:
        """One more event."""
        self._number = max(self._number + 1, int(wall))  # a past that was lost is no reason to begin at 1 again
        event = msgspec.convert(
            {
                "key": f"{self._dc} {self._number}",
                "at": wall,
                "dc": self._dc,
                "kind": kind,
                "who": who[:MAX_WHO_CHARS],
                "says": says[:MAX_SAYS_CHARS],
                "cause": cause[:MAX_SAYS_CHARS],
            },
            Event,
        )
        self._events.appendleft(event)
        self._unsaved = [*self._unsaved[-(EVENTS - 1) :], (self._number, event)]
        return event

    def turned(self, turns: Iterable[Turn], now: float, wall: float) -> None:
        """Instances have changed their states."""
        for turn in turns:
            if turn.kind in ("died", "left", "drained"):
                self._ends[turn.name] = {"died": "died", "left": "left", "drained": "drained"}[turn.kind], now
            self.add(turn.kind, turn.name, _SAID[turn.kind].format(who=turn.name), turn.cause, wall)
        self._ends = {name: end for name, end in self._ends.items() if now - end[1] <= CAUSE_S}

    def owned(self, owners: Mapping[int, str], now: float, wall: float) -> None:
        """Who owns which partition now, by name. One that nobody owns isn't in it."""
        if not self._owners:
            self._owners = dict(owners)
            return
        for partition, owner in owners.items():
            before = self._owners.get(partition)
            self._owners[partition] = owner
            if before is not None and before != owner:
                if not self._moved:
                    self._moving_since = now
                self._moved.setdefault((owner, before), []).append(partition)
                self._moved_at = now
        if self._moved and (now - self._moved_at > SETTLED_S or now - self._moving_since > LONGEST_S):
            self._tell_moves(now, wall)

    def changed(self, editions: Mapping[str, Edition], wall: float) -> None:
        """The settings as they stand now; what others wrote is text here."""
        before, self._settings = self._settings, editions
        if before is None:
            return
        news = [each for key, each in sorted(editions.items()) if key not in before or before[key].rank < each.rank]
        plain = [each for each in news if not each.key.startswith(DEPLOYS)]
        for each in plain[:MAX_SET]:
            self.add("set", each.author, _words_of(each), "", wall)
        for each in [each for each in news if each.key.startswith(SILENCES)][:MAX_SET]:
            self.add("alert", each.author, *_words_of_silence(each), wall)
        if len(plain) > MAX_SET:
            self.add("set", "", f"{len(plain) - MAX_SET} more settings were changed", "", wall)
        for each in news:
            if each.key == f"{DEPLOYS}{self._dc}/trail":
                self._deployed(read_trail(before[each.key].value) if each.key in before else [], read_trail(each.value))
            elif each.key == f"{SCALER}{self._dc}":
                self._scaled(before[each.key].value if each.key in before else None, each.value)

    def newest(self) -> Sequence[Event]:
        """All that are kept, the newest first."""
        return list(self._events)

    def unsaved(self) -> list[tuple[int, bytes]]:
        """Those that came since this was asked last, packed, by number."""
        found, self._unsaved = self._unsaved, []
        return [(number, msgspec.msgpack.encode(event)) for number, event in found]

    def unpack(self, saved: Mapping[int, bytes]) -> int:
        """Take in what was saved before anything has happened; how many can't be read."""
        bad = 0
        for number, data in sorted(saved.items()):
            try:
                event = msgspec.msgpack.decode(data, type=Event)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                bad += 1
                continue
            self._events.appendleft(event)
            self._number = max(self._number, number)
        return bad

    # --- within ---------------------------------------------------------------------------

    def _tell_moves(self, now: float, wall: float) -> None:
        for (owner, before), partitions in self._moved.items():
            count = len(partitions)
            named = f"partition {partitions[0]}" if count == 1 else f"{count} partitions"
            end, at = self._ends.get(before, ("", 0.0))
            cause = (
                f"{before} {end}"
                if end and now - at <= CAUSE_S
                else f"{before} handed {'it' if count == 1 else 'them'} over"
            )
            self.add("took over", owner, f"{owner} took over {named} of {before}", cause, wall)
        self._moved = {}

    def _scaled(self, before: bytes | None, after: bytes | None) -> None:
        known, now = wanted.decode(before), wanted.decode(after)
        for change in now.changes if now is not None else ():
            if known is None or change not in known.changes:
                who = now.holder.partition(".")[0] if now is not None else ""
                self.add("scaled", who, wanted.words(change), change.why, change.at)

    def _deployed(self, before: Sequence[Entry], after: Sequence[Entry]) -> None:
        known = set(before)
        for entry in after:
            if entry not in known:
                self._tell_deploy(entry)

    def _tell_deploy(self, entry: Entry) -> None:
        kind = "scaled" if entry.what.startswith("scale") else "deployed"
        what = f"{entry.what} of {entry.release}" if entry.release else entry.what
        self.add(
            kind, entry.who, f"{what}: {entry.result}", f"in {entry.seconds:.0f} s" if entry.seconds else "", entry.at
        )


def _words_of_silence(edition: Edition) -> tuple[str, str]:
    """What has been done, and why."""
    name = edition.key.removeprefix(SILENCES)
    if edition.value is None:
        return f"{name} isn't silenced any more", ""
    live = Setting(edition.key, edition.value, edition.version, edition.author, edition.changed_at)
    why = [each.why for each in silences_among({edition.key: live})]
    return f"{name} is silenced", why[0] if why else ""


def _words_of(edition: Edition) -> str:
    key = edition.key
    for prefix, what in ((ROUTES, "the route of "), (DATACENTERS, "datacenter "), (FORMATS, "the format ")):
        if key.startswith(prefix):
            name = what + key.removeprefix(prefix)
            if edition.value is None:
                return f"{name} was taken back" if prefix == DATACENTERS else f"{name} was removed"
            return f"{name} was {'retired' if prefix == DATACENTERS else 'set'}"
    if key.startswith(PAUSES):
        return f"the route of {key.removeprefix(PAUSES)} was {'resumed' if edition.value is None else 'paused'}"
    if hands.is_hand(key):
        return hands.words(key, None if edition.value is None else edition.value.decode("utf-8", "replace"))
    if edition.value is None:
        return f"{key} was unset"
    return f"{key} is {edition.value.decode('utf-8', 'replace')}"
