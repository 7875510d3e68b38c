"""What web pages ask a real collector for: pixel, badge, script. And what it answers and doesn't count."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import pytest

from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.site.script import CURRENT, scripts
from tests.hitmesh.collector.test_app import assert_error, nothing_counted, total
from tests.services import wait_for
from tests.services.browser import chromium
from tests.system.mesh import Mesh

GOOGLE = {"User-Agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}
PREFETCH = {"Sec-Purpose": "prefetch"}
ORIGIN = {"Origin": "https://site.example"}
FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
IGNORED: tuple[dict[str, str], ...] = ({}, ORIGIN)  # past Falcon, and by it


@contextlib.contextmanager
def setting(mesh: Mesh, key: str, value: str, seen: str, *, is_seen: int) -> Iterator[None]:
    """A live setting, in force when `seen`, a path, is answered so."""
    with contextlib.closing(SqliteSettings(mesh.folder / mesh.config.name / "settings.db")) as settings:
        before = mesh.request("GET", seen).status
        settings.set(key, value.encode(), author="test")
        wait_for(lambda: mesh.request("GET", seen).status == is_seen, what=f"{key} in force")
        try:
            yield
        finally:
            settings.delete(key, author="test")
            wait_for(lambda: mesh.request("GET", seen).status == before, what=f"{key} out of force")


def test_a_pixel_counts_and_is_an_image_of_one_point(mesh: Mesh) -> None:
    answer = mesh.request("GET", "/pixel/pixel/page")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/gif")
    assert answer.body[:6] + answer.body[6:10] == b"GIF89a\x01\x00\x01\x00"
    assert "no-store" in answer.headers["cache-control"]
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert total(mesh, "pixel/page") == 1
    wait_for(lambda: mesh.totals().get("pixel/page") == 1, what="the commit")


def test_a_badge_counts_unless_it_only_shows_and_no_cache_keeps_it(mesh: Mesh) -> None:
    def shown(query: str) -> str:
        answer = mesh.request("GET", f"/badge/badge/page{query}")
        assert (answer.status, answer.headers["content-type"]) == (200, "image/svg+xml; charset=utf-8")
        for word in ("no-cache", "no-store", "must-revalidate"):
            assert word in answer.headers["cache-control"]
        assert answer.headers["timing-allow-origin"] == answer.headers["access-control-allow-origin"] == "*"
        assert len(answer.body) < 1024
        return str(ElementTree.fromstring(answer.body).get("aria-label"))

    assert shown("") == "hits: 1"
    assert shown("?label=visits&color=red&style=plain&t=1234") == "visits: 2"
    assert [shown("?count=0"), shown("?count=0&label=")] == ["hits: 2", "2"]
    assert shown("?count=1") == "hits: 3"
    assert total(mesh, "badge/page") == 3


@pytest.mark.parametrize(
    "query", ["style=round", "color=nocolor", "label=" + "x" * 65, "label=a&label=b", "count=0&count=0"]
)
def test_a_badge_that_cannot_be_drawn_counts_nothing(mesh: Mesh, query: str) -> None:
    with nothing_counted(mesh):
        assert_error(mesh.request("GET", f"/badge/badge/bad?{query}"), 400)


def test_a_badge_s_query_is_no_part_of_its_page(mesh: Mesh) -> None:
    with setting(mesh, "pages.query", "keep", "/total/s?a=%zz", is_seen=200):
        wait_for(lambda: mesh.request("GET", "/hit/query/kept?a=b").json()["page"] == "query/kept?a=b", what="the rule")
        mesh.request("GET", "/badge/query/page?label=x")
        mesh.request("GET", "/badge/query/page%3Fa=b?label=x")
        mesh.request("GET", "/pixel/query/page?a=b")
    wait_for(
        lambda: (
            {page: count for page, count in mesh.totals().items() if page.startswith("query/page")}
            == {"query/page": 1, "query/page?a=b": 2}
        ),
        what="the commits",
    )


@pytest.mark.parametrize("route", ["hit", "pixel", "badge"])
@pytest.mark.parametrize("fields", IGNORED, ids=["past Falcon", "by Falcon"])
@pytest.mark.parametrize(("who", "why"), [(GOOGLE, "bot"), (PREFETCH, "prefetch")])
def test_what_is_no_visit_is_answered_and_not_counted(
    mesh: Mesh, route: str, fields: dict[str, str], who: dict[str, str], why: str
) -> None:
    page = f"ignored/{route}"
    mesh.hit(page)
    with nothing_counted(mesh):
        before = total(mesh, page)
        answer = mesh.request("GET", f"/{route}/{page}", headers={**fields, **who})
        assert (answer.status, answer.headers["x-hitmesh"]) == (200, f"ignored; {why}")
        if route == "hit":
            assert answer.json()["total"] == before
    assert "x-hitmesh" not in mesh.request("GET", f"/{route}/{page}", headers={**fields, **FIREFOX}).headers


def test_a_bot_s_first_look_at_a_page_has_its_total_of_the_store(mesh: Mesh) -> None:
    answer = mesh.request("GET", "/hit/never/seen", headers=GOOGLE)
    assert (answer.status, answer.json()["total"]) == (200, 0)


@pytest.mark.parametrize("route", ["hit", "pixel", "badge"])
def test_a_head_counts_nothing(mesh: Mesh, route: str) -> None:
    with nothing_counted(mesh):
        answer = mesh.request("HEAD", f"/{route}/headed/page")
        assert (answer.status, answer.headers["x-hitmesh"], answer.body) == (200, "ignored; head", b"")
        assert mesh.request("HEAD", f"/{route}/s/../t").status == 400


def test_a_page_of_another_site_is_refused_where_sites_are_listed(mesh: Mesh) -> None:
    allowed = '["marker", "listed.example", "other.example/blog/*"]'
    with setting(mesh, "pages.allow", allowed, "/total/not/listed", is_seen=403), nothing_counted(mesh):
        for route in ("hit", "pixel", "badge", "total"):
            assert_error(mesh.request("GET", f"/{route}/not.example/a"), 403, "pages.allow")
        batch = b'{"page": "listed.example/a"}\n{"page": "other.example/a"}\n'
        refused = mesh.request("POST", "/hits", batch, {"Content-Type": "application/x-ndjson"})
        assert_error(refused, 403, "line 2: this page isn't among those")
        assert mesh.request("GET", "/total/other.example/blog/a").status == 200


def test_pages_are_merged_by_a_live_table_in_batches_too(mesh: Mesh) -> None:
    table = '{"merged.example/user/*" = "merged.example/user"}'
    with contextlib.closing(SqliteSettings(mesh.folder / mesh.config.name / "settings.db")) as settings:
        settings.set("pages.merge", table.encode(), author="test")
        wait_for(
            lambda: mesh.request("GET", "/total/merged.example/user/1").json()["page"] == "merged.example/user",
            what="the table",
        )
        assert mesh.hit("merged.example/user/2").json()["page"] == "merged.example/user"
        batch = b'{"page": "merged.example/user/3", "count": 5}'
        assert mesh.request("POST", "/hits", batch, {"Content-Type": "application/x-ndjson"}).status == 200
        wait_for(lambda: mesh.totals().get("merged.example/user") == 6, what="the commit")
        settings.delete("pages.merge", author="test")
    wait_for(
        lambda: mesh.request("GET", "/total/merged.example/user/1").json()["page"] == "merged.example/user/1",
        what="the end of the table",
    )


def test_a_batch_whose_pages_take_long_to_name_keeps_no_hit_waiting(mesh: Mesh) -> None:
    table = ", ".join(f'"long.example/{number}*z" = "long.example/z"' for number in range(400))
    batch = b"".join(b'{"page": "long.example/entry-%d"}\n' % number for number in range(10_000))
    with contextlib.closing(SqliteSettings(mesh.folder / mesh.config.name / "settings.db")) as settings:
        settings.set("pages.merge", f"{{{table}}}".encode(), author="test")
        wait_for(
            lambda: mesh.request("GET", "/total/long.example/1z").json()["page"] == "long.example/z", what="the table"
        )
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(mesh.request, "POST", "/hits", batch, {"Content-Type": "application/x-ndjson"})
            meanwhile = 0
            while not sent.done():
                assert mesh.hit("meanwhile/page").status == 200
                meanwhile += not sent.done()
            assert (sent.result().status, sent.result().json()) == (200, {"accepted": 10_000})
        settings.delete("pages.merge", author="test")
    assert meanwhile >= 5


def test_a_reload_is_not_counted_where_that_is_asked_for(mesh: Mesh) -> None:
    with contextlib.closing(SqliteSettings(mesh.folder / mesh.config.name / "settings.db")) as settings:
        settings.set("counting.reload_s", b"3600", author="test")
        reload = "ignored; reload"
        wait_for(
            lambda: mesh.request("GET", "/hit/reload/first", headers=FIREFOX).headers.get("x-hitmesh") == reload,
            what="the setting in force",
        )
        answers = [mesh.request("GET", "/hit/reload/page", headers=FIREFOX) for _ in range(3)]
        assert [answer.headers.get("x-hitmesh") for answer in answers] == [None, reload, reload]
        assert [answer.json()["total"] for answer in answers] == [1, 1, 1]
        other = mesh.request("GET", "/hit/reload/page", headers={**FIREFOX, "X-Forwarded-For": "192.0.2.1"})
        assert other.json()["total"] == 2
        settings.delete("counting.reload_s", author="test")
    wait_for(
        lambda: "x-hitmesh" not in mesh.request("GET", "/hit/reload/first", headers=FIREFOX).headers,
        what="the setting out of force",
    )


def test_the_script_is_served_by_its_name_for_an_hour_and_by_its_hash_for_ever(mesh: Mesh) -> None:
    for name, script in scripts().items():
        answer = mesh.request("GET", f"/{name}")
        assert (answer.status, answer.body) == (200, script)
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert ("immutable" in answer.headers["cache-control"]) == (name != CURRENT)
        for tags in ("{}", "W/{}", '"another", {}'):
            known = mesh.request("GET", f"/{name}", headers={"If-None-Match": tags.format(answer.headers["etag"])})
            assert (known.status, known.body) == (304, b"")
    assert mesh.request("GET", "/count.000000000000.js").status == 404


def test_crawlers_are_told_to_stay_away(mesh: Mesh) -> None:
    assert mesh.request("GET", "/robots.txt").body == b"User-agent: *\nDisallow: /\n"


def test_a_script_of_any_site_may_read_why_its_hit_was_not_counted(mesh: Mesh) -> None:
    answer = mesh.request("POST", "/hit/cors/page", headers={**ORIGIN, **GOOGLE})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-expose-headers"] == "X-Hitmesh"


def test_the_start_page_says_who_answers_and_loads_nothing_from_elsewhere(mesh: Mesh) -> None:
    answer = mesh.request("GET", "/")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "This page came from collector-1 of dc-test." in answer.body.decode()
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert mesh.request("GET", "/live.js").headers["content-type"] == "text/javascript; charset=utf-8"


def test_the_start_page_counts_and_shows_a_total_with_each_datacenter_s_part(mesh: Mesh) -> None:
    with chromium() as browser:
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        url = "http://{}:{}/".format(*mesh.address())
        page.goto(url)
        page.fill("input", "start/Zürich & more")
        for count in ("1", "2"):
            page.click("button")
            page.wait_for_selector(f"output:text-is('{count}')")
        assert page.text_content("tbody td") == "dc-test"
        assert f'src="{url}count.js"' in str(page.text_content("[data-snippet]"))
        wait_for(lambda: page.evaluate("document.querySelector('#badge').naturalWidth") > 20, what="the badge")
        page.fill("input", "/without/a/site")
        page.click("button")
        page.wait_for_selector("#problem:has-text('Bad page: ')")
        assert [each for each in said if "400" not in each] == []
    wait_for(lambda: mesh.totals().get("start/Zürich & more") == 2, what="the commit")
