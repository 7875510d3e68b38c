"""Whether a datacenter's processors have their shares of the partitions. Pure."""

from __future__ import annotations

from collections import Counter

from hitmesh.cli import picture
from hitmesh.config import Config
from hitmesh.protocol.messages import Answer
from hitmesh.state.ownership import rendezvous


def unsettled(config: Config, answer: Answer | None) -> list[str]:
    """The processors that don't own all of their share yet, with how much of it; empty when each does."""
    seen = [each.instance for each in picture.alive(answer, "processor") if each.instance.dc == config.name]
    names = [one.name for one in seen if one.state == "up"]
    if not names:
        return [f"{config.partitions} of {config.partitions} partitions"]
    owners: dict[int, tuple[int, str]] = {}
    for one in seen:
        for partition, epoch in one.owns.items():
            owners[partition] = max(owners.get(partition, (0, "")), (epoch, one.name))
    shares = {partition: rendezvous(partition, names) for partition in range(config.partitions)}
    whole = Counter(shares.values())
    owned = Counter(name for partition, name in shares.items() if owners.get(partition, (0, ""))[1] == name)
    return [
        f"{name} (owns {owned[name]} of its {count} partitions)"
        for name, count in sorted(whole.items())
        if owned[name] < count
    ]
