"""The alerts' tables of a datacenter's file: the rules, and where alerts are sent. Owns each setting's type, default, unit
and help, and what contradicts within them; knows nothing of how a dashboard judges or sends. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from hitmesh.config.addresses import host_port, is_loopback
from hitmesh.config.sections import Section

_LONGEST_S = 30 * 86_400.0  # a month
_Seconds = Annotated[float, Meta(ge=0, le=_LONGEST_S)]
_ADDRESS = re.compile(r"[!#-'*+./0-9=?A-Z^_`a-z{|}~-]{1,64}@[A-Za-z0-9.-]{1,255}")  # of RFC 5321, without quotes

HeldFor = Annotated[_Seconds, Meta(description="that it must have lasted before it fires")]
Off = Annotated[bool, Meta(description="never judged")]


class Webhook(Section, frozen=True):
    """Where each alert is POSTed to, as JSON."""

    url: Annotated[str, Meta(description="http:// or https://; empty: url_file has it")] = ""
    url_file: Annotated[
        str, Meta(description="file with a URL that is a secret, relative to this file; its reader's alone (chmod 600)")
    ] = ""
    token_file: Annotated[
        str, Meta(description="file with a token, shown as Authorization: Bearer; its reader's alone (chmod 600)")
    ] = ""


class Mail(Section, frozen=True):
    """Who gets alerts by mail, and the server that takes it."""

    server: Annotated[str, Meta(description="HOST:PORT, such as mail.example.com:587; empty: no mail")] = ""
    security: Annotated[
        Literal["starttls", "tls", "none"], Meta(description="tls: from the first byte, mostly port 465")
    ] = "starttls"
    user: Annotated[str, Meta(description="who logs in; empty: nobody")] = ""
    password_file: Annotated[
        str, Meta(description="file with the password, relative to this file; its reader's alone (chmod 600)")
    ] = ""
    sender: Annotated[str, Meta(description="an address, such as hitmesh@example.com")] = ""
    to: Annotated[tuple[str, ...], Meta(max_length=20, description="addresses")] = ()


class DatacenterSilent(Section, frozen=True):
    """Another datacenter, or its dashboards, can't be heard."""

    off: Off = False
    for_s: HeldFor = 30.0  # a dashboard's restart, or a link that blinks, takes less


class Books(Section, frozen=True):
    """The books don't balance."""

    off: Off = False
    for_s: HeldFor = 60.0  # two looks at least


class SpoolDeep(Section, frozen=True):
    """Too much waits in the spool."""

    off: Off = False
    for_s: HeldFor = 60.0
    threshold: Annotated[int, Meta(ge=1, description="jobs")] = 5_000  # as on the dashboard: 15 s of a busy spool


class SpoolOld(Section, frozen=True):
    """Hits wait in the spool for too long."""

    off: Off = False
    for_s: HeldFor = 30.0
    threshold: Annotated[float, Meta(ge=1, description="seconds that the oldest job is old")] = 60.0


class SpoolCopy(Section, frozen=True):
    """A copy of the spool can't be used."""

    off: Off = False
    for_s: HeldFor = 15.0  # a beanstalkd that is restarted is back by then


class Disk(Section, frozen=True):
    """The disk with a host's state folder is nearly full."""

    off: Off = False
    for_s: HeldFor = 30.0
    threshold: Annotated[float, Meta(ge=0.01, le=1, description="share of it that is used; bad from 0.97 on")] = 0.90


class HubLag(Section, frozen=True):
    """A process is so busy that all its answers are late."""

    off: Off = False
    for_s: HeldFor = 60.0
    threshold: Annotated[float, Meta(ge=0.01, description="seconds by which they are late")] = 0.5


class Errors(Section, frozen=True):
    """Too large a share of the balancers' answers are errors (5xx)."""

    off: Off = False
    for_s: HeldFor = 60.0
    threshold: Annotated[float, Meta(ge=0, le=1, description="share of the last minute's answers, of 50 at least")] = (
        0.02
    )


class Certificate(Section, frozen=True):
    """A certificate that a balancer shows ends soon."""

    off: Off = False
    for_s: HeldFor = 0.0
    threshold: Annotated[float, Meta(ge=0, description="days until then; bad from 3 on")] = 14.0


class InstanceDead(Section, frozen=True):
    """An instance is dead, and stays so."""

    off: Off = False
    for_s: HeldFor = 300.0  # supervisord starts another within seconds; this one doesn't come back


class ScalerStuck(Section, frozen=True):
    """A scaler can't do on its host what is wanted there, or its hook failed."""

    off: Off = False
    for_s: HeldFor = 120.0  # a supervisord that is restarted is back by then


class Trouble(Section, frozen=True):
    """Whatever else the dashboard calls bad: a store that doesn't answer, a role of which nobody lives, hits refused."""

    off: Off = False
    for_s: HeldFor = 30.0  # a take-over and a restart of all collectors take less


class Rules(Section, frozen=True):
    """What alerts tell of."""

    datacenter_silent: DatacenterSilent = DatacenterSilent()
    books: Books = Books()
    spool_deep: SpoolDeep = SpoolDeep()
    spool_old: SpoolOld = SpoolOld()
    spool_copy: SpoolCopy = SpoolCopy()
    disk: Disk = Disk()
    hub_lag: HubLag = HubLag()
    errors: Errors = Errors()
    certificate: Certificate = Certificate()
    instance_dead: InstanceDead = InstanceDead()
    scaler: ScalerStuck = ScalerStuck()
    trouble: Trouble = Trouble()


RULES = Rules.__struct_fields__
"""The names of the rules."""


class Alerts(Section, frozen=True):
    """Who is told when something isn't well for a while, and of what."""

    webhook: Annotated[tuple[Webhook, ...], Meta(max_length=8, description="where alerts are POSTed to")] = ()
    mail: Mail = Mail()
    repeat_s: Annotated[
        float, Meta(ge=60, le=_LONGEST_S, description="after which an alert that still fires is told again")
    ] = 14_400.0
    dead_man: Annotated[
        str, Meta(description="URL that is asked for (GET) while all is well, for somebody else to miss; empty: none")
    ] = ""
    dead_man_s: Annotated[float, Meta(ge=1, le=86_400, description="between two of these")] = 60.0
    rules: Rules = Rules()


def alert_problems(alerts: Alerts) -> Iterator[str]:
    """What contradicts in these tables, in words."""
    for number, each in enumerate(alerts.webhook):
        key = f"alerts.webhook[{number}]"
        if bool(each.url) == bool(each.url_file):
            yield f"{key} needs one of url and url_file"
        elif each.url:
            yield from _url(f"{key}.url", each.url)
            if each.token_file and each.url.startswith("http:") and not _is_near(each.url):
                yield f"{key}.token_file would be read on its way to {key}.url: https:// hides it"
    if alerts.dead_man:
        yield from _url("alerts.dead_man", alerts.dead_man)
    yield from _mail(alerts.mail)


def url_trouble(url: str) -> str:
    """What is wrong with a URL to send to; empty: nothing. The URL isn't part of it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"is no URL: {error}"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "has characters that no URL has"
    if parts.scheme not in ("http", "https") or not host:
        return "must be http://HOST... or https://HOST..."
    if parts.username is not None:
        return "may have no user and password in it; token_file is for that"
    return ""


def _url(key: str, url: str) -> Iterator[str]:
    if trouble := url_trouble(url):
        yield f"{key} {trouble}"


def _is_near(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname or "")


def _mail(mail: Mail) -> Iterator[str]:
    if not mail.server:
        if given := next((name for name in ("user", "password_file", "sender", "to") if getattr(mail, name)), ""):
            yield f"alerts.mail.{given} means nothing without alerts.mail.server"
        return
    try:
        host, _ = host_port(mail.server)
    except ValueError as error:
        yield f"alerts.mail.server: {mail.server!r} {error}"
        return
    if not mail.to:
        yield "alerts.mail.to is missing: who gets the mail?"
    if not mail.sender:
        yield "alerts.mail.sender is missing: whose mail is it?"
    for key, address in (("sender", mail.sender), *(("to", each) for each in mail.to)):
        if address and not _ADDRESS.fullmatch(address):
            yield f"alerts.mail.{key}: {address!r} is no mail address, which is NAME@HOST in ASCII"
    if bool(mail.user) != bool(mail.password_file):
        yield "alerts.mail.user and alerts.mail.password_file need each other"
    if not (mail.user.isascii() and mail.user.isprintable()):
        yield "alerts.mail.user must be printable ASCII"
    if mail.password_file and mail.security == "none" and not is_loopback(host):
        yield "alerts.mail.security is none: whoever listens on the way would have the password"
