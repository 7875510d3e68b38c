"""Whose parts are added to a lane: its worker's own, or of whoever has claimed a job of a worker that can't. Pure.

Any collector may resend a job that it has claimed, in the lanes of the worker that made it. A worker that lives, and
gets its acks, needs nobody for that: what somebody else sends in its name then would use up its numbers. What has
been applied is acknowledged to everybody all the same, so that a claim ends.

Invariant: a job that only a claim can bring is never refused for long. A worker says in its heartbeats what it waits
for: a job of its own is claimed only after it has waited for the acks for `retry_delay_s`, or after its put had no
clear answer. And whoever isn't heard may be dead.
"""

from __future__ import annotations

from typing import Final

from hitmesh.state import rights
from hitmesh.state.keylist import Peer
from hitmesh.state.view import MeshView

# Of a collector's load.
UNACKED_S: Final = "unacked_s"  # for how long its oldest job has waited for its acks, in whole seconds
UNKNOWN: Final = "unknown"  # hits whose put had no clear answer
REFUSED_PUTS: Final = "refused_puts"  # puts that the spool refused, or gave no clear answer to: their hits got an error


def why_not(sender: Peer | None, worker: str, view: MeshView, now_s: float, retry_delay_s: float) -> str:
    """Why parts from this sender aren't added to the worker's lanes; empty: they are.

    The sender is None in a mesh without keys, where nobody is known.
    """
    if sender is None or rights.is_own_id(sender, worker):
        return ""
    instance = next((one for one in view.live("collector") if one.id == worker), None)
    heard_s = view.heard(worker)
    patience_s = retry_delay_s / 2  # so that a load has come here by the time that a job is claimed
    if instance is None or heard_s is None or now_s - heard_s >= patience_s:
        return ""
    load = instance.load
    # An older release says neither.
    if load.get(UNKNOWN, 1.0) > 0 or load.get(UNACKED_S, patience_s) >= int(patience_s):
        return ""
    return f"{sender} sends it, and its worker lives and gets its acks"
