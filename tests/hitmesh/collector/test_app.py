"""A real collector's HTTP, with a real Nexus and a real processor behind it."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import greenstalk
import msgspec
import pytest

from tests.hitmesh.collector.conftest import PATIENT
from tests.hitmesh.collector.raw import Raw
from tests.services import wait_for
from tests.services.beanstalkd import Beanstalkd
from tests.system.mesh import Answer, Mesh

NDJSON = {"Content-Type": "application/x-ndjson"}
MSGPACK = {"Content-Type": "application/msgpack"}


def total(mesh: Mesh, path: str) -> object:
    """What GET /total/<path> says."""
    answer = mesh.request("GET", f"/total/{path}")
    assert answer.status == 200, answer
    return answer.json()["total"]


def assert_error(answer: Answer, status: int, word: str = "") -> None:
    """An error in the form that every one of them has."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()
    assert sorted(error) == ["description", "title"]
    assert error["title"]
    assert error["description"]
    assert word in error["description"]


@contextmanager
def nothing_counted(mesh: Mesh) -> Iterator[None]:
    """The totals are the same before and after, also once another hit has been committed."""

    def committed(mark: int) -> dict[str, int]:
        assert mesh.hit("marker/page").status == 200
        wait_for(lambda: mesh.totals().get("marker/page") == mark, what="the marker's commit")
        wait_for(mesh.is_settled, what="the spool to be empty")
        return {page: count for page, count in mesh.totals().items() if page != "marker/page"}

    mark = mesh.totals().get("marker/page", 0)
    before = committed(mark + 1)
    yield
    assert committed(mark + 2) == before


# --- hits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_hits_one_after_the_other_are_answered_1_2_3(mesh: Mesh, method: str) -> None:
    answers = [mesh.request(method, f"/hit/counting/{method}") for _ in range(5)]
    assert [answer.json()["total"] for answer in answers] == [1, 2, 3, 4, 5]


def test_a_hit_s_answer_has_the_page_and_each_datacenter_s_count_and_age(mesh: Mesh) -> None:
    answer = mesh.request("POST", "/hit/shape/page")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    age_s = found["dcs"]["dc-test"].pop("age_s")
    assert found == {"page": "shape/page", "total": 1, "dcs": {"dc-test": {"count": 1}}}
    assert 0 <= age_s < 60


def test_a_hit_is_committed(mesh: Mesh) -> None:
    mesh.hit("committed/page")
    wait_for(lambda: mesh.totals().get("committed/page") == 1, what="the commit")


def test_many_hits_at_once_are_all_counted_and_each_answer_has_a_total_of_its_own_or_more(mesh: Mesh) -> None:
    with ThreadPoolExecutor(16) as pool:
        totals = [answer.json()["total"] for answer in pool.map(lambda _: mesh.hit("crowd/page"), range(200))]
    assert max(totals) == 200
    assert min(totals) >= 1
    wait_for(lambda: mesh.totals().get("crowd/page") == 200, what="the commit")


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("spelled/a%20b", "spelled/a b"),
        ("spelled/caf%C3%A9", "spelled/café"),
        ("spelled/caf%c3%a9", "spelled/café"),
        ("spelled/%E6%97%A5", "spelled/日"),
        ("spelled/a%2Fb", "spelled/a/b"),
        ("spelled/a%3Fb%23c", "spelled/a?b#c"),
        ("spelled/%2541", "spelled/%41"),
        ("spelled/a+b", "spelled/a+b"),
        ("spelled/slash/", "spelled/slash"),
        ("spelled/query?a=b&c", "spelled/query"),
        ("spelled/both/?a=b", "spelled/both"),
        ("spelled//double", "spelled//double"),
        ("spelled", "spelled"),
        ("spelled/" + "x" * 1016, "spelled/" + "x" * 1016),
    ],
)
def test_a_page_is_read_from_the_path(mesh: Mesh, path: str, page: str) -> None:
    before = total(mesh, path)
    assert isinstance(before, int)
    answer = mesh.request("POST", f"/hit/{path}")
    assert (answer.json()["page"], answer.json()["total"]) == (page, before + 1)
    assert total(mesh, path) == before + 1


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(
    "path",
    ["", "/", "%00", "s/%00", "s/%0A", "s/%ff", "s/%ED%A0%80", "/s", "s/../t", "..", "s/%2e%2e", "x" * 1025],
)  # fmt: skip
def test_a_page_that_can_t_be_counted_is_a_400(mesh: Mesh, method: str, path: str) -> None:
    assert_error(mesh.request(method, f"/hit/{path}"), 400, "a page")


def test_bad_pages_count_nothing(mesh: Mesh) -> None:
    with nothing_counted(mesh):
        for path in ("", "s/%00", "s/%ff", "s/../t"):
            assert mesh.request("POST", f"/hit/{path}").status == 400


def test_a_hit_s_body_is_ignored_up_to_its_limit(mesh: Mesh) -> None:
    answer = mesh.request("POST", "/hit/body/fits", b"x" * mesh.config.limits.hit_body_bytes)
    assert (answer.status, answer.json()["total"]) == (200, 1)


def test_a_hit_with_a_body_above_the_limit_is_a_413_and_counts_nothing(mesh: Mesh) -> None:
    with nothing_counted(mesh):
        assert_error(mesh.request("POST", "/hit/body/large", b"x" * (mesh.config.limits.hit_body_bytes + 1)), 413)


# --- totals -------------------------------------------------------------------------------------


def test_a_total_doesn_t_count(mesh: Mesh) -> None:
    mesh.hit("quiet/page")
    assert [total(mesh, "quiet/page") for _ in range(3)] == [1, 1, 1]


def test_a_collector_says_as_who_and_where_it_listens(mesh: Mesh) -> None:
    host, port = mesh.address()
    assert f"takes hits at http://{host}:{port}/hit/<page> " in mesh.log("collector-1")
    assert "dc-test/collector/collector-1" in mesh.log("collector-1")


def test_a_page_without_hits_has_the_total_0(mesh: Mesh) -> None:
    found = mesh.request("GET", "/total/nobody/was/here").json()
    assert (found["page"], found["total"], found["dcs"]["dc-test"]["count"]) == ("nobody/was/here", 0, 0)


def test_a_bad_page_has_no_total(mesh: Mesh) -> None:
    assert_error(mesh.request("GET", "/total/s/%ff"), 400, "UTF-8")


@pytest.fixture(scope="module")
def listed(mesh: Mesh) -> Mesh:
    """Pages list/0 to list/9 with 1 to 10 hits each, committed."""
    counts = {f"list/{i}": i + 1 for i in range(10)}
    assert mesh.request("POST", "/hits", msgspec.msgpack.encode(counts), MSGPACK).status == 200
    wait_for(lambda: mesh.totals().items() >= counts.items(), what="the commit")
    wait_for(lambda: len(listing(mesh, "prefix=list/")[0]) == 10, what="a list that isn't older")
    return mesh


def listing(mesh: Mesh, query: str) -> tuple[list[tuple[str, int]], str | None]:
    found = mesh.request("GET", f"/totals?{query}").json()
    return [(entry["page"], entry["total"]) for entry in found["totals"]], found["after"]


def test_totals_are_listed_by_prefix_in_the_order_of_their_pages(listed: Mesh) -> None:
    assert listing(listed, "prefix=list/") == ([(f"list/{i}", i + 1) for i in range(10)], None)


@pytest.mark.parametrize("more", ["", "&sort=top"])
def test_what_is_below_a_page_begins_with_the_page(listed: Mesh, more: str) -> None:
    assert listing(listed, f"prefix=list/3/{more}") == ([("list/3", 4)], None)


def test_totals_have_the_form_of_a_total(listed: Mesh) -> None:
    (entry,) = listed.request("GET", "/totals?prefix=list/3").json()["totals"]
    assert sorted(entry["dcs"]["dc-test"]) == ["age_s", "count"]
    assert (entry["page"], entry["total"], entry["dcs"]["dc-test"]["count"]) == ("list/3", 4, 4)


def test_totals_go_on_after_the_last_page_of_the_answer_before(listed: Mesh) -> None:
    pages: list[str] = []
    after: str | None = ""
    while after is not None:
        some, after = listing(listed, f"prefix=list/&limit=4&after={after}")
        assert len(some) <= 4
        pages += [page for page, _ in some]
    assert pages == [f"list/{i}" for i in range(10)]


def test_the_largest_totals_come_first_when_asked_for(listed: Mesh) -> None:
    assert listing(listed, "prefix=list/&sort=top&limit=3") == ([("list/9", 10), ("list/8", 9), ("list/7", 8)], None)


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=100000", "sort=up", "colour=red", "limit=1&limit=2"])
def test_a_query_with_a_mistake_is_a_400(mesh: Mesh, query: str) -> None:
    assert_error(mesh.request("GET", f"/totals?{query}"), 400)


# --- batches ------------------------------------------------------------------------------------


def test_json_lines_are_counted(mesh: Mesh) -> None:
    body = b'{"page": "lines/a", "count": 3}\n{"page": "lines/b"}\n{"page": "lines/a"}\n'
    answer = mesh.request("POST", "/hits", body, NDJSON)
    assert (answer.status, answer.json()) == (200, {"accepted": 5})
    assert (total(mesh, "lines/a"), total(mesh, "lines/b")) == (4, 1)


def test_a_msgpack_map_is_counted(mesh: Mesh) -> None:
    answer = mesh.request("POST", "/hits", msgspec.msgpack.encode({"map/a": 3, "map/é": 4}), MSGPACK)
    assert (answer.status, answer.json()) == (200, {"accepted": 7})
    assert (total(mesh, "map/a"), total(mesh, "map/%C3%A9")) == (3, 4)


def test_as_many_pages_as_the_limit_are_counted_in_one_batch(mesh: Mesh) -> None:
    pages = {f"limit/{i}": 1 for i in range(mesh.config.limits.batch_pages)}
    assert mesh.request("POST", "/hits", msgspec.msgpack.encode(pages), MSGPACK).json() == {"accepted": len(pages)}
    wait_for(lambda: mesh.totals().items() >= pages.items(), within_s=30, what="the commits")


def test_the_longest_pages_in_one_batch_are_counted(mesh: Mesh) -> None:
    pages = {f"long/{i:0>4}".ljust(1024, "x"): 1 for i in range(1000)}
    assert mesh.request("POST", "/hits", msgspec.msgpack.encode(pages), MSGPACK).json() == {"accepted": len(pages)}
    wait_for(lambda: mesh.totals().items() >= pages.items(), within_s=30, what="the commits")


def test_batches_with_a_mistake_are_refused_whole(mesh: Mesh) -> None:
    good = b'{"page": "refused/a"}\n'
    too_many = msgspec.msgpack.encode({f"refused/{i}": 1 for i in range(mesh.config.limits.batch_pages + 1)})
    with nothing_counted(mesh):
        for headers, body, status, word in (
            (NDJSON, good + b"nonsense\n" + good, 400, "line 2"),
            (NDJSON, good + b'{"page": "refused/b", "count": 0}', 400, "line 2"),
            (NDJSON, good + b'{"page": "refused/../b"}', 400, "line 2"),
            (NDJSON, b"", 400, "empty"),
            (MSGPACK, b"\x82\xa9refused/a\x01", 400, "msgpack"),
            (MSGPACK, b"nonsense", 400, "msgpack"),
            (MSGPACK, too_many, 413, "pages"),
            (NDJSON, b" " * (mesh.config.limits.batch_body_bytes + 1), 413, "bytes"),
            ({"Content-Type": "application/json"}, good, 415, "application/x-ndjson"),
            ({}, good, 415, "application/x-ndjson"),
        ):
            assert_error(mesh.request("POST", "/hits", body, headers), status, word)


def test_a_batch_cut_short_is_not_counted(mesh: Mesh) -> None:
    with nothing_counted(mesh), Raw(mesh.address()) as raw:
        raw.send(
            b"POST /hits HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100\r\n\r\n"
            b'{"page": "cut/short"}\n'
        )
        raw.close_writing()
        raw.read_to_end()


def test_a_chunked_batch_is_counted(mesh: Mesh) -> None:
    with Raw(mesh.address()) as raw:
        answer = raw.ask(
            b"POST /hits HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'10\r\n{"page": "chunke\r\n8\r\nd/one"}\n\r\n0\r\n\r\n'
        )
    assert (answer.status, answer.json()) == (200, {"accepted": 1})
    assert total(mesh, "chunked/one") == 1


def test_a_chunked_batch_above_the_limit_is_a_413(mesh: Mesh) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with nothing_counted(mesh), Raw(mesh.address()) as raw:
        raw.send(
            b"POST /hits HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        raw.send(chunk * 17 + b"0\r\n\r\n")
        assert raw.answer().status == 413


# --- methods, errors, CORS ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/hit/s/a", {"GET", "HEAD", "POST"}),
        ("DELETE", "/hit/s/a", {"GET", "HEAD", "POST"}),
        ("POST", "/pixel/s/a", {"GET", "HEAD"}),
        ("POST", "/badge/s/a", {"GET", "HEAD"}),
        ("POST", "/count.js", {"GET", "HEAD"}),
        ("HEAD", "/hits", {"POST"}),
        ("GET", "/hits", {"POST"}),
        ("POST", "/total/s/a", {"GET", "HEAD"}),
        ("POST", "/totals", {"GET", "HEAD"}),
        ("POST", "/health", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_a_405_with_the_right_ones(mesh: Mesh, method: str, path: str, allowed: set[str]) -> None:
    answer = mesh.request(method, path)
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) - {"OPTIONS"} == allowed
    if method != "HEAD":
        assert_error(answer, 405, method)


def test_wrong_methods_count_nothing(mesh: Mesh) -> None:
    with nothing_counted(mesh):
        for method in ("HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"):
            assert mesh.request(method, "/hit/method/wrong").status in (200, 400, 405)


@pytest.mark.parametrize("path", ["//", "/hit", "/nothing", "/hits/", "/healthy", "/totals/a"])
def test_what_isn_t_there_is_a_404(mesh: Mesh, path: str) -> None:
    assert_error(mesh.request("GET", path), 404, "/hit/<page>")


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/*", "*/*"])
def test_an_error_is_json_whatever_the_client_accepts(mesh: Mesh, accept: str) -> None:
    assert_error(mesh.request("GET", "/hit/s/%ff", headers={"Accept": accept}), 400)


@pytest.mark.parametrize("path", ["/health", "/total/s/a", "/totals"])
def test_head_is_get_without_the_body(mesh: Mesh, path: str) -> None:
    got, headed = mesh.request("GET", path), mesh.request("HEAD", path)
    assert (headed.status, headed.body) == (200, b"")
    assert headed.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/hit/cors/a"),
        ("GET", "/total/cors/a"),
        ("GET", "/totals"),
        ("POST", "/hit/s/%ff"),
        ("GET", "/nothing"),
    ],
)
def test_any_origin_may_read_the_answer(mesh: Mesh, method: str, path: str) -> None:
    answer = mesh.request(method, path, headers={"Origin": "https://example.com"})
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(("path", "method"), [("/hit/cors/a", "POST"), ("/hits", "POST"), ("/total/cors/a", "GET")])
def test_a_preflight_is_answered(mesh: Mesh, path: str, method: str) -> None:
    headers = {"Origin": "https://example.com", "Access-Control-Request-Method": method}
    headers["Access-Control-Request-Headers"] = "content-type"
    answer = mesh.request("OPTIONS", path, headers=headers)
    assert answer.status in (200, 204)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert method in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] in ("*", "content-type")


def test_health_says_up_and_counts_nothing(mesh: Mesh) -> None:
    with nothing_counted(mesh):
        answer = mesh.request("GET", "/health")
        assert (answer.status, answer.json()) == (200, {"status": "up"})


# --- connections --------------------------------------------------------------------------------

HIT = b"POST /hit/%s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


def test_a_connection_is_kept_for_the_next_request(mesh: Mesh) -> None:
    with Raw(mesh.address()) as raw:
        assert [raw.ask(HIT % b"kept/page").json()["total"] for _ in range(3)] == [1, 2, 3]


def test_pipelined_requests_are_answered_in_their_order(mesh: Mesh) -> None:
    with Raw(mesh.address()) as raw:
        raw.send(b"".join(HIT % b"piped/%d" % i for i in range(5)))
        assert [raw.answer().json()["page"] for _ in range(5)] == [f"piped/{i}" for i in range(5)]


def test_a_request_that_comes_byte_by_byte_is_one_hit(mesh: Mesh) -> None:
    with Raw(mesh.address()) as raw:
        for byte in HIT % b"slow/page":
            raw.send(bytes([byte]))
        assert raw.answer().json()["total"] == 1


def test_http_1_0_is_answered_and_closed(mesh: Mesh) -> None:
    with Raw(mesh.address()) as raw:
        raw.send(b"GET /hit/old/page HTTP/1.0\r\n\r\n")
        head, _, body = raw.read_to_end().partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"200"
    assert json.loads(body)["total"] == 1


def test_connection_close_is_honoured(mesh: Mesh) -> None:
    with Raw(mesh.address()) as raw:
        raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert raw.read_to_end().endswith(b'{"status":"up"}')


def test_a_client_that_waits_for_100_continue_gets_it(mesh: Mesh) -> None:
    body = b'{"page": "continue/page"}'
    with Raw(mesh.address()) as raw:
        raw.send(
            b"POST /hits HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        assert raw.answer().status == 100
        assert raw.ask(body).json() == {"accepted": 1}


@pytest.mark.parametrize(
    ("head", "statuses"),
    [
        (b"GET /hit/s/a HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 70_000 + b"\r\n\r\n", {400, 431}),
        (b"GET /hit/s/a HTTP/1.1\r\nHost: x\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n", {400, 431}),
        (b"GET /hit/" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {400, 414}),
        (b"nonsense\r\n\r\n", {400}),
        ("GET /hit/s/café HTTP/1.1\r\nHost: x\r\n\r\n".encode(), {400}),
        (b"POST /hit/s/a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", {400}),
        (b"POST /hit/s/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", {400}),
        (b"POST /hit/s/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", {400}),
        (b"GET /hit/s/a HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n", {400}),
        (b"GET /hit/s/a HTTP/9.9\r\nHost: x\r\n\r\n", {400, 505}),
    ],
    ids=[
        "large header", "many headers", "long line", "nonsense", "raw UTF-8", "length", "two lengths", "smuggling", "name", "version",
    ],
)  # fmt: skip
def test_what_isn_t_http_is_refused(mesh: Mesh, head: bytes, statuses: set[int]) -> None:
    with Raw(mesh.address()) as raw:
        raw.send(head)
        refusal, body = raw.read_to_end().split(b"\r\n\r\n")
        assert int(refusal.split(b" ")[1]) in statuses
        assert json.loads(body).keys() == {"title", "description"}


def test_a_bad_chunk_is_refused_and_ends_the_connection(mesh: Mesh) -> None:
    with nothing_counted(mesh), Raw(mesh.address()) as raw:
        raw.send(
            b"POST /hits HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
            b'Transfer-Encoding: chunked\r\n\r\n10\r\n{"page": "bad/a"}\r\nZZ\r\n\r\n' + HIT % b"bad/b"
        )
        refusal = raw.read_to_end()
        assert refusal.startswith(b"HTTP/1.1 400 ")
        assert refusal.count(b"HTTP/1.1") == 1


def test_what_isn_t_http_counts_nothing(mesh: Mesh) -> None:
    with nothing_counted(mesh):
        for head in (
            b"GET /hit/bad/a HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 70_000 + b"\r\n\r\n",
            b"POST /hit/bad/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ):
            with Raw(mesh.address()) as raw:
                raw.send(head)
                raw.read_to_end()


def test_a_client_that_goes_away_harms_nobody(mesh: Mesh) -> None:
    for _ in range(20):
        with socket.create_connection(mesh.address()) as gone:
            gone.sendall(HIT % b"gone/page" * 3)
    wait_for(lambda: 0 < mesh.totals().get("gone/page", 0) <= 60, what="those that were read")
    assert mesh.request("GET", "/health").status == 200


# --- the stores say no --------------------------------------------------------------------------


def test_while_the_spool_s_file_is_locked_hits_are_refused_and_later_taken_again(mesh: Mesh) -> None:
    with nothing_counted(mesh):
        holder = sqlite3.connect(mesh.folder / "dc-test" / "spool.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        try:
            answer = mesh.hit("locked/page")
            health = mesh.request("GET", "/health")
        finally:
            holder.execute("ROLLBACK")
            holder.close()
        assert_error(answer, 503, "locked")
        assert answer.json()["title"] == "Not counted"
        assert int(answer.headers["retry-after"]) >= 1
        assert_error(health, 503, "locked")
        for refused in (answer, health):
            assert "spool.db" not in refused.json()["description"], "files are nobody's business"
        assert "spool.db" in mesh.log("collector-1")
        wait_for(lambda: mesh.request("GET", "/health").status == 200, what="a healthy collector")
    assert mesh.hit("locked/page").json()["total"] == 1


def test_what_is_wrong_with_the_totals_store_is_said_without_its_file(mesh: Mesh) -> None:
    here, away = mesh.folder / "dc-test", mesh.folder / "away"
    for path in here.glob("totals.db*"):
        away.mkdir(exist_ok=True)
        path.rename(away / path.name)
    try:
        answer = mesh.request("GET", "/totals")
    finally:
        for path in [*here.glob("totals.db*")]:
            path.unlink()
        for path in away.iterdir():
            path.rename(here / path.name)
    assert_error(answer, 503, "can't be read now")
    assert "totals.db" not in answer.json()["description"]


def drains(server: Beanstalkd) -> bool:
    with contextlib.closing(greenstalk.Client(("127.0.0.1", server.port))) as client:
        return client.stats()["draining"] == "true"


def test_while_beanstalkd_drains_hits_are_refused_and_taken_again_after_its_restart(
    beanstalkd: Beanstalkd, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Mesh(tmp_path_factory.mktemp("mesh"), timing=PATIENT, spools=[beanstalkd.url("jobs")]) as mesh:
        assert mesh.hit("drained/page").json()["total"] == 1
        with nothing_counted(mesh):
            beanstalkd.signal(signal.SIGUSR1)
            wait_for(lambda: drains(beanstalkd), what="its signal handler")
            answer = mesh.hit("drained/page")
            assert_error(answer, 503, "drains")
            assert answer.json()["title"] == "Not counted"
            assert "retry-after" in answer.headers
            wait_for(lambda: mesh.request("GET", "/health").status == 503, what="the health to say so")
            assert_error(mesh.request("GET", "/health"), 503, "drains")
            assert str(beanstalkd.port) not in answer.json()["description"]
            beanstalkd.stop()
            assert mesh.hit("drained/page").status == 503
            beanstalkd.start()
            wait_for(lambda: mesh.request("GET", "/health").status == 200, what="a healthy collector")
        assert mesh.hit("drained/page").json()["total"] == 2
