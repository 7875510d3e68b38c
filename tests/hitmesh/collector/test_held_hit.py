"""The answer to a hit: what is done once it is counted, and only then."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from falcon.testing import create_environ

from hitmesh.collector.collector import Collector, Forming
from hitmesh.collector.forms import JSON, PIXEL, Form
from hitmesh.collector.held_hit import HeldHit
from hitmesh.errors import SpoolRefused, SpoolUnknown
from tests.hitmesh.collector.stub_app import StubCollector, counting

ENVIRON = create_environ("/hit/s/a")


def answered(form: Form, error: SpoolRefused | SpoolUnknown | None, counted: Callable[[], None]) -> str:
    """The status of a hit's answer, after its batch was released so."""
    statuses: list[str] = []
    forming = Forming(0.0)
    held = HeldHit(cast(Collector, StubCollector()), lambda: {**ENVIRON}, forming, "s/a", form, counted=counted)
    held.begin(counting(), "200 OK", (), lambda status, headers, problem=None: statuses.append(status))
    forming.release(error)
    b"".join(held)
    return statuses[0]


@pytest.mark.parametrize("form", [JSON, PIXEL])
@pytest.mark.parametrize("error", [SpoolRefused("full", op="put"), SpoolUnknown("no answer", op="put"), None])
def test_who_visited_is_remembered_only_once_the_visit_is_counted(
    form: Form, error: SpoolRefused | SpoolUnknown | None
) -> None:
    remembered: list[int] = []
    status = answered(form, error, lambda: remembered.append(1))
    assert (status[:3], len(remembered)) == (("503", 0) if error else ("200", 1))
