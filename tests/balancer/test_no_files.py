"""A worker that may open no file more: that is its own lack, and no backend's."""

from __future__ import annotations

import resource
from pathlib import Path

from tests.balancer.stage import backends, proxy, requests_to, staged
from tests.balancer.wire.visitor import Visitor
from tests.services import wait_for

FALL = 2


def test_a_check_for_which_no_file_is_left_is_no_failure_of_the_backend(tmp_path: Path) -> None:
    with (
        backends(1) as [backend],
        staged(tmp_path, {"default": proxy(backend.port, check_path="/health", check_s=0.05, fall=FALL)}) as balancer,
        Visitor(balancer.port) as visitor,
    ):
        assert visitor.get("/", host="a").status == 200
        [pid] = balancer.workers()
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            wait_for(
                lambda: "no check" in balancer.log() or "is DOWN" in balancer.log(), what="checks that can't be made"
            )
            assert visitor.get("/", host="a").status == 200
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert "is DOWN" not in balancer.log()
        checked = requests_to([backend], "/health")
        wait_for(lambda: requests_to([backend], "/health") > checked, what="checks again")
