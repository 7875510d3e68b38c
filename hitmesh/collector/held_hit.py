"""The answer to a hit while its batch isn't on stable storage yet: a HeldAnswer.

Owns nothing: the batch's outcome is the Forming's, the total the collector's, and an error's form the app's own, which
is asked once more with what came of the hit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from hitmesh.collector.collector import Collector, Forming
from hitmesh.collector.forms import Form
from hitmesh.collector.known import Total
from hitmesh.http.held_answer import HeldAnswer
from hitmesh.http.wsgi import App, Environ

FAILED: Final = "hitmesh.failed"
"""In a WSGI environment: why there is no total to answer. The app is asked once more, for the answer that says so."""

_NOT_SHOWN: Final = Total(None, {}, {})


class HeldHit(HeldAnswer):
    """One hit's. Made by a responder, and begun by whoever knows the head that it is to have."""

    __slots__ = (
        "_app", "_collector", "_counted", "_environ", "_form", "_headers", "_ignored", "_page", "_start_response",
        "_status", "forming",
    )  # fmt: skip

    def __init__(
        self,
        collector: Collector,
        environ: Callable[[], Environ],
        forming: Forming,
        page: str,
        form: Form,
        ignored: str = "",
        counted: Callable[[], None] | None = None,
    ) -> None:
        """`ignored` says why it isn't counted; `counted` is called once it is."""
        self._collector = collector
        self._environ = environ
        self.forming = forming
        """The batch that the hit is in; an empty one if it is ignored."""
        self._page = page
        self._form = form
        self._ignored = ignored
        self._counted = counted
        self._app: App
        self._status: str
        self._headers: Sequence[tuple[str, str]]
        self._start_response: Any

    def begin(self, app: App, status: str, headers: Sequence[tuple[str, str]], start_response: Any) -> None:
        """The head that the answer will have, if the hit is counted; without a length."""
        self._app, self._status, self._headers, self._start_response = app, status, headers, start_response

    def __iter__(self) -> Iterator[bytes]:
        """The answer, once the batch is on stable storage, or isn't."""
        error: Exception | None = self.forming.outcome()
        if error is None:
            try:
                body = self._body()
            except Exception as fault:  # noqa: BLE001 - it is answered, and logged, as any other of a responder's
                error = fault
        if error is not None:
            environ = self._environ()
            environ[FAILED] = error
            return iter(self._app(environ, self._start_response))
        if self._counted is not None:
            self._counted()
        headers = [*self._headers, ("content-length", str(len(body)))]
        if self._ignored:
            headers.append(("x-hitmesh", f"ignored; {self._ignored}"))
        self._start_response(self._status, headers)
        return iter((body,))

    def hold(self, released: Callable[[], None]) -> None:
        """Called with the batch's other hits."""
        self.forming.when_released(released)

    def waits(self) -> bool:
        """Whether the page's total has to be read."""
        if not self._form.needs_total:
            return False
        return not (self.forming.is_answered(self._page) or self._collector.is_known(self._page))

    def _body(self) -> bytes:
        collector, form, page = self._collector, self._form, self._page
        answers = self.forming.answers if form.is_shared else None
        if answers is not None and page in answers:
            return answers[page]
        total = collector.total(page) if form.needs_total else _NOT_SHOWN
        body = form.body(page, total, collector.live.retired)
        if answers is not None:
            answers[page] = body
        return body
