"""A real browser: the system's Chromium without a window, driven by playwright. It reaches one host only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.services import require, without

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@contextmanager
def chromium(reaches: str = "127.0.0.1") -> Iterator[Browser]:
    """One Chromium, for all tests of a module."""
    program = require("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        without("playwright is not installed; pip install -e '.[test]' does it")
    with sync_playwright() as playwright:
        arguments = [
            "--no-sandbox",  # root's, as in a container, has none to be had
            f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {reaches}",
        ]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            browser.close()
