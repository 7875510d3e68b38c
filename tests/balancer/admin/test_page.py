"""What is made of a picture: the page, HAProxy's CSV, Prometheus' text."""

from __future__ import annotations

import csv as reader
import re
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from balancer.admin.cells import age, count, size
from balancer.admin.columns import HEADER, csv
from balancer.admin.merging import merge
from balancer.admin.metrics import STATUSES, families
from balancer.admin.page import page
from balancer.measures.stats import BackendStats, FrontStats, Picture, ServiceStats, picture
from balancer.middle.routes import RouteTable
from hitmesh.config import Alias, Empty, Hold, Proxy, Redirect, Static
from hitmesh.metrics.text import encoded
from tests.balancer.pictures import ABOUT, NOW, STARTED, full
from tests.examples import examples
from tests.services import free_port, require, wait_for

TABLE = RouteTable(
    {
        "default": Proxy(service="collector"),
        "fixed.example.com": Proxy(backends=("127.0.0.1:1", "127.0.0.1:2")),
        "old.example.com": Redirect(to="https://www.example.com"),
        "down.example.com": Static(body="soon", status=503),
        "lost.example.com": Alias(of="nowhere.example.com"),
    },
    {"default": Hold(), "*.example.com": Empty(status=204), "also.example.com": Alias(of="default")},
)
EVIL = "<script>alert(1)</script>\"'&"


def evil() -> Picture:
    """Every name and text that comes from elsewhere, as bad as it can be."""
    stats = ServiceStats(STARTED)
    backend = stats.backends[EVIL] = BackendStats(EVIL + "a", STARTED)
    backend.checked(EVIL, ok=False, duration_s=0.1)
    backend.classes[2] = 1
    stats.failed(503, EVIL)
    about = ABOUT | {"name": EVIL, "dc": EVIL, "version": EVIL, "state": EVIL}
    return picture(NOW, about=about, fronts={EVIL: FrontStats(STARTED)}, services={EVIL: stats})


# --- the page -----------------------------------------------------------------------------------


class Parsed(HTMLParser):
    """The elements, attributes and text of a page."""

    VOID = ("meta", "link", "img", "br", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
            if self.open and self.rows and {"td", "th"} & set(self.open):
                self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        """The row whose first cell begins so."""
        return next(row for row in self.rows if row and row[0].startswith(first))


def test_the_page_tells_of_every_listener_service_backend_and_route() -> None:
    text = Parsed(page(full(), TABLE)).text
    for name in ("balancer-1", "eu-west", "http", "tls", "collector-1", "collector-2", "collector-3", "127.0.0.1:8012"):
        assert name in text
    for told in ("UP", "DOWN", "DRAIN", "connection refused", "503 no backend: 2", "queue 3 of"):
        assert told in text
    for match in TABLE:
        assert match.name in text


def test_the_page_is_well_formed_and_its_rows_have_as_many_cells_as_heads() -> None:
    parsed = Parsed(page(full(), TABLE))
    assert parsed.open == []
    for first, title in (("http", "listener"), ("collector-2", "backend"), ("default", "Host")):
        assert len(parsed.row(first)) == len(parsed.row(title)) > 3


def test_the_page_shows_the_routes_in_force_where_they_lead_and_where_they_are_from() -> None:
    parsed = Parsed(page(full(), TABLE))
    assert parsed.row("fixed.example.com")[1:] == ["proxy", "127.0.0.1:1, 127.0.0.1:2", "config"]
    assert parsed.row("old.example.com")[1:] == ["redirect", "https://www.example.com (301)", "config"]
    assert parsed.row("down.example.com")[1:] == ["static", "text/plain; charset=utf-8 (503)", "config"]
    assert parsed.row("also.example.com")[1:] == ["alias", "default", "live"]
    assert parsed.row("*.example.com")[1:] == ["empty", "204", "live"]
    assert parsed.row("default")[1] == "hold"
    assert "which has no route" in parsed.row("lost.example.com")[2]


def test_the_page_loads_nothing_from_anywhere() -> None:
    text = page(full(), TABLE)
    parsed = Parsed(text)
    assert not {"script", "link", "img", "iframe", "form", "object"} & set(parsed.tags)
    assert not re.search(r"url\(|@import|javascript:", text)
    links = [value for name, value in parsed.attributes if name in ("href", "src")]
    assert links and all(re.match(r"[/?][^/]*$", link or "") for link in links)


def test_every_text_on_the_page_is_escaped() -> None:
    routes = RouteTable({EVIL: Redirect(to=EVIL), f"{EVIL}.": Alias(of=EVIL + EVIL)}, {})
    text = page(evil(), routes, now=EVIL)
    assert "<script" not in text
    parsed = Parsed(text)
    assert parsed.open == []
    assert parsed.text.count("<script>alert(1)</script>") >= 8
    assert not any(name.startswith("on") for name, _ in parsed.attributes)
    assert Parsed(page(full(), TABLE)).tags.keys() >= parsed.tags.keys()


@settings(max_examples=examples(25))  # a page takes some milliseconds to read
@given(st.text(max_size=30))
def test_no_text_changes_what_the_page_is_made_of(text: str) -> None:
    told, plain = full(), Parsed(page(full(), TABLE))
    told["name"] = told["dc"] = text
    told["services"]["collector"]["backends"]["collector-1"]["check"]["text"] = text or "x"
    told["services"]["collector"]["backends"]["collector-1"]["address"] = text or "x"
    parsed = Parsed(page(told, TABLE))
    assert parsed.tags == plain.tags


def test_the_page_loads_itself_again_unless_it_is_told_not_to() -> None:
    assert '<meta http-equiv="refresh" content="5">' in page(full(), TABLE, refresh_s=5)
    assert "http-equiv" not in page(full(), TABLE, refresh_s=0)


def test_a_status_has_its_colour() -> None:
    told = full()
    told["services"]["collector"]["backends"]["collector-1"]["status"] = "UP 1/2"
    text = page(told, TABLE)
    assert '<span class="pill warn">UP 1/2</span>' in text
    assert '<span class="pill bad">DOWN</span>' in text
    assert '<span class="pill good">UP</span>' in page(full(), TABLE)


def test_a_balancer_that_has_seen_nothing_has_a_page() -> None:
    told = picture(STARTED, about={}, fronts={}, services={"collector": ServiceStats(STARTED)})
    assert Parsed(page(told, RouteTable({}, {}))).open == []
    assert Parsed(page(merge([]), RouteTable({}, {}))).open == []


def test_numbers_are_said_as_people_read_them() -> None:
    assert count(1_234_567) == "1\u202f234\u202f567"
    assert [size(each) for each in (0, 1023, 1024, 150 * 1024, 5 * 1024**4)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "150 KiB",
        "5.0 TiB",
    ]
    assert [age(each) for each in (0.4, 59, 60, 3599, 3600, 90_000)] == [
        "0s",
        "59s",
        "1m 0s",
        "59m 59s",
        "1h 0m",
        "1d 1h",
    ]


# --- CSV ----------------------------------------------------------------------------------------


def lines_of(text: str) -> list[dict[str, str]]:
    """As people read HAProxy's: the header without its mark."""
    assert text.startswith("# ")
    return list(reader.DictReader(text[2:].splitlines()))


def test_the_csv_has_a_line_for_each_listener_backend_and_service() -> None:
    lines = lines_of(csv(full()))
    assert [(line["pxname"], line["svname"], line["type"], line["status"]) for line in lines] == [
        ("http", "FRONTEND", "0", "OPEN"),
        ("tls", "FRONTEND", "0", "OPEN"),
        ("collector", "collector-1", "2", "UP"),
        ("collector", "collector-2", "2", "DOWN"),
        ("collector", "collector-3", "2", "DRAIN"),
        ("collector", "BACKEND", "1", "UP"),
        ("empty", "BACKEND", "1", "DOWN"),
    ]


def test_the_csv_has_haproxys_numbers_in_haproxys_units() -> None:
    front, _, up, down, _, collector, _ = lines_of(csv(full()))
    assert [front[name] for name in ("scur", "smax", "slim", "stot", "dreq", "ereq", "dcon", "req_tot")] == [
        *("64", "1200", "20000", "1200", "3", "4", "2", "1234567")
    ]
    assert [
        up[name] for name in ("stot", "lbtot", "weight", "act", "check_status", "check_code", "check_duration")
    ] == [*("100000", "100000", "100", "1", "L7OK", "200", "1")]
    assert [up[name] for name in ("qtime", "ctime", "rtime", "ttime", "lastsess", "addr", "hrsp_2xx")] == [
        *("0", "0", "1", "2", "1", "127.0.0.1:8011", "99000")
    ]
    assert [down[name] for name in ("econ", "wretr", "wredis", "chkfail", "chkdown", "downtime", "last_chk")] == [
        *("12", "9", "9", "1", "1", "30", "connection refused")
    ]
    assert down["check_status"] == "L4CON"
    # the service: what waits, what those that left had counted, and what no backend answered
    assert [collector[name] for name in ("qcur", "act", "stot", "hrsp_2xx", "hrsp_5xx")] == [
        *("4", "1", "1000000", "990000", "10003")
    ]


def test_a_draining_balancer_is_stopped_in_the_csv() -> None:
    assert lines_of(csv(full() | {"state": "draining"}))[0]["status"] == "STOP"


def test_no_text_breaks_a_line_of_the_csv() -> None:
    told = full()
    backends = told["services"]["collector"]["backends"]
    backends['a,"b"'] = backends.pop("collector-1")
    backends['a,"b"']["check"]["text"] = "no, not now"
    line = next(line for line in lines_of(csv(told)) if line["svname"] == 'a,"b"')
    assert line["last_chk"] == "no, not now"
    assert line["addr"] == "127.0.0.1:8011"


def test_the_csvs_columns_are_haproxys(tmp_path: Path) -> None:
    haproxy, port = require("haproxy"), free_port()
    config = tmp_path / "haproxy.cfg"
    config.write_text(
        "defaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout connect 60s\n"
        f"frontend stats\n  bind 127.0.0.1:{port}\n  stats enable\n  stats uri /stats\n"
    )
    process = subprocess.Popen([haproxy, "-f", config, "-db"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        told = wait_for(lambda: fetch(f"http://127.0.0.1:{port}/stats;csv"), what="HAProxy's answer")
    finally:
        process.kill()
        process.wait()
    # Versions of HAProxy append columns; the first ones stay.
    theirs, ours = told.splitlines()[0].removeprefix("# ").split(","), HEADER.split(",")
    shared = min(len(ours), len(theirs) - 1, theirs.index("-") if "-" in theirs else len(theirs))
    assert shared > 80
    assert theirs[:shared] == ours[:shared]
    assert {line[-1] for line in told.splitlines() if line} == {line[-1] for line in csv(full()).splitlines()} == {","}


def fetch(url: str) -> str:
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=30) as answer:
            text: str = answer.read().decode()
            return text
    except (URLError, ConnectionError):
        return ""


# --- Prometheus ---------------------------------------------------------------------------------


def metrics(told: Picture) -> str:
    return encoded(families(told, why_not=""), "").body.decode()


def samples_of(text: str) -> dict[tuple[str, str], float]:
    """Reads as the official client's parser does; each metric is there once, each of its samples too."""
    found: dict[tuple[str, str], float] = {}
    seen: set[str] = set()
    for family in text_string_to_metric_families(text):
        assert family.name not in seen and family.documentation
        seen.add(family.name)
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            key = (sample.name.removeprefix("hitmesh_balancer_"), labels)
            assert key not in found
            found[key] = sample.value
    return found


def test_the_metrics_are_in_prometheus_format_and_have_the_numbers() -> None:
    found = samples_of(metrics(full()))
    assert found["frontend_requests_total", 'listener="http"'] == 1_234_567
    assert found["frontend_request_errors_total", 'listener="http",status="400"'] == 2
    assert found["frontend_responses_total", 'class="5xx",listener="http"'] == 67
    assert found["service_current_queue", 'service="collector"'] == 3
    assert found["service_failures_total", 'reason="no answer in time",service="collector",status="504"'] == 1
    assert found["service_responses_total", 'class="2xx",service="collector"'] == 990_000
    where = 'backend="collector-2"'
    assert found["backend_connection_errors_total", f'{where},service="collector"'] == 12
    assert found["backend_time_seconds_total", f'{where},phase="total",service="collector"'] == 300
    assert [found["backend_status", f'{where},service="collector",status="{status}"'] for status in STATUSES] == [
        0,
        1,
        0,
        0,
    ]


def test_large_counters_keep_every_digit_in_the_metrics() -> None:
    told = full()
    told["fronts"]["http"]["bytes_out"] = 123_456_789_012_345
    assert samples_of(metrics(told))["frontend_sent_bytes_total", 'listener="http"'] == 123_456_789_012_345


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a\nb", "a}b{", "ä", EVIL])
def test_no_text_breaks_a_line_of_the_metrics(text: str) -> None:
    told = full()
    told["services"][text] = told["services"].pop("collector")
    told["fronts"][text] = told["fronts"].pop("http")
    assert len(samples_of(metrics(told))) == len(samples_of(metrics(full())))


def test_a_balancer_that_has_seen_nothing_has_metrics() -> None:
    assert samples_of(metrics(merge([])))["workers", ""] == 0
