"""Webhooks, mail and the dead man's URL against real servers: what they get, and what is said when they don't take it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hitmesh.config.alerts import Alerts, Mail, Webhook
from hitmesh.dashboard.alerts import http, mail, sending
from hitmesh.dashboard.alerts.mail import MailWay
from hitmesh.dashboard.alerts.memory import Notice
from hitmesh.dashboard.alerts.notices import MAX_SUBJECT_CHARS
from hitmesh.dashboard.alerts.ways import ways_of
from hitmesh.dashboard.alerts.webhook import WebhookWay
from hitmesh.errors import AlertError
from tests.balancer.certificates import make_certificate
from tests.services import free_port
from tests.services.receivers import Hook, Mailbox, talker, texts

EVIL = "x\r\nBcc: evil@example.com\r\n\r\n<b>\x1b[2J\u202e"


def notice(says: str = "the disk is full", name: str = "disk/app-1", number: int = 1) -> Notice:
    return Notice(
        id="f1", number=number, kind="firing", name=name, rule="disk", level="bad", says=says, since=1.8e9, at=1.8e9 + 60
    )  # fmt: skip


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"), "localhost")


def secret(path: Path, word: str) -> str:
    path.write_text(word + "\n")
    path.chmod(0o600)
    return str(path)


def mail_to(box: Mailbox, **more: object) -> MailWay:
    given = {"server": f"127.0.0.1:{box.port}", "security": "none", "sender": "a@example.com", "to": ("b@example.com",)}
    return MailWay(Mail(**{**given, **more}))  # type: ignore[arg-type]


def why(send: Callable[[], object]) -> str:
    with pytest.raises(AlertError) as raised:
        send()
    return raised.value.message


# --- webhooks ------------------------------------------------------------------------------------


def test_a_webhook_gets_each_notice_as_json_by_itself(hook: Hook, tmp_path: Path) -> None:
    way = WebhookWay(Webhook(url=f"{hook.url}a?b=c", token_file=secret(tmp_path / "t", "hunter2")), 1)
    assert way.send("eu", [notice(), notice(number=2)]) == "200"
    [(method, path, headers, body), (_, _, second, _)] = hook.requests
    assert (method, path, headers["Content-Type"]) == ("POST", "/a?b=c", "application/json")
    assert (headers["Authorization"], headers["Host"]) == ("Bearer hunter2", f"127.0.0.1:{hook.port}")
    assert (headers["Idempotency-Key"], second["Idempotency-Key"]) == ("f1.1", "f1.2")
    assert json.loads(body) == {
        "format": 1,
        "id": "f1",
        "number": 1,
        "kind": "firing",
        "dc": "eu",
        "name": "disk/app-1",
        "rule": "disk",
        "level": "bad",
        "says": "the disk is full",
        "since": 1.8e9,
        "at": 1.8e9 + 60,
        "text": "firing: the disk is full (eu disk/app-1, bad, since 2027-01-15 08:00:00Z)",
    }


def test_a_url_that_is_a_secret_comes_from_a_file_and_is_in_no_text(hook: Hook, tmp_path: Path) -> None:
    hook.status, hook.answer = 404, [b"no\x1b[2J \xff such\nhook" + b"z" * 9000]
    way = WebhookWay(Webhook(url_file=secret(tmp_path / "u", f"{hook.url}hunter2")), 1)
    said = why(lambda: way.send("eu", [notice()]))
    assert said.startswith("it answers 404: no\\x1b[2J \ufffd such hookzzz")
    assert len(said) < 200
    assert hook.requests[0][1] == "/hunter2"
    hook.close()
    said = why(lambda: way.send("eu", [notice()]))
    assert "hunter2" not in said + way.where


@pytest.mark.parametrize("status", [301, 302, 307, 400, 500])
def test_only_a_2xx_is_taken_and_nothing_is_followed(hook: Hook, status: int) -> None:
    hook.status = status
    way = WebhookWay(Webhook(url=hook.url), 1)
    assert why(lambda: way.send("eu", [notice()])).startswith(f"it answers {status}")
    assert len(hook.requests) == 1


def test_a_server_that_is_silent_is_given_up(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TIMEOUT_S", 0.2)
    hook.may_answer.clear()
    assert why(lambda: http.ask("GET", hook.url)) == "no answer within 0.2 s"


def test_of_an_answer_without_end_the_beginning_is_read(hook: Hook) -> None:
    hook.status, hook.answer = 500, itertools.repeat(b"x" * 1000)
    assert why(lambda: http.ask("GET", hook.url)).startswith("it answers 500: xxx")


def test_nobody_there_is_said_in_words() -> None:
    assert why(lambda: http.ask("GET", f"http://127.0.0.1:{free_port()}/")) == "no connection: refused, or nobody there"
    assert why(lambda: http.ask("GET", "http://nobody.invalid/hunter2")).startswith("nobody.invalid can't be looked up")


def test_https_is_believed_when_somebody_known_has_signed(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = Hook(certificate)
    try:
        url = f"https://localhost:{hook.port}/"
        assert why(lambda: http.ask("GET", url)).startswith("its certificate isn't trusted: self")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert http.ask("GET", url) == "200"
        assert why(lambda: http.ask("GET", hook.url)).startswith("its certificate isn't trusted: IP address mismatch")
    finally:
        hook.close()


def test_a_secret_that_others_can_read_is_not_used_and_not_said(hook: Hook, tmp_path: Path) -> None:
    file = tmp_path / "t"
    way = WebhookWay(Webhook(url=hook.url, token_file=str(file)), 1)
    assert why(lambda: way.send("eu", [notice()])) == f"{file}: can't be read: No such file or directory"
    secret(file, "hunter2")
    file.chmod(0o644)
    said = why(lambda: way.send("eu", [notice()]))
    assert "others can read this secret" in said
    secret(file, "hunter2\r\nX-Evil: 1")
    said += why(lambda: way.send("eu", [notice()]))
    assert "hunter2" not in said
    assert hook.requests == []


# --- mail ----------------------------------------------------------------------------------------


def test_all_that_is_due_is_one_mail(box: Mailbox) -> None:
    way = mail_to(box, to=("b@example.com", "c@example.com"))
    assert way.send("eu", [notice(), notice("hits wait", "spool_old")]) == "taken"
    [got], [envelope] = box.mails, box.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("a@example.com", ["b@example.com", "c@example.com"])
    assert got["Subject"] == "[hitmesh eu] firing: the disk is full and 1 more"
    assert (got["From"], got["To"], got["Auto-Submitted"]) == (
        "a@example.com",
        "b@example.com, c@example.com",
        "auto-generated",
    )
    assert got["Message-ID"] == "<f1.1.1@example.com>"
    text = texts(box)
    assert "firing: hits wait\n  eu spool_old (bad), since 2027-01-15 08:00:00Z, told 2027-01-15 08:01:00Z" in text
    assert "id f1, number 1" in text


def test_whatever_is_in_a_name_no_header_comes_of_it(box: Mailbox) -> None:
    mail_to(box).send("eu", [notice(EVIL * 20, EVIL)])
    [got], [envelope] = box.mails, box.envelopes
    assert envelope.rcpt_tos == ["b@example.com"]
    assert (got["Bcc"], got.is_multipart()) == (None, False)
    assert len(got["Subject"]) <= MAX_SUBJECT_CHARS
    assert all(line.isprintable() for line in texts(box).splitlines())


def test_starttls_and_a_login_with_the_password_of_a_file(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Mailbox(certificate, user="me", password="hunter2")
    try:
        login = {"user": "me", "password_file": secret(tmp_path / "p", "hunter2"), "security": "starttls"}
        way = mail_to(box, server=f"localhost:{box.port}", **login)
        assert "its certificate isn't trusted: self-signed" in why(lambda: way.send("eu", [notice()]))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert way.send("eu", [notice()]) == "taken"
        secret(tmp_path / "p", "hunter3")
        said = why(lambda: way.send("eu", [notice()]))
        assert said == "it refuses the user and password: 535"
        assert len(box.mails) == 1
    finally:
        box.close()


def test_a_password_goes_nowhere_without_the_tls_that_was_asked_for(box: Mailbox, tmp_path: Path) -> None:
    way = mail_to(box, user="me", password_file=secret(tmp_path / "p", "hunter2"), security="starttls")
    assert why(lambda: way.send("eu", [notice()])).startswith("it can't do what it must: STARTTLS")


def test_what_a_mail_server_refuses_is_said(box: Mailbox) -> None:
    box.refuses = {"b@example.com"}
    assert why(lambda: mail_to(box).send("eu", [notice()])) == (
        "it refuses all of b@example.com: b@example.com (550 nobody of that name)"
    )
    both = mail_to(box, to=("b@example.com", "c@example.com"))
    assert both.send("eu", [notice()]) == "taken, but not for b@example.com (550 nobody of that name)"
    box.says = "452 no room \x07 here"
    assert why(lambda: both.send("eu", [notice()])).startswith("it answers 452: no room")
    nobody = mail_to(box, server=f"127.0.0.1:{free_port()}")
    assert why(lambda: nobody.send("eu", [notice()])) == "no connection: refused, or nobody there"


def test_a_mail_server_that_never_ends_its_greeting_is_given_up() -> None:
    with talker(lambda: itertools.repeat(b"220-hello\r\n" * 100, 2_000)) as port:
        way = MailWay(Mail(server=f"127.0.0.1:{port}", security="none", sender="a@b", to=("c@d",)))
        assert "it says more than 65536 bytes" in why(lambda: way.send("eu", [notice()]))


def test_a_mail_server_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "TIMEOUT_S", 0.2)
    with talker(lambda: iter(())) as port:
        way = MailWay(Mail(server=f"127.0.0.1:{port}", security="none", sender="a@b", to=("c@d",)))
        assert why(lambda: way.send("eu", [notice()])) == "no answer within 0.2 s"


def test_a_mail_server_that_takes_data_for_a_whole_mail_is_said_to() -> None:
    answers = [b"220 hi\r\n", *[b"250 ok\r\n"] * 20]
    with talker(lambda: iter(answers)) as port:
        way = MailWay(Mail(server=f"127.0.0.1:{port}", security="none", sender="a@b", to=("c@d",)))
        assert why(lambda: way.send("eu", [notice()])) == "it takes DATA for a whole mail: it answers 250, not 354: ok"


def test_the_ways_are_those_of_the_configuration() -> None:
    assert ways_of(Alerts()) == []
    settings = Alerts(
        webhook=(Webhook(url="https://hooks.example.com/hunter2"), Webhook(url_file="/etc/hook")),
        mail=Mail(server="mail.example.com:25", sender="a@b", to=("c@d",)),
    )
    assert [(way.name, way.where) for way in ways_of(settings)] == [
        ("webhook 1", "https://hooks.example.com"),
        ("webhook 2", "/etc/hook"),
        ("mail", "c@d by way of mail.example.com:25"),
    ]
    assert sending.excerpt(b"a\r\n b\x00") == "a b\\x00"
