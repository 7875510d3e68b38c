"""What is sent of families of samples: Prometheus's text or OpenMetrics, by the official client's encoders.

A large family is encoded piece by piece: in a process that has other work the hub may serve it between.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

PIECE: Final = 100  # samples that are encoded at once: half a millisecond
_END: Final = b"# EOF\n"  # of OpenMetrics


class Answer(NamedTuple):
    """The body of an answer, and its Content-Type."""

    body: bytes
    content_type: str


class _Everything(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()


class _Only(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]


def registry(collect: Callable[[], Iterable[Metric]]) -> CollectorRegistry:
    """A registry of this process's own: what `collect` yields, and the process's CPU, memory and files."""
    made = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=made)
    made.register(_Everything(collect))
    return made


def encoded(families: Iterable[Metric], accept: str, pause: Callable[[], None] = lambda: None) -> Answer:
    """All of it in the form that the field `Accept` asks for; a family without samples isn't there."""
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # the client's own, of a version that is none
        encode, content_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
    pieces = []
    end = b""
    for family in families:
        for number, piece in enumerate(_pieces(family)):
            text = encode(_Only(piece))
            if text.endswith(_END):
                text, end = text.removesuffix(_END), _END
            pieces.append(text if number == 0 else _without_head(text))
            pause()
    return Answer(b"".join([*pieces, end]), content_type)


def _pieces(family: Metric) -> Iterator[Metric]:
    for first in range(0, len(family.samples), PIECE):
        piece = copy.copy(family)
        piece.samples = family.samples[first : first + PIECE]
        yield piece


def _without_head(text: bytes) -> bytes:
    while text.startswith(b"#"):
        text = text.partition(b"\n")[2]
    return text
