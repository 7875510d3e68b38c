"""What is a visit, and what of a visitor is remembered."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hitmesh.config import Counting
from hitmesh.site.bots import BOT, PREVIEW, kind_of
from hitmesh.site.visits import ADDRESS, DAY_S, PREFETCH, Visits

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 "
    "Mobile/15E148 Safari/604.1"
)
GOOGLE = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
SLACK = "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"
NOW_S = 1_000_000.0


class Asks:
    """A request's field lines, as `entry` gives them."""

    def __init__(self, **entries: str) -> None:
        self._entries: Mapping[str, str] = {"REMOTE_ADDR": "192.0.2.7", **entries}

    def __call__(self, name: str) -> str:
        return self._entries.get(name, "")


@pytest.mark.parametrize(
    "agent", ["", FIREFOX, CHROME, IPHONE, CHROME.replace("Chrome", "HeadlessChrome"), "curl/8.5.0", "Python-urllib/3.11",
              "python-requests/2.32", "Go-http-client/2.0", "okhttp/4.12", "PHP/8.3", "x" * 100_000]
)  # fmt: skip
def test_visitors_and_servers_that_count_for_them_are_visits(agent: str) -> None:
    assert kind_of(agent) == ""


@pytest.mark.parametrize(
    ("agent", "kind"),
    [
        (GOOGLE, BOT),
        ("Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)", BOT),
        ("Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)", BOT),
        (SLACK, PREVIEW),
        ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", PREVIEW),
        ("Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)", PREVIEW),
    ],
)
def test_bots_say_so_themselves(agent: str, kind: str) -> None:
    assert kind_of(agent) == kind
    assert Visits(Counting()).why_not(Asks(HTTP_USER_AGENT=agent)) == kind
    assert Visits(Counting(bots="count")).why_not(Asks(HTTP_USER_AGENT=agent)) == ""


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ({"HTTP_SEC_PURPOSE": "prefetch"}, PREFETCH),
        ({"HTTP_SEC_PURPOSE": "prefetch;prerender"}, PREFETCH),
        ({"HTTP_PURPOSE": "prefetch"}, PREFETCH),
        ({"HTTP_X_MOZ": "prefetch"}, PREFETCH),
        ({"HTTP_X_PURPOSE": "preview"}, PREVIEW),
        ({"HTTP_PURPOSE": "preview"}, PREVIEW),
        ({"HTTP_SEC_PURPOSE": "other"}, ""),
        ({}, ""),
    ],
)
def test_what_a_browser_fetches_ahead_is_no_visit(entries: Mapping[str, str], why: str) -> None:
    assert Visits(Counting()).why_not(Asks(**entries)) == why


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ({"REMOTE_ADDR": "10.1.2.3"}, ADDRESS),
        ({"REMOTE_ADDR": "::ffff:10.1.2.3"}, ADDRESS),
        ({"REMOTE_ADDR": "2001:db8::1"}, ADDRESS),
        ({"REMOTE_ADDR": "11.1.2.3"}, ""),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "10.1.2.3"}, ADDRESS),
        ({"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "192.0.2.1, 10.0.0.2"}, ""),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "nonsense"}, ""),
        ({"REMOTE_ADDR": "203.0.113.7"}, ADDRESS),
    ],
)
def test_addresses_are_ignored_as_the_configuration_says(entries: Mapping[str, str], why: str) -> None:
    rules = Counting(ignore=("10.0.0.0/8", "2001:db8::/32", "203.0.113.7"))
    assert Visits(rules).why_not(Asks(**entries)) == why
    assert Visits(Counting()).why_not(Asks(**entries)) == ""


def test_rules_that_change_hold_for_addresses_that_were_looked_up_before() -> None:
    told = Visits(Counting())
    asks = Asks(REMOTE_ADDR="10.1.2.3")
    for ignore, why in ((("10.0.0.0/8",), ADDRESS), (("11.0.0.0/8",), ""), (("10.1.2.3",), ADDRESS)):
        told.follow(Counting(ignore=ignore))
        assert told.why_not(asks) == why


def test_a_reload_is_the_same_visitor_on_the_same_page_within_the_time_after_a_counted_one() -> None:
    told = Visits(Counting(reload_s=30))
    first = told.visitor(Asks(HTTP_USER_AGENT=FIREFOX), "s/a", NOW_S)
    assert not told.is_reload(first, NOW_S)
    assert not told.is_reload(first, NOW_S)  # nobody has said that it was counted
    told.counted(first, NOW_S)
    assert told.is_reload(told.visitor(Asks(HTTP_USER_AGENT=FIREFOX), "s/a", NOW_S + 29), NOW_S + 29)
    for other in (
        told.visitor(Asks(HTTP_USER_AGENT=FIREFOX), "s/b", NOW_S),
        told.visitor(Asks(HTTP_USER_AGENT=CHROME), "s/a", NOW_S),
        told.visitor(Asks(HTTP_USER_AGENT=FIREFOX, REMOTE_ADDR="192.0.2.8"), "s/a", NOW_S),
    ):
        assert not told.is_reload(other, NOW_S)
    assert not told.is_reload(first, NOW_S + 30)
    assert not told.is_reload(first, NOW_S - 60)  # the clock was set back


def test_nothing_of_a_visitor_can_be_read_and_each_day_and_process_has_its_own_salt() -> None:
    told, other = Visits(Counting(reload_s=30)), Visits(Counting(reload_s=30))
    asks = Asks(HTTP_USER_AGENT=FIREFOX)
    today = told.visitor(asks, "s/a", NOW_S)
    told.counted(today, NOW_S)
    assert len(today) == 16
    assert today == told.visitor(asks, "s/a", NOW_S + 1)
    assert today != other.visitor(asks, "s/a", NOW_S)
    assert today != told.visitor(asks, "s/a", NOW_S + DAY_S)
    assert not told.is_reload(today, NOW_S + 1)  # nothing of yesterday is kept


def test_without_the_option_nobody_is_remembered() -> None:
    told = Visits(Counting(reload_s=30))
    visitor = told.visitor(Asks(), "s/a", NOW_S)
    told.counted(visitor, NOW_S)
    told.follow(Counting())
    assert told.visitor(Asks(), "s/a", NOW_S) == b""
    told.follow(Counting(reload_s=30))
    assert not told.is_reload(visitor, NOW_S + 1)


def test_visitors_of_a_flood_are_bounded_and_the_oldest_go() -> None:
    told = Visits(Counting(reload_s=30), most=3)
    for number in range(5):
        told.counted(bytes([number]), NOW_S)
    assert [told.is_reload(bytes([number]), NOW_S) for number in range(5)] == [False, False, True, True, True]
