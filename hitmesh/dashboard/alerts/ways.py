"""The ways in which a datacenter's alerts are sent, by its configuration."""

from __future__ import annotations

from hitmesh.config.alerts import Alerts
from hitmesh.dashboard.alerts.mail import MailWay
from hitmesh.dashboard.alerts.sending import Way
from hitmesh.dashboard.alerts.webhook import WebhookWay


def ways_of(settings: Alerts) -> list[Way]:
    """Every webhook, then the mail."""
    ways: list[Way] = [WebhookWay(each, number) for number, each in enumerate(settings.webhook, start=1)]
    return [*ways, MailWay(settings.mail)] if settings.mail.server else ways
