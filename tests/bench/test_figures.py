"""What the benches make of what they measured."""

from __future__ import annotations

import pytest

from bench.figures import Load, percentile, ratio_of_percentiles, read_wrk, row

QUIET = """Running 4s test @ http://127.0.0.1:18080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     0.98ms  120.11us  14.72ms   95.38%
    Req/Sec    66.15k     1.06k   67.50k    67.50%
  Latency Distribution
     50%    0.92ms
     99%    1.48ms
  263112 requests in 4.00s, 39.14MB read
Requests/sec:  65777.52
Transfer/sec:      9.79MB
"""
ROUGH = QUIET.replace("14.72ms", "1.27s").replace(
    "Requests/sec",
    "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 7\nRequests/sec",
)


def test_a_run_without_failures_is_read() -> None:
    load = read_wrk(QUIET)
    assert load == Load(per_s=65777.52, answers=263_112, bad_answers=0, socket_errors=0, slowest_s=0.01472)
    assert load.failed == 0


def test_each_kind_of_failure_counts() -> None:
    load = read_wrk(ROUGH)
    assert (load.socket_errors, load.bad_answers, load.failed, load.slowest_s) == (4321, 7, 4328, 1.27)


def test_what_wrk_didnt_print_is_refused() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        read_wrk("unable to connect to 127.0.0.1:18080 Connection refused\n")


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: int) -> None:
    assert percentile(list(range(1, 101)), share) == value


def test_the_ratio_is_of_turns_beside_each_other() -> None:
    # the machine was twice as fast in the last turn: the medians' ratio would be 1.0
    line = row("x", [80, 100, 160], [100, 100, 200], "{:.0f}".format, target="0.80")
    assert "ours         100   HAProxy         100   ratio 0.80 (0.80 to 1.00)   target 0.80" in line


def test_a_ratio_of_percentiles_is_of_all_turns_together_and_lies_in_its_interval() -> None:
    base = [[0.010] * 99 + [0.100], [0.010] * 99 + [0.050]]
    ours = [[0.010] * 98 + [0.100] * 2, [0.010] * 98 + [0.100] * 2]
    assert ratio_of_percentiles(ours, base, 0.99) == pytest.approx((10, 10, 10))
    ratio, lowest, highest = ratio_of_percentiles(base, [turn[:-1] for turn in base], 1.0)
    assert (ratio, lowest, highest) == pytest.approx((10, 5, 10))
