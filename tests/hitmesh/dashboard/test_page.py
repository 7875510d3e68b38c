"""The page in a real browser: what it says, when it is mended, when nothing is heard, and what strangers wrote."""

from __future__ import annotations

import sys
import time
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from hitmesh.dashboard.status import Event, Instance, Status, Top
from hitmesh.visible import visible
from tests.hitmesh.dashboard import samples
from tests.hitmesh.dashboard.server import Stage, beaten
from tests.services import PATIENCE_S, wait_for
from tests.services.browser import chromium
from tests.services.relay import Relay

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.system  # playwright starts its driver and the browser

PATIENCE_MS = PATIENCE_S * 1000
HOSTILE = (
    "<img src=x onerror=\"document.title='stolen'\">",
    "</script><script>alert(1)</script>",
    "\u202egnp.exe",
    "a\x1b[2J\nhitmesh: all is well",
    "__proto__",
    "constructor",
    "&lt;b&gt; ' \" ` ${1}",
)
COUNTS_PULSES = """
    window.pulses = {};
    const animate = Element.prototype.animate;
    Element.prototype.animate = function (...how) {
        const name = this.closest("tr")?.querySelector("a")?.textContent;
        window.pulses[name] = (window.pulses[name] ?? 0) + 1;
        return animate.apply(this, how);
    };
"""
REPORTS_VIOLATIONS = """
    document.addEventListener("securitypolicyviolation", (each) => console.error("policy", each.violatedDirective));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


class Screen:
    """Opens pages; at its end none of them may have complained, asked anything, or gone anywhere."""

    def __init__(self, browser: Browser, ends: ExitStack) -> None:
        self._browser = browser
        self._ends = ends
        self.complaints: list[str] = []

    def stage(self, status: Status) -> Stage:
        """A dashboard that shows it."""
        stage = Stage(status)
        self._ends.callback(stage.close)
        return stage

    def open(self, url: str, *, width: int = 1280, script: str = "", **settings: Any) -> Page:
        """A page that has heard the dashboard at `url`."""
        context = self._browser.new_context(viewport={"width": width, "height": 900}, **settings)
        self._ends.callback(context.close)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.add_init_script(REPORTS_VIOLATIONS + script)
        page.on(
            "console", lambda each: self.complaints.append(each.text) if each.type in {"error", "warning"} else None
        )
        page.on("pageerror", lambda each: self.complaints.append(str(each)))
        page.on("dialog", lambda each: self.complaints.append(f"dialog: {each.message}"))
        page.goto(url)
        page.wait_for_selector("body[data-live=live]")
        page.wait_for_selector("#dcs .card")
        return page


@pytest.fixture
def screen(browser: Browser) -> Iterator[Screen]:
    with ExitStack() as ends:
        screen = Screen(browser, ends)
        yield screen
        assert screen.complaints == []


def says(page: Page, selector: str, text: str) -> None:
    """Wait until one of these has the text, whatever the capitals."""
    page.locator(selector).filter(has_text=text).first.wait_for(state="attached")


def show_all_problems(page: Page, count: int) -> None:
    """And wait until they are there."""
    page.click("#problems-all")
    wait_for(lambda: page.locator("#problem-list li").count() == count, what="all problems")


@contextmanager
def beating(stage: Stage, status: Status, *, frozen: str = "") -> Iterator[Any]:
    """A function that shows the next heartbeat of all but the instance `frozen`."""
    beats = 0

    def one(each: Instance, before: Instance) -> Instance:
        if each.name != frozen:
            return each
        still = replace(each, beats=before.beats, heartbeat_age_s=float(beats))
        return (
            replace(still, state="silent", why="its heartbeats are missing", since=time.time()) if beats > 12 else still
        )

    def beat() -> None:
        nonlocal beats
        beats += 1
        after = beaten(status, beats, time.time())
        dcs = {
            dc: replace(part, instances=[one(*each) for each in zip(part.instances, status.dcs[dc].instances, strict=True)])
            for dc, part in after.dcs.items()
        }  # fmt: skip
        stage.show(replace(after, dcs=dcs))

    yield beat


# --- what it says ------------------------------------------------------------------------------


def test_each_problem_is_said_in_words_and_goes_when_it_is_mended(screen: Screen) -> None:
    now = time.time()
    well, ill = samples.healthy(now), samples.sick(now)
    stage = screen.stage(well)
    page = screen.open(stage.url)
    assert page.text_content("#says") == "all is well"
    assert page.title() == "✓ all is well · hitmesh"
    assert page.locator("#problems").is_hidden()

    stage.show(ill)
    says(page, "#says", ill.says)
    assert page.title() == f"✕ ({len(ill.problems)}) {ill.says} · hitmesh"
    assert str(page.get_attribute("#favicon", "href")).endswith("icon-bad.svg")
    show_all_problems(page, len(ill.problems))
    lines = page.locator("#problem-list li").all_inner_texts()
    for problem in ill.problems:
        (line,) = [each for each in lines if problem.says.lower() in each.lower()]
        assert "since" in line
    for selector, text in (
        ("#dcs .card", "out of reach"),
        ("#dcs .card", "off by 40 hits"),
        ("#dcs .card[data-is=silent]", "0 a second, 41 s old"),
        ("#store-cards .card[data-is=silent]", "not heard: this is as of"),
        (".dc-instances[data-is=silent]", "not heard: this is as of"),
        (".dc-balancers[data-is=silent]", "not heard: this is as of"),
        ("#link-rows tr", "nothing of ap-south was heard for 41 s"),
        ("#map text", "late, rows 17 s old"),
        (".instance[data-is=dead]", "no heartbeat for 92 s"),
        (".instance[data-is=failing]", "partitions have waited for the totals store for 15 s"),
        (".instance[data-is=draining]", "it was told to stop"),
        ("#store-cards .card", "unusable: no room on its disk or in its memory"),
        ("#store-cards .owners", "nobody"),
        ("#store-cards .owners", "can't be read"),
        ("#store-cards .card", "partition 7: its rows sum to 1287540"),
        ("#store-cards .card", "4 partitions being brought back"),
        ("#balancers", "collector-1 (collectors, 10.1.0.1:8010) is DOWN for balancer-1"),
        ("#balancers", "it doesn't answer: timed out"),
        ("#events tr", "took over 16 partitions"),
    ):
        says(page, selector, text)

    stage.show(well)
    says(page, "#says", "all is well")
    page.locator("#problems").wait_for(state="hidden")
    assert page.title() == "✓ all is well · hitmesh"
    assert page.locator(".instance:not([data-is=up])").count() == 0
    assert page.locator("#link-rows tr", has_text="cut").count() == 0


def test_alerts_are_shown_with_who_silenced_what_and_how_telling_goes(screen: Screen) -> None:
    now = time.time()
    stage = screen.stage(samples.sick(now))
    page = screen.open(stage.url)
    says(
        page,
        "#alert-list li[data-level=bad]",
        "fires18,204 jobs wait in the spool of eu-west: more than 5000 (eu-west spool_deep)",
    )
    assert [each.split()[0] for each in page.locator("#alert-list .level").all_text_contents()] == [
        "fires",
        "silenced",
        "soon",
    ]
    says(page, "#silence-list li", "disk everywhere until")
    says(page, "#silence-list li", "by ann@desk: room is made")
    says(page, "#way-list li", "eu-west mail: 3 sent, 2 failed tries; now: no answer within 10 s")
    stage.show(samples.healthy(now))
    page.locator("#alerts-none").wait_for(state="visible")
    assert page.locator("#alert-list li, #silence-list li, #way-list li").count() == 0


def test_the_total_is_never_more_than_is_known_nor_goes_back(screen: Screen) -> None:
    status = samples.healthy(time.time())
    stage = screen.stage(status)
    page = screen.open(stage.url)
    page.evaluate(
        """() => {
            const node = document.getElementById("total");
            window.totals = [node.textContent];
            new MutationObserver(() => totals.push(node.textContent)).observe(node, { childList: true, characterData: true, subtree: true });
        }"""
    )  # fmt: skip
    known = status.total.hits or 0
    for more in (5_000, 10_000, 9_000):  # the last is lower than what was known before
        stage.show(replace(status, total=replace(status.total, hits=known + more, per_s=1e9)))
        page.wait_for_timeout(700)
    wait_for(lambda: page.inner_text("#total") == f"{known + 10_000:,}", what="the total that is known")
    totals = [int(each.replace(",", "")) for each in page.evaluate("totals")]
    assert totals == sorted(totals)
    assert totals[-1] == known + 10_000
    assert len(totals) > 4, "it should tick, not jump"
    stage.show(replace(status, total=replace(status.total, hits=None)))
    wait_for(lambda: not page.inner_text("#total").strip("\N{EN DASH}"), what="a total that nobody knows")


def test_events_backends_pages_and_instances_show_more_when_asked(screen: Screen) -> None:
    status = samples.sick(time.time())
    stage = screen.stage(status)
    page = screen.open(stage.url)
    page.select_option("#event-kind", label="died")
    wait_for(lambda: page.locator("#event-rows tr").count() == 1, what="one event")
    page.select_option("#event-kind", label="all kinds")
    page.fill("#event-text", "TOOK over 16")
    wait_for(lambda: page.locator("#event-rows tr").count() == 1, what="one event")
    page.select_option("#event-dc", label="us-west")
    wait_for(lambda: page.locator("#event-rows tr").count() == 0, what="no event")

    page.locator("#balancers summary").filter(has_text="of balancer-1").nth(1).click()
    row = page.locator("#balancers .dense tr", has_text="collector-1")
    row.wait_for()
    for text in ("DOWN", "10.1.0.1:8010", "5.25M", "42 s", "connection refused"):
        assert text in row.inner_text()

    page.fill("#page-name", "example.com/front?x=1#y")
    page.press("#page-name", "Enter")
    says(page, "#drawer", "answered by collector-2 of eu-west")
    assert page.inner_text("#drawer-title") == "example.com/front?x=1#y"
    assert "1,234" in page.inner_text("#drawer-body")
    page.keyboard.press("Escape")
    page.locator("#drawer").wait_for(state="hidden")
    assert "#" not in page.url

    page.check("#instance-ill")
    wait_for(lambda: page.locator(".instance[data-is=up]").count() == 0, what="those that aren't well")
    page.locator(".instance a", has_text="nexus-2").click()
    says(page, "#drawer", "it was told to stop")  # of its history
    assert stage.asked == [{"dc": "eu-west", "name": "nexus-2"}]
    page.go_back()
    page.locator("#drawer").wait_for(state="hidden")


def _ranked(status: Status, *, turned: bool) -> Status:
    """With its top pages in their order, or the other way around."""
    pages = [each.page for each in status.top]
    totals = [(at if turned else len(pages) - at) * 10 for at in range(len(pages))]
    return replace(status, top=[replace(each, total=total) for each, total in zip(status.top, totals, strict=True)])


def test_what_is_clicked_or_has_the_focus_isnt_lost_when_its_place_is_another(screen: Screen) -> None:
    status = samples.healthy(time.time())
    stage = screen.stage(_ranked(status, turned=False))
    page = screen.open(stage.url)
    first = page.locator("#top-rows a").first
    name = str(first.text_content())
    first.scroll_into_view_if_needed()
    first.hover()
    page.mouse.down()
    stage.show(replace(_ranked(status, turned=True), says="another order"))
    wait_for(lambda: "another order" in page.title(), what="the news")
    page.mouse.up()
    says(page, "#drawer-title", name)
    page.keyboard.press("Escape")
    page.locator("#drawer").wait_for(state="hidden")
    wait_for(lambda: page.locator("#top-rows a").last.text_content() == name, what="the other order")

    for turned in (False, True):
        page.locator("#top-rows a", has_text=name).focus()
        stage.show(_ranked(status, turned=turned))
        says(page, f"#top-rows tr:{'last' if turned else 'first'}-child a", name)
        assert page.evaluate("document.activeElement.textContent") == name


def test_what_is_asked_for_while_the_drawer_closes_is_shown(screen: Screen) -> None:
    page = screen.open(screen.stage(samples.healthy(time.time())).url)
    page.locator("#top-rows a").first.click()
    page.locator("#drawer .number").wait_for()
    page.evaluate(
        """() => {
            document.getElementById("drawer-close").click();
            [...document.querySelectorAll(".instance a")].find((each) => each.textContent === "nexus-2").click();
        }"""
    )
    says(page, "#drawer-title", "nexus-2")
    page.wait_for_timeout(200)  # for what would still close it
    assert page.locator("#drawer").is_visible()
    assert "#instance=" in page.url


# --- its own connection ------------------------------------------------------------------------


def test_a_muted_connection_is_said_and_greyed_and_comes_back(screen: Screen) -> None:
    now = time.time()
    stage = screen.stage(samples.healthy(now))
    relay = Relay(stage.server_port)
    try:
        page = screen.open(f"http://127.0.0.1:{relay.port}/")
        assert page.locator("#lost").is_hidden()
        relay.cut()
        page.wait_for_selector("body[data-live=lost]")
        says(page, "#lost", "Not connected to the dashboard. What is shown is as of")
        wait_for(lambda: "That is 4 s old" in page.inner_text("#lost"), what="how old it is")
        assert "grayscale" in page.evaluate("getComputedStyle(document.querySelector('main')).filter")
        rows = page.locator(".instance")
        assert {str(row.get_attribute("data-is")) for row in rows.all()} == {"up"}, "the dashboard said nothing else"
        assert "no heartbeat" not in str(page.text_content("#instance-tables"))
        assert page.title() == "… not connected · hitmesh"
        stage.show(samples.sick(now))
        relay.heal()
        page.wait_for_selector("body[data-live=live]")
        page.locator("#lost").wait_for(state="hidden")
        says(page, "#says", "the totals store of us-west")
        assert page.evaluate("getComputedStyle(document.querySelector('main')).filter") == "none"
    finally:
        relay.close()
    screen.complaints[:] = [each for each in screen.complaints if "net::ERR" not in each]  # the browser's own words


def test_each_heartbeat_is_a_pulse_that_stops_with_them(screen: Screen) -> None:
    status = samples.healthy(time.time())
    stage = screen.stage(status)
    page = screen.open(stage.url, script=COUNTS_PULSES)
    page.evaluate("document.getElementById('instances').scrollIntoView()")
    first = page.locator(".instance").first
    wait_for(lambda: first.locator("path.b-u").count() == 2, what="a row that is drawn")
    with beating(stage, status, frozen="nexus-2") as beat:
        for _ in range(30):
            beat()
            page.wait_for_timeout(250)
            if page.locator(".instance[data-still][data-is=silent]", has_text="nexus-2").count():
                break
        pulses = page.evaluate("pulses")
        assert pulses["nexus-1"] >= 5
        assert "nexus-2" not in pulses
        still = page.locator(".instance[data-still]")
        assert set(still.locator("a").all_text_contents()) == {"nexus-2"}
        says(page, ".instance[data-still][data-is=silent]", "silent for 0 s")
        says(page, ".instance[data-still][data-is=silent]", "its heartbeats are missing; since")


def test_nothing_is_drawn_in_a_hidden_tab_but_its_title(screen: Screen) -> None:
    status = samples.healthy(time.time())
    stage = screen.stage(status)
    page = screen.open(stage.url, reduced_motion="reduce", script=COUNTS_PULSES)
    hide = """(hidden) => {
        Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    stage.show(replace(samples.sick(time.time()), says="it is hidden"))
    wait_for(lambda: "it is hidden" in page.title(), what="the title")
    assert page.text_content("#says") == "all is well"
    page.evaluate(hide, False)
    says(page, "#says", "it is hidden")
    assert page.evaluate("pulses") == {}, "who wants less motion gets none"


# --- what strangers wrote ----------------------------------------------------------------------


def _hostile(now: float) -> Status:
    status = samples.sick(now)
    eu = status.dcs["eu-west"]
    instances = [
        replace(
            eu.instances[0], key=name, name=name, role=role, node=name, version=name, state="dead", why=name, load={name: 1.0}
        )
        for role in ("collector", HOSTILE[0])
        for name in (f"{role} {each}" if role == HOSTILE[0] else each for each in HOSTILE)
    ]  # fmt: skip
    return replace(
        status,
        says=HOSTILE[0],
        seen_from=replace(status.seen_from, dc=HOSTILE[0], name=HOSTILE[2], version=HOSTILE[3]),
        dcs={name: replace(eu, key=name, instances=instances) for name in HOSTILE},
        problems=[replace(status.problems[0], key=each, dc=each, who=each, says=each) for each in HOSTILE],
        links=[
            replace(status.links[0], key=each, source=each, target=HOSTILE[0], state="cut", why=each) for each in HOSTILE
        ],
        top=[Top(key=each, page=each, total=1, minutes=[1, 2]) for each in (*HOSTILE, *samples.HOSTILE_PAGES)],
        events=[Event(key=each, at=now, dc=each, kind="alert", who=each, says=each, cause=each) for each in HOSTILE],
        alerts=[replace(status.alerts[0], key=each, dc=each, name=each, says=each) for each in HOSTILE],
        silences=[replace(status.silences[0], key=each, dc=each, name=each, who=each, why=each) for each in HOSTILE],
    )  # fmt: skip


def test_what_strangers_wrote_is_text(screen: Screen) -> None:
    stage = screen.stage(_hostile(time.time()))
    stage.history = [{"from": 1.0, "to": 2.0, "state": each, "why": each} for each in HOSTILE]
    page = screen.open(stage.url, width=360)
    show_all_problems(page, len(HOSTILE))
    for selector in (
        "#problem-list",
        "#link-rows",
        "#instance-tables",
        "#store-cards",
        "#top-rows",
        "#event-rows",
        "#alerts",
    ):
        text = str(page.text_content(selector))
        for each in HOSTILE:
            assert visible(each) in text, (selector, each)
    page.locator("#top-rows a").first.click()
    page.locator("#drawer .number").wait_for()
    assert page.text_content("#drawer-title") in {visible(each) for each in (*HOSTILE, *samples.HOSTILE_PAGES)}
    page.keyboard.press("Escape")
    page.evaluate("document.querySelector('.instance a').click()")
    says(page, "#drawer td", visible(HOSTILE[1]))
    assert (
        page.evaluate(
            "document.querySelectorAll('img, iframe, script:not([src]), main [onerror], body b:not(.figure b)').length"
        )
        == 0
    )
    shown = str(page.text_content("body"))
    assert not [each for each in shown if unicodedata.category(each) in {"Cc", "Cf"} and each != "\n"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_it_shows_characters_as_the_commands_do(screen: Screen) -> None:
    page = screen.open(screen.stage(samples.healthy(time.time())).url)
    assigned = [chr(code) for code in range(sys.maxunicode + 1)]
    text = "".join(each for each in assigned if unicodedata.category(each) not in {"Cn", "Cs"})
    module = "(text) => import('/static/visible.js').then((each) => each.visible(text))"
    assert page.evaluate(module, text) == visible(text)
    assert page.evaluate("import('/static/visible.js').then((each) => each.visible('a\\ud800b'))") == "a\\ud800b"


def test_it_merges_patches_as_rfc_7396_has_it(screen: Screen) -> None:
    page = screen.open(screen.stage(samples.healthy(time.time())).url)
    examples = [  # of its appendix A, without what can't come: a patch that isn't an object
        ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
        ('{"a":"b"}', '{"a":null}', "{}"),
        ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
        ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
        ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
        ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
        ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
        ("{}", '{"a":[null,1]}', '{"a":[null,1]}'),
        ('{"a":1}', '{"__proto__":{"b":2}}', '{"a":1,"__proto__":{"b":2}}'),
    ]
    merged = page.evaluate(
        """async (examples) => {
            const { bare, merge } = await import("/static/merge.js");
            return examples.map(([whole, patch]) => JSON.stringify(merge(bare(JSON.parse(whole)), JSON.parse(patch))));
        }""",
        examples,
    )
    assert merged == [expected for _, _, expected in examples]


# --- for everybody -----------------------------------------------------------------------------


def test_everything_is_within_reach_of_a_keyboard(screen: Screen) -> None:
    stage = screen.stage(replace(samples.thousand(time.time(), 36), links=[], top=[]))
    page = screen.open(stage.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    wanted = page.evaluate(
        """() => {
            const all = [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")];
            return all.filter((each) => each.getClientRects().length && !each.closest("details:not([open]) > :not(summary), dialog")).map((each, at) => (each.dataset.stop = at));
        }"""
    )  # fmt: skip
    seen: dict[int, str] = {}
    for _ in range(len(wanted) + 10):
        page.keyboard.press("Tab")
        stop, outline = page.evaluate(
            "[document.activeElement?.dataset.stop, getComputedStyle(document.activeElement).outlineStyle]"
        )
        if stop is not None:
            seen[int(stop)] = outline
    assert set(seen) == set(wanted)
    assert set(seen.values()) <= {"solid", "auto"}

    page.locator(".instance .bar.hour").first.focus()
    page.keyboard.press("ArrowLeft")
    page.locator("#tip", has_text="up").wait_for()
    link = page.locator(".instance a").first
    link.focus()
    page.keyboard.press("Enter")
    says(page, "#drawer", "no heartbeat for 3.0 s")
    page.keyboard.press("Escape")
    page.locator("#drawer").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.textContent") == link.inner_text()


def test_a_bar_says_why(screen: Screen) -> None:
    now = time.time()
    status = samples.healthy(now)
    eu = status.dcs["ap-south"]
    ill = replace(eu.instances[0], hour="u" * 49 + "s" + "u" * 10)
    stage = screen.stage(replace(status, dcs={"ap-south": replace(eu, instances=[ill, *eu.instances[1:]])}))
    minute = now // 60 * 60 - 600
    stage.history = [{"from": minute + 5, "to": minute + 7, "state": "silent", "why": "no heartbeat for 1.6 s"}]
    page = screen.open(stage.url)
    bar = page.locator(".instance .bar.hour").first
    bar.scroll_into_view_if_needed()
    wait_for(lambda: bar.locator("path").count() == 2, what="a bar")
    assert "60 minutes: 1 silent, 59 up" in str(bar.get_attribute("aria-label"))
    page.keyboard.press("Tab")
    bar.focus()  # begins with the last that wasn't well
    tip = page.locator("#tip")
    tip.filter(has_text="silent from").wait_for()
    assert "for 2.0 s: no heartbeat for 1.6 s" in tip.inner_text()
    page.keyboard.press("Escape")
    tip.wait_for(state="hidden")
    box = bar.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 49.5 / 60, box["y"] + box["height"] / 2)
    tip.filter(has_text="no heartbeat for 1.6 s").wait_for()
    page.mouse.move(box["x"] + box["width"] * 5.5 / 60, box["y"] + box["height"] / 2)
    tip.filter(has_text="up").wait_for()


def test_a_phone_is_never_scrolled_sideways_and_shows_the_whole_sentence(screen: Screen) -> None:
    status = samples.sick(time.time())
    stage = screen.stage(replace(status, says=" and ".join(each.says for each in status.problems[:8])))
    page = screen.open(stage.url, width=360)
    wide = """() => {
        const scrolls = (each) => each.closest(".scroll, .jump, .heads"); // the last are for screen readers there
        const all = [...document.querySelectorAll("body *")].filter((each) => !scrolls(each) && each.getBoundingClientRect().right > 361 && each.checkVisibility());
        return [document.documentElement.scrollWidth, all.map((each) => each.className?.baseVal ?? each.className)];
    }"""
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert page.evaluate(wide) == [360, []]
    assert page.evaluate("(({ scrollHeight, clientHeight }) => scrollHeight - clientHeight)(says)") == 0
    page.locator("#top-rows a").last.click()
    page.locator("#drawer .number").wait_for()
    assert page.evaluate(wide) == [360, []]


CONTRASTS = """() => {
    const rgb = (text) => { const [r, g, b, a] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a ?? 1]; };
    const over = (top, under) => [0, 1, 2].map((at) => top[at] * top[3] + under[at] * (1 - top[3])).concat(1);
    const light = (color) => { const [r, g, b] = color.map((each) => (each / 255 <= 0.04045 ? each / 255 / 12.92 : ((each / 255 + 0.055) / 1.055) ** 2.4)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const behind = (node) => {
        const layers = [];
        for (let at = node; at; at = at.parentElement) layers.push(rgb(getComputedStyle(at).backgroundColor));
        return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
    };
    const poor = [];
    let texts = 0;
    for (const node of document.querySelectorAll("body *:not(svg *)")) {
        const text = [...node.childNodes].filter((each) => each.nodeType === 3).map((each) => each.data.trim()).join("");
        if (!text || !node.checkVisibility() || node.closest(".unseen, noscript, .partitions, dialog")) continue;
        texts++;
        let opacity = 1;
        for (let at = node; at; at = at.parentElement) opacity *= getComputedStyle(at).opacity;
        const under = behind(node);
        const color = rgb(getComputedStyle(node).color);
        const [a, b] = [light(over([...color.slice(0, 3), color[3] * opacity], under)), light(under)].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        if (contrast < 4.5) poor.push(`${contrast.toFixed(2)} ${node.className} ${text.slice(0, 30)}`);
    }
    return [texts, [...new Set(poor)]];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(screen: Screen, scheme: str) -> None:
    stage = screen.stage(samples.sick(time.time()))
    page = screen.open(stage.url, color_scheme=scheme)
    texts, poor = page.evaluate(CONTRASTS)
    assert texts > 300
    assert poor == []


WATCHES_PULSES = """() => {
  window.pulses = { smooth: 0, steps: 0 };
  const animate = Element.prototype.animate;
  Element.prototype.animate = function (...given) {
    pulses.smooth += 1;
    return animate.apply(this, given);
  };
  new MutationObserver((seen) => (pulses.steps += seen.length)).observe(document.body, { subtree: true, attributeFilter: ["data-step"] });
}"""

# --- a thousand instances ----------------------------------------------------------------------


def _cost_ms(screen: Screen, count: int, updates: int, *, unfolded: bool = False) -> tuple[float, Page]:
    """CPU time of the page's main thread for one heartbeat of all, without what it takes by itself."""
    status = samples.thousand(time.time(), count)
    eu = status.dcs["eu-west"]
    ill = [
        replace(one, state="dead", why="no heartbeat for 9 s") if one.name in {"collector-1", "collector-3"} else one
        for one in eu.instances
    ]
    status = replace(status, dcs={**status.dcs, "eu-west": replace(eu, instances=ill)})
    stage = screen.stage(status)
    page = screen.open(stage.url)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent_s() -> float:
        metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        return float(metrics["TaskDuration"])

    if unfolded:
        for button in page.locator(".fold-button").all():
            if button.get_attribute("aria-expanded") == "false":
                button.click()
                wait_for(lambda one=button: one.get_attribute("aria-expanded") == "true", what="it to be unfolded")  # type: ignore[misc]
        page.locator("#instances").scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    with beating(stage, status) as beat:
        before = spent_s()
        for _ in range(updates):
            beat()
            page.wait_for_timeout(250)
        return 1000 * (spent_s() - before) / updates, page


def test_a_thousand_instances_cost_about_as_much_as_ten(screen: Screen) -> None:
    few, _ = _cost_ms(screen, 30, 8)
    many, page = _cost_ms(screen, 1000, 8)
    assert many < 4 * few + 20, f"{many:.1f} ms an update with 1,000 instances, {few:.1f} ms with 30"
    collectors = page.locator(".dc-instances", has_text="eu-west").locator("tbody", has_text="collector")
    assert "2 dead" in collectors.locator(".group").inner_text()
    assert set(collectors.locator(".instance a").all_text_contents()) == {"collector-1", "collector-3"}
    assert page.locator(".instance").count() < 60
    collectors.locator(".fold-button").click()
    wait_for(lambda: collectors.locator(".instance").count() > 200, what="all of them")
    drawn = page.evaluate(
        "[...document.querySelectorAll('.instance .bar.hour')].filter((each) => each.firstChild).length"
    )
    assert drawn < 150, "those that aren't in sight aren't drawn"
    rows, page = _cost_ms(screen, 1000, 8, unfolded=True)
    assert page.locator(".instance").count() == 1000
    assert rows < 2 * few + 10, f"{rows:.1f} ms an update with 1,000 rows unfolded, {few:.1f} ms with 30"


def test_the_pulses_of_many_rows_move_in_steps_and_of_few_smoothly(screen: Screen) -> None:
    """A ring that moves by itself is a layer of its own."""
    for count, unfolded in ((30, False), (200, True)):
        status = samples.thousand(time.time(), count)
        stage = screen.stage(status)
        page = screen.open(stage.url)
        if unfolded:
            page.locator(".fold-button", has_text="collector").first.click()
            page.locator(".chunk .instance").first.scroll_into_view_if_needed()
        else:
            page.set_viewport_size({"width": 1280, "height": 400})
            page.locator(".instance").first.scroll_into_view_if_needed()
        page.wait_for_timeout(300)
        page.evaluate(WATCHES_PULSES)
        with beating(stage, status) as beat:
            beat()
            wait_for(lambda page=page: page.evaluate("pulses.smooth + pulses.steps") > 0, what="a pulse")  # type: ignore[misc]
        smooth, steps = page.evaluate("[pulses.smooth > 0, pulses.steps > 0]")
        assert (smooth, steps) == (not unfolded, unfolded)
