"""Every alert fires when it should, and is gone when that has passed: by promtool, in its own time."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.hitmesh.metrics.rules import FOLDER, PAGE, REPOSITORY, RULES, alerts
from tests.services import require

# Samples, one each minute, that are good, bad, and good again.
QUICK: Final = (10, 20, 25)
PATIENT: Final = (10, 75, 70)  # of the rules that look at an hour
OVER_AN_HOUR: Final = ("HitmeshVersionsDiffer", "HitmeshHitsInDoubt")

Values = Callable[[int, int, int], str]
Series = tuple[str, Values]


class Case(NamedTuple):
    """Series that are good, bad and good again; the labels with which the alert fires while they are bad."""

    series: Sequence[Series]
    labels: dict[str, str]


def told(metric: str, /, **labels: str) -> str:
    return metric + "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"


def gauge(metric: str, good: float, bad: float, /, **labels: str) -> Series:
    return told(metric, **labels), lambda before, during, after: f"{good}x{before} {bad}x{during} {good}x{after}"


def rising(metric: str, /, **labels: str) -> Series:
    """A counter that stands still while all is well."""
    return told(metric, **labels), lambda before, during, after: f"0x{before} 0+3x{during} {3 * during}x{after}"


def steady(metric: str, /, **labels: str) -> Series:
    return told(metric, **labels), lambda *phases: f"0+100x{sum(phases)}"


def slow(metric: str, /, **labels: str) -> list[Series]:
    """A histogram: within a millisecond while all is well, and else beyond all bounds."""

    def quick(before: int, during: int, after: int) -> str:
        return f"0+10x{before} {10 * before}x{during} {10 * before}+10x{after}"

    buckets: list[Series] = [(told(metric, **labels, le=le), quick) for le in ("0.001", "10.0")]
    return [*buckets, (told(metric, **labels, le="+Inf"), lambda *phases: f"0+10x{sum(phases) + 2}")]


DC: Final = {"dc": "eu-west"}
ONE: Final = {"job": "hitmesh", "dc": "eu-west", "role": "collector", "name": "collector-1"}
OTHER: Final = {**ONE, "name": "collector-2"}
NAMED: Final = {"dc": "eu-west", "name": "collector-1"}
SERVICE: Final = {"dc": "eu-west", "service": "collector"}
BACKEND: Final = {**SERVICE, "backend": "collector-1"}

CASES: Final = {
    "HitmeshInstanceDown": Case([gauge("up", 1, 0, **ONE), gauge("up", 1, 1, **OTHER)], ONE),
    "HitmeshRoleDown": Case(
        [gauge("up", 1, 0, **ONE), gauge("up", 1, 0, **OTHER)], {"dc": "eu-west", "role": "collector"}
    ),
    "HitmeshFailing": Case([gauge("hitmesh_failing", 0, 1, **ONE)], ONE),
    "HitmeshBusy": Case(slow("hitmesh_hub_lag_seconds_bucket", **ONE), NAMED),
    "HitmeshFilesNearlyUsedUp": Case(
        [gauge("process_open_fds", 100, 900, **ONE), gauge("process_max_fds", 1000, 1000, **ONE)], ONE
    ),
    "HitmeshLogLost": Case([rising("hitmesh_log_lost_lines_total", **ONE)], ONE),
    "HitmeshVersionsDiffer": Case(
        [
            gauge("hitmesh_build_info", 1, 1, **ONE, version="2.0.0"),
            (told("hitmesh_build_info", **OTHER, version="1.0.0"), "_x{} 1x{} _x{}".format),
        ],
        DC,
    ),
    "HitmeshHitsRefused": Case(
        [
            rising("hitmesh_collector_refused_requests_total", **ONE, reason="not_counted"),
            steady("hitmesh_collector_refused_requests_total", **ONE, reason="bad_request"),
        ],
        DC,
    ),
    "HitmeshHitsInDoubt": Case(
        [
            rising("hitmesh_collector_unknown_hits_total", **ONE),
            gauge("hitmesh_collector_in_doubt_hits_total", 0, 0, **ONE),
        ],
        DC,
    ),
    "HitmeshHitsSlow": Case(slow("hitmesh_collector_hit_duration_seconds_bucket", **ONE), DC),
    "HitmeshSpoolSlow": Case(slow("hitmesh_collector_spool_put_duration_seconds_bucket", **ONE), DC),
    "HitmeshSpoolCopyUnusable": Case(
        [
            gauge("hitmesh_spool_usable", 1, 0, **DC, spool="b-1"),
            gauge("hitmesh_spool_usable", 1, 1, **DC, spool="b-2"),
        ],
        {**DC, "spool": "b-1"},
    ),
    "HitmeshSpoolDeep": Case([gauge("hitmesh_spool_jobs", 10, 5001, **DC, spool="b-1")], DC),
    "HitmeshSpoolOld": Case([gauge("hitmesh_spool_oldest_seconds", 1, 31, **DC, spool="b-1")], DC),
    "HitmeshJobsSetAside": Case([gauge("hitmesh_spool_buried_jobs", 0, 1, **DC, spool="b-1")], DC),
    "HitmeshStoreUnreachable": Case([gauge("hitmesh_store_reachable", 1, 0, **DC)], DC),
    "HitmeshCommitsLate": Case([gauge("hitmesh_collector_oldest_unacked_seconds", 0, 16, **ONE)], DC),
    "HitmeshCommitsSlow": Case(slow("hitmesh_processor_commit_duration_seconds_bucket", **ONE), DC),
    "HitmeshPartitionsUnowned": Case([gauge("hitmesh_store_unowned_partitions", 0, 1, **DC)], DC),
    "HitmeshPartitionsUnreadable": Case([gauge("hitmesh_store_unreadable_partitions", 0, 1, **DC)], DC),
    "HitmeshProcessorFaults": Case([gauge("hitmesh_processor_faults", 0, 1, **ONE)], ONE),
    "HitmeshBooksOff": Case([gauge("hitmesh_books_balanced", 1, 0, **DC)], DC),
    "HitmeshLinkCut": Case([gauge("hitmesh_link_up", 1, 0, **DC, source="us-west")], {**DC, "source": "us-west"}),
    "HitmeshCopyOld": Case(
        [gauge("hitmesh_processor_copy_age_seconds", 0.5, 16, **ONE, peer="us-west")], {**DC, "peer": "us-west"}
    ),
    "HitmeshErrorShare": Case(
        [
            rising("hitmesh_balancer_frontend_responses_total", **ONE, listener="http", **{"class": "5xx"}),
            steady("hitmesh_balancer_frontend_responses_total", **ONE, listener="http", **{"class": "2xx"}),
            steady("hitmesh_balancer_frontend_responses_total", **ONE, listener="admin", **{"class": "5xx"}),
        ],
        DC,
    ),
    "HitmeshBackendDown": Case(
        [
            gauge("hitmesh_balancer_backend_status", 1, 0, **BACKEND, status="UP"),
            gauge("hitmesh_balancer_backend_status", 0, 1, **BACKEND, status="DOWN"),
        ],
        BACKEND,
    ),
    "HitmeshRequestsHeld": Case([gauge("hitmesh_balancer_service_current_held", 0, 1, **SERVICE)], SERVICE),
    "HitmeshRequestsQueue": Case([gauge("hitmesh_balancer_service_current_queue", 0, 1, **SERVICE)], SERVICE),
    "HitmeshWorkerHung": Case([rising("hitmesh_balancer_workers_hung_total", **ONE)], ONE),
    "HitmeshRecordersDown": Case(
        [gauge("up", 1, 0, **ONE | {"role": "recorder"}), gauge("up", 1, 1, **ONE | {"role": "nexus"})], DC
    ),
    "HitmeshRecordsLost": Case([rising("hitmesh_records_dropped_total", **ONE)], DC),
    "HitmeshRecorderDrops": Case([rising("hitmesh_recorder_dropped_entries_total", **ONE)], ONE),
    "HitmeshRecorderUnwritable": Case([gauge("hitmesh_recorder_unwritable", 0, 1, **ONE)], ONE),
    "HitmeshDatabaseAway": Case([gauge("hitmesh_recorder_database_away_seconds", 20, 301, **ONE)], ONE),
    "HitmeshScalersDown": Case(
        [gauge("up", 1, 0, **ONE | {"role": "scaler"}), gauge("up", 1, 1, **ONE | {"role": "nexus"})], DC
    ),
    "HitmeshScalerPowerless": Case([gauge("hitmesh_scaler_supervisor_up", 1, 0, **ONE)], ONE),
    "HitmeshScalerBehind": Case([gauge("hitmesh_scaler_behind_seconds", 20, 65, **ONE)], ONE),
    "HitmeshScalerHookMissing": Case([gauge("hitmesh_scaler_hook_missing", 0, 1, **ONE)], ONE),
    "HitmeshScalerHookFailed": Case([rising("hitmesh_scaler_failed_hooks_total", **ONE)], ONE),
    "HitmeshSettingsRefused": Case([gauge("hitmesh_live_settings_refused", 0, 1, **ONE)], DC),
    "HitmeshTurnedAway": Case(
        [rising("hitmesh_turned_away_total", **ONE, link="acks", reason="unknown_key")], {**DC, "reason": "unknown_key"}
    ),
    "HitmeshDashboardSaysBad": Case(
        [
            gauge("hitmesh_datacenter_problems", 0, 1, **DC, level="bad", kind="spool"),
            gauge("hitmesh_datacenter_problems", 1, 1, **DC, level="warn", kind="link"),
        ],
        {**DC, "kind": "spool"},
    ),
    "HitmeshDiskNearlyFull": Case([gauge("hitmesh_datacenter_problems", 0, 1, **DC, level="warn", kind="disk")], DC),
}


def together() -> list[tuple[tuple[int, int, int], list[str]]]:
    """The cases in as few groups as can be: no two of one have a metric in common, so that none sees another's."""
    groups: list[tuple[tuple[int, int, int], list[str], set[str]]] = []
    for name, case in CASES.items():
        phases = PATIENT if name in OVER_AN_HOUR else QUICK
        metrics = {series.partition("{")[0] for series, _ in case.series}
        fitting = (group for group in groups if group[0] == phases and not group[2] & metrics)
        group = next(fitting, None)
        if group is None:
            group = phases, [], set()
            groups.append(group)
        group[1].append(name)
        group[2].update(metrics)
    return [(phases, names) for phases, names, _ in groups]


def expected(rule: Any, labels: dict[str, str]) -> dict[str, Any]:
    def filled(text: str) -> str:
        return re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels[found[1]], text)

    return {
        "exp_labels": {**labels, **rule["labels"]},
        "exp_annotations": {key: filled(text) for key, text in rule["annotations"].items()},
    }


def test_every_alert_fires_and_clears(tmp_path: Path) -> None:
    rules = alerts()
    assert set(CASES) == set(rules)
    tests = []
    for phases, names in together():
        moments = [(sum(phases[: number + 1]), number == 1) for number in range(3)]  # at the end of each
        samples = [one for name in names for one in CASES[name].series]
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": series, "values": values(*phases)} for series, values in samples],
                "alert_rule_test": [
                    {
                        "eval_time": f"{minutes}m",
                        "alertname": name,
                        "exp_alerts": [expected(rules[name], CASES[name].labels)] if fires else [],
                    }
                    for name in names
                    for minutes, fires in moments
                ],
            }
        )
    file = tmp_path / "rules.test.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(
        [require("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_prometheus_is_given_is_right() -> None:
    done = subprocess.run(
        [require("promtool"), "check", "config", str(FOLDER / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(alerts())} rules found" in done.stdout


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    pages = re.findall(r"^### (\w+)$", (REPOSITORY / PAGE).read_text(), re.MULTILINE)
    assert sorted(pages) == sorted(alerts())
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook"] == f"{PAGE}#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")
