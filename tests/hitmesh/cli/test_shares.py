"""Whether each processor has its share."""

from __future__ import annotations

from collections.abc import Iterable

from hitmesh.cli.shares import unsettled
from hitmesh.config import parse
from hitmesh.protocol.messages import Answer, Instance, Seen, make
from hitmesh.state.ownership import rendezvous

PARTITIONS = 32
CONFIG = parse(
    {"name": "dc", "partitions": PARTITIONS, "nodes": {"n": {"address": "127.0.0.1", "nexus": 1, "processor": 2, "collector": 1}}},
    source="test",
)  # fmt: skip


def processor(name: str, owns: Iterable[int], *, epoch: int = 1, state: str = "up", dc: str = "dc") -> Seen:
    claims = dict.fromkeys(owns, epoch)
    return Seen(Instance(dc, "processor", name, f"{name}.{dc}", state, 1, 0, {}, {}, claims), 1, 0, True)


def lacking(*seen: Seen) -> list[str]:
    return unsettled(CONFIG, make(Answer, 1, "", "nexus", 1, True, seen))


def share(name: str, *names: str) -> list[int]:
    return [partition for partition in range(PARTITIONS) if rendezvous(partition, names) == name]


def test_each_has_its_share() -> None:
    assert lacking(*(processor(name, share(name, "a-1", "a-2")) for name in ("a-1", "a-2"))) == []


def test_a_newcomer_that_owns_nothing_yet_lacks_its_share() -> None:
    names = ("a-1", "a-2", "a-3")
    seen = [processor(name, share(name, "a-1", "a-2")) for name in names[:2]]
    mine = len(share("a-3", *names))
    assert lacking(*seen, processor("a-3", [])) == [f"a-3 (owns 0 of its {mine} partitions)"]


def test_the_higher_epoch_owns() -> None:
    mine, other = share("a-1", "a-1", "a-2"), share("a-2", "a-1", "a-2")
    late = processor("a-2", range(PARTITIONS), epoch=1)
    assert lacking(processor("a-1", mine, epoch=2), late) == []
    assert lacking(processor("a-1", mine, epoch=2), processor("a-2", other, epoch=1)) == []
    [found] = lacking(processor("a-1", mine, epoch=1), processor("a-2", range(PARTITIONS), epoch=2))
    assert found.startswith("a-1 (owns 0 of its ")


def test_nobody_waits_for_one_that_drains_or_is_elsewhere() -> None:
    everything = processor("a-1", range(PARTITIONS))
    assert lacking(everything, processor("a-2", [], state="draining")) == []
    assert lacking(everything, processor("a-2", [], dc="far")) == []


def test_without_processors_all_is_lacking() -> None:
    assert lacking() == ["32 of 32 partitions"]
    assert unsettled(CONFIG, None) == ["32 of 32 partitions"]
