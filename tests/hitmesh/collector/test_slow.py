"""What a collector says in the log of a request that took long."""

from __future__ import annotations

import logging

import pytest

from hitmesh.collector.collector import Forming
from hitmesh.collector.slow import FORMING, NEVER, SlowRequests

ENVIRON = {
    "REQUEST_METHOD": "POST",
    "HTTP_HOST": "one.example",
    "RAW_URI": "/hit/s/" + "a" * 5000,
    "REMOTE_ADDR": "127.0.0.1",
    "HTTP_X_FORWARDED_FOR": "10.0.0.9",
    "HTTP_X_REQUEST_ID": "r-1",
}


def said(caplog: pytest.LogCaptureFixture, forming: Forming | None, *, times: int = 1) -> dict[str, object]:
    slow = SlowRequests(1000)
    environ = ENVIRON if forming is None else {**ENVIRON, FORMING: forming}
    for _ in range(times):
        slow.say(environ, "200 OK", 10.0, 3.0)
    [record] = caplog.records
    assert (record.levelno, record.message) == (logging.WARNING, "slow request")
    fields: dict[str, object] = record.fields  # type: ignore[attr-defined]
    return fields


def test_a_slow_hit_is_said_once_with_its_parts(caplog: pytest.LogCaptureFixture) -> None:
    forming = Forming(9.0)
    forming.put_s, forming.done_s = 10.5, 12.0
    fields = said(caplog, forming, times=3)
    assert len(str(fields.pop("target"))) == 2048
    assert fields == {
        "method": "POST", "host": "one.example", "status": 200, "client": "127.0.0.1", "forwarded_for": "10.0.0.9",
        "request_id": "r-1", "ms": 3000, "waiting_ms": 500, "spool_ms": 1500, "total_ms": 1000,
    }  # fmt: skip


def test_one_whose_batch_was_put_already_waited_for_nothing(caplog: pytest.LogCaptureFixture) -> None:
    forming = Forming(9.0)
    forming.put_s, forming.done_s = 9.5, 12.0
    fields = said(caplog, forming)
    assert (fields["waiting_ms"], fields["spool_ms"]) == (0, 2000)


def test_one_without_hits_has_no_parts(caplog: pytest.LogCaptureFixture) -> None:
    fields = said(caplog, None)
    assert not {"waiting_ms", "spool_ms", "total_ms"} & fields.keys()


def test_from_when_on_it_is_slow_can_be_set_and_0_is_never() -> None:
    slow = SlowRequests(250)
    assert slow.from_s == 0.25
    slow.set(0)
    assert slow.from_s == NEVER
