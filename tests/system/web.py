"""A web site whose visits a mesh of two datacenters counts, and visitors of it with a real browser.

The site is on one host name and the counter on another. Each test has pages of its own; what it expects of them is kept,
so that in the end the stores can be compared with all of it.
"""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from tests.hitmesh.cli.meshes import Mesh
from tests.services import PATIENCE_S, wait_for
from tests.services.site import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

DCS: Final = ("eu-west", "us-west")
SITE: Final = "site.example"
COUNTER: Final = "hits.example"
DRIVEN: Final = 'data-allow="driven"'
ICON: Final = '<link rel=icon href="data:,">'  # or a browser asks for one, whenever the address changes
REPORTS_VIOLATIONS: Final = """
    document.addEventListener("securitypolicyviolation", (each) => console.error("policy", each.violatedDirective));
"""


class Web:
    """The site, and what is to be counted of it."""

    def __init__(self, mesh: Mesh, site: Site) -> None:
        self.site = site
        self.expected: Counter[str] = Counter()
        self._balancers = {dc: mesh.urls(dc, "balancer")[0] for dc in DCS}

    @property
    def origin(self) -> str:
        return f"http://{SITE}:{self.site.port}"

    def counter(self, dc: str = DCS[0]) -> str:
        """As pages know the balancer of a datacenter."""
        return f"http://{COUNTER}:{self._balancers[dc].rpartition(':')[2]}"

    def script(self, attributes: str = DRIVEN, dc: str = DCS[0]) -> str:
        """As the owner of a site puts it in every page."""
        return f'<script defer src="{self.counter(dc)}/count.js" {attributes}></script>'

    def publish(
        self, path: str, body: str = "", *, head: str = "", script: str = "", headers: Mapping[str, str] | None = None
    ) -> str:
        """A page of the site, by itself with the script that every page has; its URL."""
        html = f"<!doctype html><html lang=en><title>{path}</title>{ICON}{head}{script or self.script()}<body>{body}"
        self.site.pages[path] = html, headers or {}
        return self.origin + path

    def counts(self, path: str, hits: int, site: str = SITE) -> None:
        """Wait until a page has so many hits more; it may not have others."""
        page = site + path
        self.expected[page] += hits
        wait_for(lambda: self.total(page) >= self.expected[page], what=f"{hits} hits of {page}")
        assert self.total(page) == self.expected[page], page

    def total(self, page: str) -> int:
        total: int = self.asked(DCS[0], f"/total/{quote(page)}")["total"]
        return total

    def asked(self, dc: str, path: str) -> Any:
        """What a datacenter answers through its balancer, as JSON."""
        return json.loads(self.answer(dc, path))

    def answer(
        self, dc: str, path: str, method: str = "GET", body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The same as it is."""
        with closing(http.client.HTTPConnection(self._balancers[dc][len("http://") :], timeout=PATIENCE_S)) as asking:
            asking.request(method, path, body, headers or {})
            answer = asking.getresponse()
            said = answer.read()
            assert answer.status == 200, said
            return said


class Visitor:
    """One who knows nothing of the others. In the end its console has said nothing, or the test expected it."""

    def __init__(self, browser: Browser, script: str = "", **settings: Any) -> None:
        """`script` is run before those of each page."""
        self.complaints: list[str] = []
        """What the console and dialogs said."""
        self.sent: list[str] = []
        """What was sent to be counted, as path."""
        self.context = browser.new_context(**settings)
        self.context.set_default_timeout(1000 * PATIENCE_S)
        self.context.add_init_script(REPORTS_VIOLATIONS + script)
        self.context.on(
            "console", lambda each: self._complain(each.text) if each.type in ("error", "warning") else None
        )
        self.context.on("weberror", lambda each: self._complain(str(each.error)))
        self.context.on("dialog", self._accept)
        self.context.on("request", lambda each: self._send(each.url))

    def open(self, url: str) -> Page:
        """In a tab of its own, until it is loaded."""
        page = self.context.new_page()
        page.goto(url)
        return page

    def _complain(self, text: str) -> None:
        self.complaints.append(text)

    def _accept(self, dialog: Dialog) -> None:
        self._complain(dialog.message)
        dialog.accept()

    def _send(self, url: str) -> None:
        for route in ("/hit/", "/pixel/"):
            if route in url:
                self.sent.append(route[1:] + url.partition(route)[2])
