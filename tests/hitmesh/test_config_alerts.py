"""The alerts' tables: what each mistake is told as, and that no secret is in them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from hitmesh.config import dump, load, parse
from hitmesh.config.alerts import RULES, Alerts
from tests.hitmesh.dev_config import DEV, Change, configured, mistake

MAIL = {"server": "mail.example.com:587", "sender": "a@example.com", "to": ["b@example.com"]}


def alerts(**what: Any) -> Change:
    return lambda data: data["alerts"].update(what)


def test_a_threshold_can_be_changed_by_itself() -> None:
    config = configured(lambda data: data["alerts"].update(rules={"spool_deep": {"threshold": 7}}))
    rule = config.alerts.rules.spool_deep
    assert (rule.threshold, rule.for_s, rule.off) == (7, 60.0, False)
    assert config.alerts.rules.disk == Alerts().rules.disk


def test_the_files_with_secrets_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    text = DEV.read_text().replace("webhook = []", 'webhook = [{url_file = "hook.url", token_file = "/etc/token"}]')
    path.write_text(text)
    [hook] = load(path).alerts.webhook
    assert (hook.url, hook.url_file, hook.token_file) == ("", str(tmp_path / "hook.url"), "/etc/token")


def test_where_alerts_go_is_read_back_from_a_dump() -> None:
    hooks = [{"url": 'https://x/"y'}, {"url_file": "/u", "token_file": "/t"}]
    config = configured(alerts(webhook=hooks, mail=MAIL, rules={"disk": {"off": True}}))
    assert parse(tomllib.loads(dump(config)), source="dumped") == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (alerts(webhook=[{}]), "alerts.webhook[0] needs one of url and url_file"),
        (alerts(webhook=[{"url": "https://x", "url_file": "y"}]), "alerts.webhook[0] needs one of url and url_file"),
        (alerts(webhook=[{"url": "ftp://x"}]), "alerts.webhook[0].url must be http://HOST... or https://HOST..."),
        (alerts(webhook=[{"url": "https://x:y/"}]), "alerts.webhook[0].url is no URL: "),
        (alerts(webhook=[{"url": "https://x/a b"}]), "alerts.webhook[0].url has characters that no URL has"),
        (
            alerts(webhook=[{"url": "https://u:hunter2@x/"}]),
            "alerts.webhook[0].url may have no user and password in it",
        ),
        (
            alerts(webhook=[{"url": "http://192.0.2.1/", "token_file": "t"}]),
            "alerts.webhook[0].token_file would be read on its way",
        ),
        (alerts(webhook=[{"uri": "https://x"}]), "alerts.webhook[0].uri is not a setting; did you mean url?"),
        (alerts(dead_man="ping"), "alerts.dead_man must be http://HOST... or https://HOST..."),
        (alerts(repeat_s=1), "alerts.repeat_s must be a number >= 60"),
        (alerts(mail={"to": ["a@b"]}), "alerts.mail.to means nothing without alerts.mail.server"),
        (alerts(mail={**MAIL, "server": "mail"}), "alerts.mail.server: 'mail' "),
        (alerts(mail={**MAIL, "to": []}), "alerts.mail.to is missing"),
        (alerts(mail={**MAIL, "sender": ""}), "alerts.mail.sender is missing"),
        (alerts(mail={**MAIL, "to": ["x\r\nBcc: y@z"]}), "alerts.mail.to: 'x\\r\\nBcc: y@z' is no mail address"),
        (alerts(mail={**MAIL, "user": "me"}), "alerts.mail.user and alerts.mail.password_file need each other"),
        (
            alerts(mail={**MAIL, "user": "me", "password_file": "p", "security": "none"}),
            "alerts.mail.security is none: whoever listens",
        ),
        (alerts(mail={**MAIL, "security": "ssl"}), 'alerts.mail.security must be "starttls", "tls" or "none"'),
        (alerts(rules={"spool_depth": {}}), "alerts.rules.spool_depth is not a setting; did you mean spool_deep?"),
        (alerts(rules={"books": {"threshold": 1}}), "alerts.rules.books.threshold is not a setting"),
        (alerts(rules={"disk": {"threshold": 90}}), "alerts.rules.disk.threshold must be a number <= 1"),
    ],
)
def test_a_mistake_is_named(change: Change, message: str) -> None:
    assert mistake(change).startswith(message)


def test_a_password_in_a_url_is_not_repeated() -> None:
    assert "hunter2" not in mistake(alerts(webhook=[{"url": "https://u:hunter2@x/"}]))


def test_every_rule_can_be_off_and_has_a_time() -> None:
    for name in RULES:
        config = configured(lambda data, name=name: data["alerts"].update(rules={name: {"off": True, "for_s": 1.0}}))  # type: ignore[misc]
        rule = getattr(config.alerts.rules, name)
        assert (rule.off, rule.for_s) == (True, 1.0)
