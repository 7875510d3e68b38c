"""Alerts to a web server: each notice is POSTed as JSON by itself, in order, and taken when the answer is a 2xx."""

from __future__ import annotations

from collections.abc import Sequence

from hitmesh.config.alerts import Webhook
from hitmesh.dashboard.alerts import http
from hitmesh.dashboard.alerts.memory import Notice
from hitmesh.dashboard.alerts.notices import body
from hitmesh.dashboard.alerts.sending import secret_word


class WebhookWay:
    """One of the webhooks of a configuration, the `number`-th from 1."""

    together = False

    def __init__(self, settings: Webhook, number: int) -> None:
        self._settings = settings
        self.name = f"webhook {number}"
        self.where = http.place_of(settings.url) if settings.url else settings.url_file

    def send(self, dc: str, notices: Sequence[Notice]) -> str:
        url = self._settings.url or secret_word(self._settings.url_file)
        headers = {"Content-Type": "application/json"}
        if self._settings.token_file:
            headers["Authorization"] = f"Bearer {secret_word(self._settings.token_file)}"
        answered = ""
        for notice in notices:
            # Who has it already may drop what comes again.
            answered = http.ask(
                "POST", url, body(dc, notice), {**headers, "Idempotency-Key": f"{notice.id}.{notice.number}"}
            )
        return answered
