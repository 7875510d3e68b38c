"""Bringing the instances of one node to the number that is wanted there, by the supervisord of its host.

Owns what is asked of supervisord and when; what is wanted is others' to say. What a scaler may start is what the
configuration has places for beside the node's own instances, and it never stops one of these: so whoever acts twice, or
at the same time as another, does the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from hitmesh.config import Config
from hitmesh.config.scaler import SCALED, Scaled
from hitmesh.errors import CommandError
from hitmesh.state.standing import BEHIND_S, SUPERVISOR
from hitmesh.supervisord import ENDED, NO_ANSWER, Supervised, Supervisord

AGAIN_S: Final = 30.0  # before one that couldn't be started, or has ended by itself, is started again

ANSWER_S: Final = 1.0  # within which supervisord answers that doesn't hang: it takes milliseconds
BEHIND_STEP_S: Final = 5.0  # told in multiples of this: each change is told to the whole mesh
STEADY_S: Final = 3.0  # that there must be too many before one is stopped: another may know first that more are wanted

log = logging.getLogger(__name__)


class Local:
    """The node `node`, whose supervisord is `supervisord`."""

    def __init__(
        self,
        config: Config,
        node: str,
        supervisord: Supervisord,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dc, self._supervisord, self._clock = config.name, supervisord, clock
        self._own = {role: sum(one.node == node for one in config.instances(role)) for role in SCALED}
        self._spares = {role: [one.name for one in config.spares(role) if one.node == node] for role in SCALED}
        self._tried: dict[str, float] = {}  # by name: when it was started last
        self._over_since: dict[Scaled, float] = {}
        self._lacking: dict[Scaled, int] = {}  # how many are to come yet; below 0: to go
        self._lacking_since = 0.0
        self._asked_at: float | None = None  # since when supervisord hasn't answered
        self.answers: bool | None = None
        """Whether supervisord answered when it was asked last; None: it wasn't asked yet."""

    @property
    def behind_s(self) -> float:
        """For how long it hasn't come nearer to what is wanted here; 0: it is there."""
        return self._clock() - self._lacking_since if self._lacking else 0.0

    def load(self) -> dict[str, float]:
        """The figures of heartbeats."""
        hangs = self._asked_at is not None and self._clock() - self._asked_at >= ANSWER_S
        answers = False if hangs else self.answers
        known = {} if answers is None else {SUPERVISOR: float(answers)}
        return {**known, BEHIND_S: self.behind_s // BEHIND_STEP_S * BEHIND_STEP_S}

    def look(self) -> None:
        """Whether supervisord answers; nothing is to be done."""
        self._look()
        self._is_lacking({})

    def _look(self) -> Mapping[str, Supervised] | None:
        """What runs here, by instance; None: supervisord doesn't answer."""
        self._asked_at = self._clock()
        programs = self._supervisord.programs()
        self._asked_at = None
        if (programs is not None) is not self.answers:
            self.answers = programs is not None
            (log.info if self.answers else log.error)(
                "the supervisord of this host %s", "answers" if self.answers else "doesn't answer: nothing is done here"
            )
        if programs is None:
            return None
        return {each.name: each for each in programs if each.dc == self._dc}

    def bring(self, wanted: Mapping[Scaled, int], living: Mapping[Scaled, int]) -> list[str]:
        """One step towards it; what was done, in words.

        Nothing is started of a role of which nobody lives in the datacenter: somebody has stopped them all, and wants none.
        """
        programs = self._look()
        if programs is None:
            return []
        done = []
        lacking: dict[Scaled, int] = {}
        for role in SCALED:
            if role not in wanted:
                continue
            spares = self._spares[role]
            goal = min(max(wanted[role] - self._own[role], 0), len(spares))
            running = [name for name in spares if name in programs and programs[name].state not in (*ENDED, "STOPPING")]
            more = goal - sum(name in programs and programs[name].state == "RUNNING" for name in spares)
            if more < 0 or (more > 0 and living.get(role, 0)):
                lacking[role] = more
            stopping = any(name in programs and programs[name].state == "STOPPING" for name in spares)
            if len(running) < goal and living.get(role, 0):
                ended = [name for name in spares if name not in running and not _is_stopping(programs.get(name))]
                done += [word for name in ended[: goal - len(running)] if (word := self._start(name, programs))]
            if len(running) <= goal:
                self._over_since.pop(role, None)
            elif self._clock() - self._over_since.setdefault(role, self._clock()) >= STEADY_S and not stopping:
                done += [word for word in [self._stop(running[-1])] if word]  # the next when this one has ended
        self._is_lacking(lacking)
        return done

    def _is_lacking(self, lacking: dict[Scaled, int]) -> None:
        if lacking != self._lacking:
            self._lacking, self._lacking_since = lacking, self._clock()

    def _start(self, name: str, programs: Mapping[str, Supervised]) -> str:
        now = self._clock()
        found = programs.get(name)
        gone_badly = found is not None and found.state != "STOPPED"
        if gone_badly and now - self._tried.get(name, float("-inf")) < AGAIN_S:
            return ""
        self._tried[name] = now
        full_name = f"{self._dc}-{name}"
        try:
            # As its file is now, which may have changed since supervisord read it.
            self._supervisord.reload()
            self._supervisord.remove(full_name)
            self._supervisord.add(full_name)
        except CommandError as error:
            log.error("%s can't be started: %s", name, error)
            return ""
        return f"{name} is started"

    def _stop(self, name: str) -> str:
        try:
            self._supervisord.call("stopProcess", f"{self._dc}-{name}", False)
        except NO_ANSWER as error:
            log.error("%s can't be stopped: %s", name, error)
            return ""
        return f"{name} is told to finish its work and end"


def _is_stopping(found: Supervised | None) -> bool:
    return found is not None and found.state == "STOPPING"
