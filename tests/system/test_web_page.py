"""The script, the pixel and the badge in a real browser, on a site whose visits a mesh of two datacenters counts: each visit
once, however it is made, nobody who doesn't want it, and nothing in the page's console.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from hitmesh.site.badge import COLORS, STYLES
from hitmesh.site.script import CURRENT, integrity_of, name_of, scripts
from tests.hitmesh.cli.meshes import Mesh, meshes, settled
from tests.services import wait_for
from tests.services.browser import chromium, undriven_chromium
from tests.services.site import Site
from tests.system.web import COUNTER, DCS, DRIVEN, SITE, Visitor, Web

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LOCAL = "localhost"
NAMES = (SITE, COUNTER, LOCAL)
SOON_S = 60.0  # for what takes a second or two on a quiet machine
OWN_PATH = "/stats/"  # below which the site has the counter too
OWN_NAME = "visits.js"  # of the script there
SHOWS = "<b data-hitmesh-total></b>"
REFUSES_BEACONS = "navigator.sendBeacon = () => false;"
WITHOUT_BEACONS = "delete Navigator.prototype.sendBeacon;"
WITHOUT_FETCH = "delete window.fetch;"
HIDDEN = """
    let state = "hidden";
    Object.defineProperty(document, "visibilityState", { get: () => state });
    Object.defineProperty(document, "hidden", { get: () => state == "hidden" });
    window.shown = (how) => { state = how; document.dispatchEvent(new Event("visibilitychange", { bubbles: true })); };
"""
# For pages that nobody drives: what they have sent to be counted, and how they tell the test.
TELLS = """<script>
    const sent = [], beacon = navigator.sendBeacon.bind(navigator);
    navigator.sendBeacon = (url) => sent.push(url) && beacon(url);
    const tell = (words) => fetch("/tell?" + encodeURIComponent(words), { keepalive: true });
    const told = (words) => fetch("/told?" + encodeURIComponent(words));
</script>"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("web")
    with meshes(folder / "var", nexus=1, processor=1, collector=1, balancer=1) as mesh:
        mesh.up(",".join(DCS))
        yield mesh


@pytest.fixture(scope="module")
def web(mesh: Mesh) -> Iterator[Web]:
    site = Site(OWN_PATH, mesh.urls(DCS[0], "balancer")[0].removeprefix("http://"), {OWN_NAME: CURRENT})
    try:
        yield Web(mesh, site)
    finally:
        site.close()


@pytest.fixture(scope="module")
def browser(web: Web) -> Iterator[Browser]:
    with chromium(names=NAMES, secure=[web.origin]) as browser:
        yield browser


@pytest.fixture
def visitors(browser: Browser) -> Iterator[Callable[..., Visitor]]:
    with ExitStack() as ends:
        all_of_them: list[Visitor] = []

        def one(script: str = "", **settings: Any) -> Visitor:
            visitor = Visitor(browser, script, **settings)
            ends.callback(visitor.context.close)
            all_of_them.append(visitor)
            return visitor

        yield one
        assert [each.complaints for each in all_of_them] == [[] for _ in all_of_them]


@pytest.fixture
def visitor(visitors: Callable[..., Visitor]) -> Visitor:
    return visitors()


def push(page: Page, url: str) -> None:
    """As a single-page application goes to a page of its own."""
    page.evaluate("(url) => history.pushState(null, '', url)", url)


def shows(page: Page, text: str, selector: str = "[data-hitmesh-total]") -> None:
    """Wait until the page shows it."""
    page.locator(selector).get_by_text(text, exact=True).wait_for()


def test_two_hundred_visits_are_counted_exactly(web: Web, visitor: Visitor) -> None:
    tab = visitor.context.new_page()
    for at in range(40):
        number, dc = at % 4, DCS[at % 2]
        body = SHOWS if number == 3 else ""
        front, step = f"/two-hundred/{number}", f"/two-hundred/{number}/step"
        url = web.publish(front, body, script=web.script(dc=dc))
        visitor.open(url).close()
        tab.goto(f"{url}?utm_source=letter&ref=x#part")
        tab.reload()
        push(tab, step)
        tab.evaluate("history.replaceState(1, '')")
        tab.go_back()
    for number in range(4):
        web.counts(f"/two-hundred/{number}", 40)
        web.counts(f"/two-hundred/{number}/step", 10)


def test_a_page_shows_its_total_with_this_visit(web: Web, visitor: Visitor) -> None:
    batch = f'{{"page": "{SITE}/total", "count": 1233}}'
    web.answer(DCS[0], "/hits", "POST", batch, {"Content-Type": "application/x-ndjson"})
    page = visitor.open(web.publish("/total", SHOWS))
    shows(page, "1,234")
    page.reload()
    shows(page, "1,235")
    web.counts("/total", 1235)


def test_a_page_shows_others_totals_without_counting_them(web: Web, visitor: Visitor) -> None:
    visitor.open(web.publish("/shown"))
    web.counts("/shown", 1)
    page = visitor.open(web.publish("/shows", f'<b data-hitmesh-total="{SITE}/shown"></b>'))
    shows(page, "1")
    web.counts("/shows", 1)
    web.counts("/shown", 0)


def test_a_list_of_many_totals_is_filled_and_its_own_visit_counted(web: Web, visitor: Visitor) -> None:
    many = 300  # a browser keeps 256 requests for after a page's end, and refuses the others
    page = visitor.open(web.publish("/list", SHOWS + f'<i data-hitmesh-total="{SITE}/listed"></i>' * many))
    page.locator("i", has_text="0").nth(many - 1).wait_for()
    web.counts("/list", 1)


def test_an_applications_pages_are_counted_when_the_address_changes(web: Web, visitor: Visitor) -> None:
    page = visitor.open(web.publish("/app"))
    push(page, "/app/a")
    page.evaluate("history.replaceState(null, '', '/app/a#part')")
    page.evaluate("history.replaceState(null, '', '/app/a?utm_medium=mail')")
    page.evaluate("history.replaceState(null, '', '/app/b')")
    page.go_back()
    page.go_forward()
    web.counts("/app", 2)
    web.counts("/app/a", 1)
    web.counts("/app/b", 2)


def test_an_application_shows_the_total_of_the_page_it_is_on_whichever_answer_comes_first(
    web: Web, visitor: Visitor
) -> None:
    page = visitor.open(web.publish("/quick/b", SHOWS))
    page.reload()
    shows(page, "2")
    late: list[Any] = []
    page.route("**/hit/*/quick/a", lambda route: late.extend([route]))
    push(page, "/quick/a")
    push(page, "/quick/b")
    shows(page, "3")
    with page.expect_request_finished(lambda each: each.url.endswith("/quick/a")):
        late[0].continue_()
    page.evaluate("fetch('/tell?done').then(() => 1)")
    shows(page, "3")
    web.counts("/quick/a", 1)
    web.counts("/quick/b", 3)


def test_the_canonical_address_counts_and_again_on_the_way_back(web: Web, visitor: Visitor) -> None:
    url = web.publish("/canonical.html", head='<link rel=canonical href="/canonical">')
    page = visitor.open(f"{url}?utm_campaign=x&gclid=1")
    push(page, "/canonical/next")
    page.go_back()
    web.counts("/canonical", 2)
    web.counts("/canonical/next", 1)


@pytest.mark.parametrize("href", ["", "http://", "https://elsewhere.example/page"])
def test_a_canonical_address_that_isnt_the_sites_leaves_the_pages_own(web: Web, visitor: Visitor, href: str) -> None:
    visitor.open(web.publish("/not-canonical", head=f'<link rel=canonical href="{href}">'))
    web.counts("/not-canonical", 1)


def test_a_page_may_say_which_site_it_is_of_and_what_else_counts(web: Web, visitor: Visitor) -> None:
    page = visitor.open(web.publish("/named", SHOWS, script=web.script(f'{DRIVEN} data-site="named.example"')))
    shows(page, "1")
    page.evaluate("hitmesh.count('named.example/download'); hitmesh.count('named.example/download')")
    web.counts("/named", 1, site="named.example")
    web.counts("/download", 2, site="named.example")
    shows(page, "1")


@pytest.mark.parametrize("loaded", ["", "async", "defer", "later"])
def test_however_the_script_is_loaded_the_page_is_counted_and_filled(web: Web, visitor: Visitor, loaded: str) -> None:
    if loaded == "later":  # by a tag manager
        script = f"""<script>addEventListener("load", () => {{
            const script = document.createElement("script");
            Object.assign(script, {{ src: "{web.counter()}/count.js" }}).dataset.allow = "driven";
            document.head.append(script);
        }})</script>"""
    else:
        script = web.script().replace("defer", loaded)
    page = visitor.open(web.publish("/loaded", SHOWS, script=script))
    shows(page, str(web.expected[f"{SITE}/loaded"] + 1))
    web.counts("/loaded", 1)


def test_a_script_that_a_page_has_twice_counts_once(web: Web, visitor: Visitor) -> None:
    page = visitor.open(web.publish("/twice", script=web.script() * 2))
    push(page, "/twice/step")
    web.counts("/twice", 1)
    web.counts("/twice/step", 1)


@pytest.mark.parametrize("body", ["", SHOWS])
@pytest.mark.parametrize(
    "browser_has",
    ["", REFUSES_BEACONS, WITHOUT_BEACONS, WITHOUT_FETCH, WITHOUT_FETCH + REFUSES_BEACONS],
    ids=["all", "refused beacons", "no beacons", "no fetch", "no fetch and refused beacons"],
)
def test_a_tab_that_is_closed_at_once_has_counted(
    web: Web, visitors: Callable[..., Visitor], browser_has: str, body: str
) -> None:
    visitor = visitors(browser_has)
    url = web.publish("/closed", body)
    for _ in range(3):
        visitor.open(url).close()
    web.counts("/closed", 3)
    is_pixel = WITHOUT_FETCH in browser_has and (bool(body) or REFUSES_BEACONS in browser_has)
    assert set(visitor.sent) == {f"{'pixel' if is_pixel else 'hit'}/{SITE}/closed"}


def test_a_visit_that_is_on_its_way_when_the_visitor_goes_on_arrives(web: Web, visitor: Visitor) -> None:
    held: list[Any] = []
    visitor.context.route("**/hit/*/left", lambda route: held.extend([route]))
    page = visitor.context.new_page()
    with page.expect_request("**/hit/*/left"):
        page.goto(web.publish("/left", SHOWS))
    page.goto(web.publish("/next"))
    held[0].continue_()
    web.counts("/left", 1)
    web.counts("/next", 1)


def test_others_totals_dont_keep_a_browser_without_fetch_from_counting(
    web: Web, visitors: Callable[..., Visitor]
) -> None:
    visitors(WITHOUT_FETCH).open(web.publish("/no-fetch", f'<b data-hitmesh-total="{SITE}/x"></b>'))
    web.counts("/no-fetch", 1)


def test_visits_without_a_network_count_when_it_is_back(web: Web, visitor: Visitor) -> None:
    page = visitor.open(web.publish("/cut"))
    web.counts("/cut", 1)
    visitor.sent.clear()
    visitor.context.set_offline(True)
    push(page, "/cut/a")
    push(page, "/cut/b")
    assert page.evaluate("[navigator.onLine, location.pathname]") == [False, "/cut/b"]
    assert visitor.sent == []
    visitor.context.set_offline(False)
    web.counts("/cut/a", 1)
    web.counts("/cut/b", 1)


@pytest.mark.parametrize(
    ("body", "browser_has"),
    [("", ""), (SHOWS, ""), ("", WITHOUT_FETCH + REFUSES_BEACONS)],
    ids=["beacon", "fetch", "pixel"],
)
def test_it_works_under_a_strict_content_security_policy(
    web: Web, visitors: Callable[..., Visitor], body: str, browser_has: str
) -> None:
    counter = web.counter()
    policy = (
        f"default-src 'none'; script-src {counter}; connect-src {counter}; img-src {counter} data:; base-uri 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    page = visitors(browser_has).open(web.publish("/policy", body, headers={"Content-Security-Policy": policy}))
    web.counts("/policy", 1)
    if body:
        shows(page, str(web.expected[f"{SITE}/policy"]))


def test_an_isolated_page_may_have_script_pixel_and_badge(web: Web, visitor: Visitor) -> None:
    isolated = {"Cross-Origin-Embedder-Policy": "require-corp", "Cross-Origin-Opener-Policy": "same-origin"}
    images = "".join(f'<img src="{web.counter()}/{form}/{SITE}/isolated">' for form in ("pixel", "badge"))
    page = visitor.open(web.publish("/isolated", images + SHOWS, headers=isolated))
    assert page.evaluate("crossOriginIsolated")
    assert page.evaluate("[...document.images].every((each) => each.naturalWidth > 0)")
    web.counts("/isolated", 3)


def test_the_hashed_name_is_the_script_that_its_integrity_says(web: Web, visitor: Visitor) -> None:
    script = scripts()[CURRENT]
    tag = (
        f'<script defer src="{web.counter(DCS[1])}/{name_of(script)}" integrity="{integrity_of(script)}" '
        f"crossorigin=anonymous {DRIVEN}></script>"
    )
    visitor.open(web.publish("/integrity", script=tag))
    web.counts("/integrity", 1)


def test_a_blocked_script_counts_nothing_and_harms_nothing(web: Web, visitor: Visitor) -> None:
    visitor.context.route("**/count.js", lambda route: route.abort("blockedbyclient"))
    page = visitor.open(web.publish("/blocked", "<p>read me</p>"))
    page.locator("p", has_text="read me").wait_for()
    assert visitor.sent == []
    [browsers_own] = visitor.complaints
    assert "ERR_BLOCKED_BY_CLIENT" in browsers_own
    visitor.complaints.clear()


def test_a_script_that_is_loaded_as_a_module_counts_nothing_and_harms_nothing(web: Web, visitor: Visitor) -> None:
    page = visitor.open(web.publish("/module", "<p>read me</p>", script=web.script().replace("defer", 'type="module"')))
    page.locator("p", has_text="read me").wait_for()
    assert visitor.sent == []


@pytest.mark.parametrize(
    ("source", "attributes"),
    [(OWN_PATH + OWN_NAME, ""), (OWN_PATH + name_of(scripts()[CURRENT]), ""), ("/app.js", f'data-url="{OWN_PATH}"')],
    ids=["another name", "hashed name", "among the site's own files"],
)
def test_under_a_path_of_the_site_no_blocker_knows_it(web: Web, visitor: Visitor, source: str, attributes: str) -> None:
    for known in ("**/count.js", f"{web.counter()}/**"):
        visitor.context.route(known, lambda route: route.abort("blockedbyclient"))
    web.site.pages["/app.js"] = scripts()[CURRENT].decode(), {"Content-Type": "text/javascript"}
    script = f'<script defer src="{source}" {attributes} {DRIVEN}></script>'
    shows(visitor.open(web.publish("/own-path", SHOWS, script=script)), str(web.expected[f"{SITE}/own-path"] + 1))
    web.counts("/own-path", 1)


@pytest.mark.parametrize(
    ("wish", "allow"),
    [
        ("Object.defineProperty(navigator, 'globalPrivacyControl', { value: true })", "privacy"),
        ("Object.defineProperty(navigator, 'doNotTrack', { value: '1' })", "privacy"),
        ("", "driven"),
    ],
    ids=["global privacy control", "do not track", "driven"],
)
def test_who_isnt_to_be_counted_isnt_unless_the_site_says_so(
    web: Web, visitors: Callable[..., Visitor], wish: str, allow: str
) -> None:
    visitor = visitors(wish)
    others = "driven privacy local".replace(allow, "")
    page = visitor.open(web.publish("/wish", SHOWS, script=web.script(f'data-allow="{others}"')))
    push(page, "/wish/step")
    assert page.evaluate("location.pathname") == "/wish/step"
    assert visitor.sent == []
    visitor.open(web.publish("/wish", SHOWS, script=web.script(f'data-allow="driven {allow}"')))
    web.counts("/wish", 1)


def test_a_site_on_ones_own_machine_isnt_counted_unless_it_says_so(web: Web, visitor: Visitor) -> None:
    for host in (LOCAL, "127.0.0.1"):
        web.publish("/local")
        visitor.open(f"http://{host}:{web.site.port}/local")
        assert visitor.sent == []
        web.publish("/local", script=web.script('data-allow="driven local"'))
        visitor.open(f"http://{host}:{web.site.port}/local")
        web.counts("/local", 1, site=host)
        visitor.sent.clear()


def test_a_visitor_opts_out_and_in_again_in_this_browser_alone(web: Web, visitors: Callable[..., Visitor]) -> None:
    visitor, other = visitors(), visitors()
    url = web.publish("/wishes", SHOWS)
    visitor.open(f"{url}#hitmesh-optout")
    page = visitor.open(url)
    push(page, "/wishes/step")
    assert page.evaluate("Object.entries(localStorage)") == [["hitmesh", "out"]]
    assert visitor.sent == []
    assert other.open(url).evaluate("localStorage.length") == 0
    web.counts("/wishes", 1)
    visitor.open(f"{url}#hitmesh-optin")
    visitor.open(url)
    web.counts("/wishes", 2)
    assert [each.split()[-1] for each in visitor.complaints] == ["out", "in"]
    visitor.complaints.clear()


def test_no_link_makes_a_site_say_what_its_maker_wants(web: Web, visitor: Visitor) -> None:
    page = visitor.open(web.publish("/linked", SHOWS) + "#hitmesh-optYour-account-is-locked")
    shows(page, str(web.expected[f"{SITE}/linked"] + 1))
    web.counts("/linked", 1)
    assert page.evaluate("localStorage.length") == 0


def test_whoever_follows_a_link_on_the_page_to_opt_out_is_counted_no_more(web: Web, visitor: Visitor) -> None:
    url = web.publish("/leaving", '<a href="#hitmesh-optout">leave me out</a>')
    page = visitor.open(url)
    web.counts("/leaving", 1)
    with page.expect_event("dialog"):
        page.get_by_text("leave me out").click()
    push(page, "/leaving/step")
    visitor.open(url)
    assert visitor.sent == [f"hit/{SITE}/leaving"]
    assert len(visitor.complaints) == 1
    visitor.complaints.clear()


def test_without_scripts_the_pixel_counts(web: Web, visitors: Callable[..., Visitor]) -> None:
    pixel = f'<noscript><img alt="" src="{web.counter()}/pixel/{SITE}/no-script"></noscript>'
    url = web.publish("/no-script", pixel)
    visitors(java_script_enabled=False).open(url)
    web.counts("/no-script", 1)
    visitors().open(url)
    web.counts("/no-script", 1)


def test_a_page_that_is_opened_hidden_counts_once_when_it_is_seen(web: Web, visitors: Callable[..., Visitor]) -> None:
    visitor = visitors(HIDDEN)
    page = visitor.open(web.publish("/hidden"))
    push(page, "/hidden/step")
    assert visitor.sent == []
    page.evaluate("shown('visible'); shown('hidden'); shown('visible')")
    web.counts("/hidden", 1)
    web.counts("/hidden/step", 1)


def test_a_tab_in_the_background_counts_once_it_comes_to_the_front(web: Web, tmp_path: Path) -> None:
    script = web.script("")
    opener = web.publish(
        "/opener",
        """<script>
            addEventListener("load", () => open("/in-front"));
            document.addEventListener("visibilitychange", () => location = "/in-background", { once: true });
        </script>""",
        script=script,
    )
    web.publish("/in-front", "<script>told('come back').then(() => close())</script>", script=TELLS)
    tells = "tell(`in the background: ${document.visibilityState}, ${sent.length} sent`)"
    web.publish(
        "/in-background", f"<script>addEventListener('load', () => {tells})</script>", head=TELLS, script=script
    )
    with undriven_chromium(opener, tmp_path / "profile", names=NAMES, secure=[web.origin]):
        web.counts("/opener", 1)
        web.site.wait_until_told("in the background: hidden, 0 sent")
        web.site.tell("come back")
        web.counts("/in-background", 1)


def test_a_page_that_is_prerendered_counts_once_it_is_shown(web: Web, tmp_path: Path) -> None:
    script = web.script("", DCS[1])
    names = ("prerendered", "never-shown")
    start = web.publish(
        "/speculates",
        """<script type=speculationrules>
            {"prerender": [{"source": "list", "urls": ["/prerendered", "/never-shown"], "eagerness": "immediate"}]}
        </script><script>
            Promise.all([told("prerendered: true, 0 sent"), told("never-shown: true, 0 sent")]).then(() => {
                location = "/prerendered";
            });
        </script>""",
        head=TELLS,
        script=script,
    )
    for name in names:
        tells = f"tell(`{name}: ${{document.prerendering}}, ${{sent.length}} sent`)"
        web.publish(f"/{name}", f"<script>addEventListener('load', () => {tells})</script>", head=TELLS, script=script)
    with undriven_chromium(start, tmp_path / "profile", names=NAMES, secure=[web.origin]):
        for name in names:
            web.site.wait_until_told(f"{name}: true, 0 sent")
        web.counts("/prerendered", 1)
        web.counts("/speculates", 1)
        web.counts("/never-shown", 0)


def test_a_page_that_was_kept_counts_again_when_the_visitor_comes_back(web: Web, tmp_path: Path) -> None:
    script = web.script("")
    start = web.publish(
        "/kept.html",
        """<script>
            addEventListener("load", () => setTimeout(() => location = "/elsewhere"));
            addEventListener("pageshow", (event) => {
                if (event.persisted) setTimeout(() => tell(`back: ${sent.length} sent`));
            });
        </script>""",
        head=TELLS + '<link rel=canonical href="/kept">',
        script=script,
    )
    web.publish(
        "/elsewhere",
        "<script>addEventListener('load', () => setTimeout(() => history.back()))</script>",
        script=script,
    )
    with undriven_chromium(start, tmp_path / "profile", names=NAMES, secure=[web.origin]):
        web.site.wait_until_told("back: 2 sent")
        web.counts("/kept", 2)
        web.counts("/elsewhere", 1)


def test_a_badge_is_drawn_as_large_as_it_says_and_counts(web: Web, visitor: Visitor) -> None:
    paths = [f"/badge/{SITE}/badge?label={label}" for label in ("hits", "visits")]
    images = "".join(f'<img alt="" src="{web.counter()}{path}">' for path in paths)
    page = visitor.open(web.publish("/with-badges", images))
    drawn = page.evaluate("[...document.images].map((each) => [each.naturalWidth, each.naturalHeight])")
    web.counts("/badge", 2)
    web.counts("/with-badges", 1)
    said = [re.search(rb'width="(\d+)" height="(\d+)"', web.answer(DCS[0], f"{path}&count=0")) for path in paths]
    assert drawn == [[int(each) for each in size.groups()] for size in said if size]
    assert drawn[0][0] < drawn[1][0]


# Of each text: how wide it is drawn, beside how wide it is said to be, and its contrast to what is behind it.
MEASURES = """(behind) => {
    const parts = (color) => color.match(/[\\d.]+/g).slice(0, 3).map((each) => each / 255);
    const light = (color) => parts(color)
        .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
        .reduce((sum, each, at) => sum + each * [0.2126, 0.7152, 0.0722][at], 0);
    const boxes = [...document.querySelectorAll("path")].map((each) => getComputedStyle(each).fill);
    return [...document.querySelectorAll("text")].map((each, at) => {
        const said = +each.getAttribute("textLength");
        each.removeAttribute("textLength");
        const [dark, bright] = [light(getComputedStyle(each).fill), light(boxes[at] ?? behind)].sort((a, b) => a - b);
        return [each.getComputedTextLength() / said, (bright + 0.05) / (dark + 0.05)];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("style", STYLES)
def test_a_badges_text_fits_its_box_and_can_be_read(
    web: Web, visitors: Callable[..., Visitor], style: str, scheme: str
) -> None:
    page = visitors(color_scheme=scheme).context.new_page()
    behind = "rgb(255, 255, 255)" if scheme == "light" else "rgb(13, 17, 23)"
    labels = ("hits", "Visits of this page", "WWWWWW", "illicit", "посещения", "訪問者数")
    for label, color in [*((label, "blue") for label in labels), *(("hits", color) for color in COLORS)]:
        query = f"count=0&label={quote(label)}&style={style}&color={color}"
        page.set_content(web.answer(DCS[0], f"/badge/{SITE}/unseen?{query}").decode())
        measured = page.evaluate(MEASURES, behind)
        assert len(measured) == (1 if style == "plain" else 2)
        for width, contrast in measured:
            # A font without these characters has narrow boxes for them.
            assert width == pytest.approx(1, abs=0.15) or (width < 1 and label == "訪問者数"), label
            assert contrast > 4.5, color


def test_in_the_end_the_stores_have_these_visits_and_no_others(web: Web, mesh: Mesh) -> None:
    expected = {page: hits for page, hits in web.expected.items() if hits}
    wait_for(lambda: settled(mesh), within_s=SOON_S, what="all hits to be committed")
    assert {each["page"]: each["total"] for each in mesh.json("top", "-n", "1000")} == expected
    for dc in DCS:
        wait_for(lambda dc=dc: totals(web, dc) == expected, within_s=SOON_S, what=f"{dc} to know all of it")  # type: ignore[misc]


def totals(web: Web, dc: str) -> dict[str, int]:
    return {each["page"]: each["total"] for each in web.asked(dc, "/totals?limit=1000")["totals"]}
