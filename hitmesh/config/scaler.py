"""How many instances a datacenter may have by itself, and how many workers each of its balancers: the bounds and targets
of each role that grows and shrinks with its load. What is decided by them is the scaler's. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal, get_args

from msgspec import Meta

from hitmesh.config.sections import Section

Scaled = Literal["collector", "processor"]
SCALED: Final[tuple[Scaled, ...]] = get_args(Scaled)
"""The roles of which there are more instances, or fewer."""
Sized = Literal["collector", "processor", "balancer"]
SIZED: Final[tuple[Sized, ...]] = get_args(Sized)
"""Those, and the one whose instances have more workers, or fewer."""

_Count = Annotated[int, Meta(ge=0, le=64)]
_Seconds = Annotated[float, Meta(ge=1, le=86_400)]
_Share = Annotated[float, Meta(ge=0.01, le=1)]
_MIN = "least of them in the datacenter; 0: as many as its nodes say, fewer there never are"
_MAX = "most of them in the datacenter; 0: the scaler leaves them alone"
_NODE_MAX = "most of them on one node, for which it has programs; 0: `max`"
_BUSY = "share of one CPU that each is to use"
_UP = "for which there must be too few of them before more are started"
_DOWN = "for which fewer must have been enough before one is stopped"


class Collectors(Section, frozen=True):
    """Of collectors."""

    min: Annotated[_Count, Meta(description=_MIN)] = 0
    max: Annotated[_Count, Meta(description=_MAX)] = 0
    node_max: Annotated[_Count, Meta(description=_NODE_MAX)] = 0
    busy: Annotated[_Share, Meta(description=_BUSY)] = 0.6
    p99_ms: Annotated[
        float, Meta(ge=0, le=60_000, description="within which 99 of 100 answers of each are to be; 0: any time")
    ] = 100.0
    up_s: Annotated[_Seconds, Meta(description=_UP)] = 10.0
    down_s: Annotated[_Seconds, Meta(description=_DOWN)] = 300.0


class Processors(Section, frozen=True):
    """Of processors: partitions move with each that comes or goes, so they take their time."""

    min: Annotated[_Count, Meta(description=_MIN)] = 0
    max: Annotated[_Count, Meta(description=_MAX)] = 0
    node_max: Annotated[_Count, Meta(description=_NODE_MAX)] = 0
    busy: Annotated[_Share, Meta(description=_BUSY)] = 0.6
    up_s: Annotated[_Seconds, Meta(description=_UP)] = 30.0
    down_s: Annotated[_Seconds, Meta(description=_DOWN)] = 900.0


class Balancers(Section, frozen=True):
    """Of the workers of a balancer: each change replaces them all, so that clients connect anew. They take their time."""

    min: Annotated[_Count, Meta(description="least workers of each balancer; 0: balancer.workers")] = 0
    max: Annotated[_Count, Meta(description="most workers of each balancer; 0: the scaler leaves them alone")] = 0
    busy: Annotated[_Share, Meta(description="share of one CPU that each worker is to use")] = 0.6
    up_s: Annotated[_Seconds, Meta(description="for which there must be too few of them before there are more")] = 20.0
    down_s: Annotated[_Seconds, Meta(description="for which fewer must have been enough before there is one less")] = (
        900.0
    )


Target = Collectors | Processors | Balancers
"""What holds for one role."""


class Scaler(Section, frozen=True):
    """The scaler of a datacenter."""

    dry_run: Annotated[bool, Meta(description="it decides and says so, and changes nothing")] = False
    host_busy: Annotated[
        _Share, Meta(description="share of a host's CPUs in use, above which nothing more is started there")
    ] = 0.85
    host_free_mb: Annotated[
        int, Meta(ge=0, le=1_048_576, description="memory that a host must have free for one more")
    ] = 256
    warm_s: Annotated[
        float, Meta(ge=0, le=3600, description="for which nothing is decided after an instance came or went")
    ] = 10.0
    hook: Annotated[
        str,
        Meta(
            description="program that is told, as JSON, when more are needed and every host is full, relative to this file; "
            "empty: none"
        ),
    ] = ""
    hook_s: Annotated[float, Meta(ge=1, le=86_400, description="at least between two runs of it")] = 600.0
    hook_timeout_s: Annotated[float, Meta(ge=1, le=3600, description="after which it is killed")] = 60.0
    collector: Collectors = Collectors()
    processor: Processors = Processors()
    balancer: Balancers = Balancers()

    def of(self, role: Sized) -> Target:
        """What holds for a role."""
        found: Target = getattr(self, role)
        return found

    def most_on_a_node(self, role: Scaled) -> int:
        """For how many of a role a node has programs; 0: for those that it is configured to run."""
        own = self.collector if role == "collector" else self.processor
        return min(own.max, own.node_max or own.max)


def scaler_problems(scaler: Scaler, configured: dict[Sized, int], partitions: int, *, runs: bool) -> Iterator[str]:
    """What contradicts itself, where so many instances, or workers, are `configured`, and a scaler `runs` or doesn't."""
    for role in SIZED:
        own = scaler.of(role)
        key = f"scaler.{role}"
        if not own.max:
            if own.min:
                yield f"{key}.min ({own.min}) means nothing while {key}.max is 0, which leaves them alone"
            continue
        if own.min > own.max:
            yield f"{key}.min ({own.min}) is more than {key}.max ({own.max})"
        if own.max < configured[role] and role == "balancer":
            yield f"{key}.max ({own.max}) is less than balancer.workers ({configured[role]}), of which there are never fewer"
        elif own.max < configured[role]:
            yield (
                f"{key}.max ({own.max}) is less than the nodes run anyway ({configured[role]}); "
                f"raise it, or lower nodes.<node>.{role}"
            )
        if role == "processor" and own.max > partitions:
            yield f"{key}.max ({own.max}) is more than the partitions ({partitions}): some would have nothing to do"
        if not runs:
            yield f"{key}.max ({own.max}) needs a scaler, and no node runs one; set nodes.<node>.scaler"
    if scaler.hook_timeout_s > scaler.hook_s:
        yield f"scaler.hook_timeout_s ({scaler.hook_timeout_s}) is more than scaler.hook_s ({scaler.hook_s})"
