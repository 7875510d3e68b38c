"""Clients of a running mesh, each a thread with one request at a time, which remember what they were told.

    with at_work(Visitor(url, ["s/a", "s/b"])) as (visitor,):
        ...
    assert user.committed("s/") == visitor.accepted

One at a time, because only then it is certain which of two answers came first. A client checks
what every answer must be, whatever happens to the mesh: a total never falls, and one that was
counted is never 0. What it finds wrong is in `wrong`; `at_work` raises it at the end.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tests.system.user import User

ANSWER_S: Final = 60.0  # a collector repeats a put without an answer for 5 s; on a busy machine far longer
PAUSE_S: Final = 0.01  # between two requests: the mesh, not the client, shall have the machine


class Client(threading.Thread):
    """A thread that asks for one page after the other until `stop`."""

    def __init__(
        self, pages: Sequence[str], *, pause_s: float = PAUSE_S, least: Mapping[str, int] | None = None
    ) -> None:
        """`least` are totals that must never be undercut."""
        super().__init__(daemon=True)
        self.pages = list(pages)
        self.least: dict[str, int] = dict(least or {})
        self.wrong: list[str] = []
        self.unknown = 0  # answers that named no total, and said so
        self._pause_s = pause_s
        self._ending = threading.Event()

    def run(self) -> None:
        try:
            for page in itertools.cycle(self.pages):
                if self._ending.wait(self._pause_s):
                    return
                self.ask(page)
        except BaseException as error:  # a thread's death must not pass for silence
            self.wrong.append(f"the client died: {error!r}")
            raise

    def stop(self) -> None:
        """End after the request that is under way."""
        self._ending.set()
        self.join(ANSWER_S + 5)
        assert not self.is_alive()

    def ask(self, page: str) -> None:
        """One request, and what it says."""
        raise NotImplementedError

    def saw(self, page: str, total: int | None, *, more: int = 0) -> None:
        """Take in an answered total, which must be `more` above the last one; None: said to be unknown."""
        if total is None:
            self.unknown += 1
            return
        if total < self.least.get(page, 0) + more:
            self.wrong.append(f"{page} was at {self.least[page]}, and then at {total}")
        self.least[page] = total


class _HttpClient(Client):
    """One kept-alive connection to one collector, made again when it was lost."""

    def __init__(
        self, url: str, pages: Sequence[str], *, pause_s: float = PAUSE_S, least: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(pages, pause_s=pause_s, least=least)
        self.url = url
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        try:
            super().run()
        finally:
            if self._connection is not None:
                self._connection.close()

    def request(self, method: str, path: str) -> tuple[int, Any] | None:
        """Status and JSON; None when no whole answer came."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=ANSWER_S)
        try:
            self._connection.request(method, path)
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            self._connection = None
            return None


@dataclass(frozen=True)
class Age:
    """How old an answer calls a page's total."""

    page: str
    asked: float  # monotonic
    answered: float
    age_s: float


class Visitor(_HttpClient):
    """Hits pages; every hit is sent once."""

    def __init__(self, url: str, pages: Sequence[str], *, pause_s: float = PAUSE_S) -> None:
        super().__init__(url, pages, pause_s=pause_s)
        self.accepted: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()  # perhaps counted: an error that doesn't say no, or no answer
        self.refused: Counter[str] = Counter()  # 503, certainly not counted
        self.ages: list[Age] = []
        self.slowest_s = 0.0

    def ask(self, page: str) -> None:
        began = time.monotonic()
        answer = self.request("POST", f"/hit/{page}")
        now = time.monotonic()
        self.slowest_s = max(self.slowest_s, now - began)
        if answer is None:
            self.failed[page] += 1
        elif answer[0] == http.client.OK:
            self.accepted[page] += 1
            self.saw(page, answer[1]["total"], more=1)
            self.ages += [Age(page, began, now, each["age_s"]) for each in answer[1]["dcs"].values()]
        elif answer[1]["title"] == "Not counted":
            self.refused[page] += 1
        else:
            self.failed[page] += 1


class Reader(_HttpClient):
    """Reads totals over HTTP."""

    def ask(self, page: str) -> None:
        answer = self.request("GET", f"/total/{page}")
        if answer is None:
            return
        status, body = answer
        if status == http.client.OK:
            self.saw(page, body["total"])
        elif status == http.client.SERVICE_UNAVAILABLE:
            self.saw(page, None)
        else:
            self.wrong.append(f"GET /total/{page} was answered {status}: {body}")


class TerminalReader(Client):
    """Runs `hitmesh total`."""

    def __init__(self, user: User, pages: Sequence[str], *, least: Mapping[str, int] | None = None) -> None:
        super().__init__(pages, pause_s=0.2, least=least)
        self._user = user

    def ask(self, page: str) -> None:
        answer = self._user.run("total", page, "--json")
        if answer.returncode == 0:
            self.saw(page, json.loads(answer.stdout)["total"])
        elif answer.returncode == 1 and not answer.stdout and answer.stderr:
            self.saw(page, None)
        else:
            self.wrong.append(f"hitmesh total {page}: status {answer.returncode}, {answer.stdout!r}")


C = TypeVar("C", bound=Client)


@contextlib.contextmanager
def at_work(*clients: C) -> Iterator[tuple[C, ...]]:
    """The clients at work until the block's end. Raises AssertionError for what they found wrong."""
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stop()
    wrong = [f"{type(client).__name__}: {each}" for client in clients for each in client.wrong]
    assert not wrong, wrong[:10]


def accepted(*visitors: Visitor) -> Counter[str]:
    """The hits that were answered 2xx, by page."""
    return sum((visitor.accepted for visitor in visitors), Counter[str]())


def doubtful(*visitors: Visitor) -> Counter[str]:
    """The hits of which nobody knows."""
    return sum((visitor.failed for visitor in visitors), Counter[str]())
