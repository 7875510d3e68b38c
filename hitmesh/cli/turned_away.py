"""Who isn't heard in a datacenter, in words: what its instances' heartbeats count. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from hitmesh.cli.picture import duration
from hitmesh.protocol.messages import Answer
from hitmesh.state.rights import BROKEN, REASONS, SHUT_OUT, TURNED_AWAY, TURNED_AWAY_S


def told(dc: str, answer: Answer | None) -> Iterator[str]:
    """A line for each instance that turns somebody away, and for each that isn't let in."""
    for seen in answer.seen if answer else ():
        instance = seen.instance
        if not seen.alive or instance.dc != dc:
            continue
        turned_away = []
        for key, count in sorted(instance.load.items()):
            link, _, reason = key.removeprefix(TURNED_AWAY).partition(".")
            if key.startswith(TURNED_AWAY) and reason in REASONS and reason != BROKEN and count:
                age_s = instance.load.get(f"{TURNED_AWAY_S}{link}.{reason}")
                last = "" if age_s is None else f" (the last {duration(age_s + seen.age_ms / 1000)} ago)"
                turned_away.append(f"{count:.0f} on {link} with {REASONS[reason]}{last}")
        if turned_away:
            yield f"{dc}: {instance.name} has turned away {'; '.join(turned_away)}: its log says who"
        if shut_out := instance.load.get(SHUT_OUT, 0):
            yield (
                f"{dc}: {instance.name} isn't let in by {shut_out:.0f} Nexuses: their list may lack its key, or its list "
                "their new one; its log says where"
            )
