from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hitmesh.deploy.gates import (
    LATE_S,
    Lateness,
    Observation,
    Row,
    book_problems_in,
    failed,
    harm,
    is_ready,
    lacking_in,
    rows_in,
)

WELL = Row("collector-1", "collector", "up", 8, 7)
BEFORE = Observation(rows=[WELL], lacking=["owners of 2 of 32 partitions", "nexus-2"])


def now(row: Row = WELL, **more: Any) -> Observation:
    return Observation(rows=[row], **more)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (now(), ""),
        (Observation(), "collector-1 isn't known to the Nexuses yet"),
        (now(Row("collector-1", "collector", "starting", 8, 7)), "collector-1 is starting"),
        (now(Row("collector-1", "collector", "failing", 8, 7, "spool")), "collector-1 is failing (spool)"),
        (now(Row("collector-1", "collector", "up", 9, 9)), "collector-1 has ended since, and was started again"),
        (now(lacking=["owners of 5 of 32 partitions"]), ""),  # it lacked some before
        (now(lacking=["collector-1 (/health: 503: no spool)"]), "collector-1 (/health: 503: no spool)"),
        (now(lacking=["balancer-1-w1"]), "balancer-1-w1"),
    ],
)
def test_an_instance_is_ready_when_its_own_process_is_up_and_nothing_more_is_lacking(
    seen: Observation, reason: str
) -> None:
    assert is_ready("collector-1", 7, seen, BEFORE) == reason


@pytest.mark.parametrize(
    ("seen", "problems"),
    [
        (now(), []),
        (now(Row("collector-1", "collector", "up", 9, 9)), ["collector-1 has ended since, and was started again"]),
        (now(Row("collector-1", "collector", "failing", 8, 7, "due")), ["collector-1 is failing (due)"]),
        (now(Row("collector-1", "collector", "up", 8, 7, "", {"hub_lag_s": 9.0})), []),  # for a moment
        (now(lacking=["nexus-2", "nexus-1"]), ["nexus-1"]),
        (now(book_problems=["dc: 3 hits are lost"]), ["dc: 3 hits are lost"]),
    ],
)  # fmt: skip
def test_what_is_worse_than_before_is_harm(seen: Observation, problems: list[str]) -> None:
    assert [*harm(BEFORE, seen, {"collector-1": 7})] == problems


def lags(*lag_s: float) -> Observation:
    """A collector's, and those of others."""
    return Observation(
        rows=[
            Row(f"collector-{number}", "collector", "up", 8, 7, "", {"hub_lag_s": each})
            for number, each in enumerate(lag_s, 1)
        ]
    )


def late(seen: Sequence[Observation], before: Observation = BEFORE, each_s: float = 1.0) -> list[list[str]]:
    """What is said of collector-1 as it is seen again and again."""
    lateness = Lateness()
    return [lateness.seen(before, now, ["collector-1"], number * each_s) for number, now in enumerate(seen)]


LATE = ["collector-1 is 0.7 s late with everything"]
LONG = int(LATE_S) + 4


def test_an_instance_is_late_when_it_has_been_for_a_while_without_a_break() -> None:
    assert late([lags(0.7)] * LONG) == [[]] * int(LATE_S) + [LATE] * 4
    assert not any(late([lags(0.7), lags(0.7), lags(0.7), lags(0.1)] * 10))
    assert not any(late([lags(0.7), Observation(), lags(0.7)] * 10))


def test_a_few_sights_far_apart_are_not_enough() -> None:
    assert late([lags(0.7)] * 4, each_s=LATE_S) == [[], [], [], LATE]


@pytest.mark.parametrize(
    ("now", "before", "is_late"),
    [
        (lags(0.7, 0.0, 0.1, 5.0), lags(0.2), True),  # one of the others is late, too
        (lags(0.7, 0.3, 0.4), lags(0.0), False),  # the machine is busy
        (lags(0.7, 0.0), lags(0.4), False),  # it was before
        (lags(0.4), lags(0.0), False),
    ],
)
def test_who_is_as_late_as_before_or_as_the_others_is_not_said_to_be_late(
    now: Observation, before: Observation, is_late: bool
) -> None:
    assert any(late([now] * LONG, before)) == is_late


def balancer(requests: float, failures: float) -> Observation:
    return now(Row("balancer-1", "balancer", "up", 8, 7, "", {"requests": requests, "failed": failures}))


@pytest.mark.parametrize(
    ("requests", "failures", "words"),
    [
        (1000, 10, "10 of 1000 requests were answered with 5xx"),  # one in a hundred
        (1000, 2, ""),  # perhaps a client's own doing
        (10_000, 5, ""),
        (0, 0, ""),
    ],
)
def test_one_request_in_a_hundred_that_fails_is_too_many(requests: float, failures: float, words: str) -> None:
    assert failed(balancer(500, 50), balancer(500 + requests, 50 + failures)) == words


def test_what_the_commands_print_is_read() -> None:
    status = (
        b'[{"dc": "dc", "name": "nexus-1", "role": "nexus", "state": "up", "pid": 5, "load": {"peers": 1.0}, "new": 1}]'
    )
    assert rows_in(status) == [Row("nexus-1", "nexus", "up", 5, load={"peers": 1.0})]
    assert lacking_in(b'{"dc": ["collector-2"], "other": ["x"]}', "dc") == ["collector-2"]
    assert lacking_in(b"{}", "dc") == []
    assert book_problems_in(b'{"problems": ["dc: lost"], "lost": 1}') == ["dc: lost"]
