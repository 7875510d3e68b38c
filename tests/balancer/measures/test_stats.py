"""What a worker counts, and the picture of several workers."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from balancer.admin.merging import merge
from balancer.measures.rates import SAMPLES, Average, Rate
from balancer.measures.stats import MAX_REASONS, SUMMED, BackendStats, FrontStats, Picture, ServiceStats, picture
from balancer.worker import Worker
from hitmesh.settings.live import LOAD, LOAD_REFUSED
from hitmesh.state.histogram import Histogram
from tests.balancer.pictures import ABOUT, NOW, STARTED, full, service


def test_a_balancers_heartbeats_tell_its_requests_and_those_answered_with_5xx() -> None:
    front = FrontStats(now=NOW)
    front.requests, front.classes[2], front.classes[5] = 10, 7, 3
    worker = SimpleNamespace(
        _fronts={"http": front},
        _generation=0,
        traffic=SimpleNamespace(clients=[]),
        _services=[],
        _live=None,
        _virtual_ip=dict,
        _certificates={},
        _room=None,
    )
    load = Worker._load(cast(Worker, worker))
    assert (load["requests"], load["failed"]) == (10, 3)


# --- rates and averages -------------------------------------------------------------------------


def test_a_rate_is_what_came_in_the_last_second() -> None:
    rate = Rate(10.0)
    rate.sample(500, 11.0)
    assert rate.current == 500
    rate.sample(700, 12.0)
    assert rate.current == 200


def test_a_rate_falls_to_nothing_when_nothing_comes_and_its_maximum_stays() -> None:
    rate = Rate(10.0)
    rate.sample(500, 11.0)
    rate.sample(500, 12.0)
    assert (rate.current, rate.max) == (0, 500)


def test_a_look_right_after_a_sample_changes_no_rate() -> None:
    rate = Rate(10.0)
    rate.sample(100, 11.0)
    rate.sample(101, 11.001)
    assert (rate.current, rate.max) == (100, 100)


def test_a_late_sample_makes_no_higher_rate() -> None:
    rate = Rate(10.0)
    rate.sample(1000, 20.0)
    assert rate.max == 100


def test_the_first_requests_have_their_own_mean() -> None:
    average = Average()
    average.sample(2, 0.4)
    assert average.mean == 0.2
    average.sample(4, 1.6)
    assert average.mean == 0.4


def test_a_mean_forgets_what_is_longer_ago_than_its_samples() -> None:
    average = Average()
    average.sample(10 * SAMPLES, 10 * SAMPLES * 1.0)
    average.sample(11 * SAMPLES, 10 * SAMPLES * 1.0 + SAMPLES * 0.25)
    assert average.mean == 0.25


@given(st.lists(st.tuples(st.integers(0, 3000), st.floats(0, 10)), max_size=30))
def test_a_mean_stays_between_the_least_and_the_most(batches: list[tuple[int, float]]) -> None:
    average, count, total = Average(), 0, 0.0
    for number, each_s in batches:
        count, total = count + number, total + number * each_s
        average.sample(count, total)
    seen = [each_s for number, each_s in batches if number]
    if seen:
        assert min(seen) - 1e-6 <= average.mean <= max(seen) + 1e-6


# --- one worker ---------------------------------------------------------------------------------


def test_a_picture_is_plain_json() -> None:
    assert json.loads(json.dumps(full())) == full()


def test_connections_are_counted_and_their_most_is_kept() -> None:
    front = FrontStats(STARTED)
    front.opened()
    front.opened()
    front.sessions -= 1
    front.opened()
    told = front.snapshot(NOW)
    assert (told["sessions"], told["sessions_max"], told["sessions_total"]) == (2, 2, 3)


def test_a_429_is_denied_and_every_other_refusal_an_error_by_its_status() -> None:
    front = FrontStats(STARTED)
    for status in (429, 400, 431, 400):
        front.refused(status)
    told = front.snapshot(NOW)
    assert (told["denied"], told["errors"]) == (1, {"400": 2, "431": 1})


def test_a_status_of_no_class_is_counted_as_other() -> None:
    front = FrontStats(STARTED)
    for status in (100, 200, 204, 301, 404, 503, 600, 999, 99):
        front.classes[status // 100] += 1
    assert front.snapshot(NOW)["classes"] == {"1xx": 1, "2xx": 2, "3xx": 1, "4xx": 1, "5xx": 1, "other": 3}


def test_downtime_is_the_sum_of_all_times_down_also_the_one_under_way() -> None:
    backend = BackendStats("127.0.0.1:1", STARTED)
    backend.become("DOWN", STARTED + 10)
    backend.become("DOWN", STARTED + 12)
    backend.become("UP", STARTED + 15)
    backend.become("DRAIN", STARTED + 20)
    backend.become("DOWN", STARTED + 30)
    told = backend.snapshot(STARTED + 32)
    assert (told["status"], told["downs"], told["downtime_s"], told["status_s"]) == ("DOWN", 2, 7, 2)


def test_a_failed_check_is_counted_and_the_last_one_told() -> None:
    backend = BackendStats("127.0.0.1:1", STARTED)
    backend.checked("connection refused", ok=False, duration_s=0.001)
    backend.checked("200 OK", ok=True, duration_s=0.002, code=200)
    told = backend.snapshot(NOW)
    assert told["check_failures"] == 1
    assert told["check"] == {"text": "200 OK", "ok": True, "code": 200, "s": 0.002}


def test_means_are_of_the_requests_that_were_answered() -> None:
    backend = BackendStats("127.0.0.1:1", STARTED)
    for total_s in (0.1, 0.3):
        backend.answered += 1
        backend.total_s += total_s
    told = backend.snapshot(NOW)
    assert told["mean_s"]["total"] == 0.2
    assert told["sums_s"]["total"] == 0.4


def test_a_services_counters_stay_when_a_backend_leaves() -> None:
    stats = service()
    before = stats.snapshot(NOW)
    stats.forget("collector-1")
    after = stats.snapshot(NOW)
    assert "collector-1" not in after["backends"]
    for counter in (*SUMMED, "classes", "sums_s"):
        assert after[counter] == before[counter], counter


def test_a_services_rate_does_not_dip_when_a_backend_leaves() -> None:
    stats = service()
    stats.sample(NOW)
    stats.forget("collector-3")
    stats.sample(NOW + 1)
    assert stats.rate.current == 0


def test_the_reasons_of_failures_are_bounded() -> None:
    stats = ServiceStats(STARTED)
    for number in range(10 * MAX_REASONS):
        stats.failed(503, f"reason {number}")
    failures = stats.snapshot(NOW)["failures"]
    assert len(failures) <= MAX_REASONS + 1
    assert sum(failures.values()) == 10 * MAX_REASONS
    assert failures["503 other"] == 9 * MAX_REASONS


# --- several workers ----------------------------------------------------------------------------


def numbers(told: Picture, path: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for key, value in told.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{path}/{key}")
        elif isinstance(value, int | float):
            found[f"{path}/{key}"] = value
    return found


def test_one_workers_picture_is_the_picture_of_all() -> None:
    assert merge([full()]) == full()


def test_times_are_summed_over_workers_bucket_by_bucket() -> None:
    def worker(*took_s: float) -> Picture:
        stats = ServiceStats(STARTED)
        for each in took_s:
            stats.requests.observe(each)
            stats.first_bytes.observe(each / 2)
        return picture(NOW, about=ABOUT, fronts={}, services={"collector": stats})

    times = merge([worker(0.002, 0.2), worker(0.002)])["services"]["collector"]["times"]
    assert {bound: count for bound, count in times["request"].items() if count} == {
        "0.0025": 2,
        "0.25": 1,
        "sum": 0.204,
    }
    assert {bound: count for bound, count in times["backend"].items() if count} == {"0.001": 2, "0.1": 1, "sum": 0.102}


def test_what_workers_have_in_a_mesh_is_summed_but_for_the_settings_that_they_all_follow() -> None:
    def worker(lost: int, lag_s: float) -> Picture:
        lag = Histogram()
        lag.observe(lag_s)
        about = {**ABOUT, "hub_lag": lag.snapshot(), "figures": {"log_lost": lost, LOAD: 7, LOAD_REFUSED: 1}}
        return picture(NOW, about=about, fronts={}, services={})

    merged = merge([worker(2, 0.002), worker(3, 0.002)])
    assert merged["figures"] == {"log_lost": 5, LOAD: 7, LOAD_REFUSED: 1}
    assert merged["hub_lag"]["0.0025"] == 2


def test_counters_are_summed_over_workers() -> None:
    one, both = full(), merge([full(), full()])
    assert both["workers"] == 2
    for name in ("requests", "sessions", "sessions_total", "sessions_limit", "bytes_in", "denied"):
        assert both["fronts"]["http"][name] == 2 * one["fronts"]["http"][name], name
    assert both["fronts"]["http"]["errors"] == {"400": 4, "408": 2, "431": 2}
    merged, single = both["services"]["collector"], one["services"]["collector"]
    for name in (*SUMMED, "queue", "held", "queue_limit", "rate"):
        assert merged[name] == 2 * single[name], name
    assert merged["failures"] == {"503 no backend": 4, "504 no answer in time": 2}
    assert merged["backends"]["collector-1"]["classes"]["2xx"] == 198_000


def test_a_maximum_is_the_largest_of_any_worker_but_never_below_what_is_there() -> None:
    one, other = full(), full()
    one["fronts"]["http"] |= {"sessions": 3, "sessions_max": 50}
    other["fronts"]["http"] |= {"sessions": 4, "sessions_max": 40}
    assert merge([one, other])["fronts"]["http"]["sessions_max"] == 50
    one["fronts"]["http"]["sessions"] = other["fronts"]["http"]["sessions"] = 40
    assert merge([one, other])["fronts"]["http"]["sessions_max"] == 80


def test_means_are_weighed_by_their_requests() -> None:
    def worker(answered: int, total_s: float) -> Picture:
        stats = ServiceStats(STARTED)
        backend = stats.backends["a"] = BackendStats("127.0.0.1:1", STARTED)
        backend.answered, backend.total_s = answered, answered * total_s
        return picture(NOW, about=ABOUT, fronts={}, services={"app": stats})

    merged = merge([worker(100, 0.1), worker(300, 0.5), worker(0, 0.0)])
    assert merged["services"]["app"]["backends"]["a"]["mean_s"]["total"] == 0.4


def test_workers_that_differ_on_a_status_say_how_many_see_the_best_of_it() -> None:
    one, other = full(), full()
    other["services"]["collector"]["backends"]["collector-1"] = one["services"]["collector"]["backends"]["collector-2"]
    backend = merge([one, other])["services"]["collector"]["backends"]["collector-1"]
    assert backend["status"] == "UP 1/2"
    assert backend["statuses"] == {"UP": 1, "DOWN": 1}
    assert backend["check"]["text"] == "connection refused"
    assert backend["status_s"] == 100
    assert backend["downtime_s"] == 30


def test_a_backend_was_down_as_long_as_it_was_for_any_worker() -> None:
    backend = merge([full(), full()])["services"]["collector"]["backends"]["collector-2"]
    assert (backend["status"], backend["downtime_s"], backend["downs"]) == ("DOWN", 30, 2)


def test_what_only_one_worker_has_is_there() -> None:
    one, other = full(), full()
    del other["services"]["collector"]["backends"]["collector-3"]
    del other["fronts"]["tls"]
    one["services"]["collector"]["backends"]["collector-1"]["last_used_s"] = None
    merged = merge([one, other])
    assert list(merged["services"]["collector"]["backends"]) == ["collector-1", "collector-2", "collector-3"]
    assert merged["services"]["collector"]["backends"]["collector-1"]["last_used_s"] == 1.5
    assert list(merged["fronts"]) == ["http", "tls"]


def test_merging_changes_none_of_the_pictures() -> None:
    pictures = [full(), full()]
    merge(pictures)
    assert pictures == [full(), full()]


def test_no_worker_is_a_picture_too() -> None:
    assert numbers(merge([])) == {"/workers": 0}
