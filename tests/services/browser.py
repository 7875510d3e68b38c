"""A real browser: the system's Chromium without a window. It reaches one address only, by as many names as it is given."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services import STOP_S, require, without

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@contextmanager
def chromium(reaches: str = "127.0.0.1", names: Sequence[str] = (), secure: Sequence[str] = ()) -> Iterator[Browser]:
    """One Chromium, for all tests of a module, driven by playwright. Origins that are `secure` it takes for HTTPS."""
    program = require("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        without("playwright is not installed; pip install -e '.[test]' does it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_arguments(reaches, names, secure))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def undriven_chromium(
    url: str, profile: Path, reaches: str = "127.0.0.1", names: Sequence[str] = (), secure: Sequence[str] = ()
) -> Iterator[None]:
    """One that nobody drives, at `url`: it hides tabs, prerenders and keeps pages to go back to, as a driven one doesn't."""
    command = [
        require("chromium"),
        "--headless",
        "--disable-background-networking",  # it has nobody to call
        "--disable-popup-blocking",
        f"--user-data-dir={profile}",
        *_arguments(reaches, names, secure),
        url,
    ]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_S)
                os.killpg(process.pid, signal.SIGKILL)


def _arguments(reaches: str, names: Sequence[str], secure: Sequence[str]) -> list[str]:
    rules = [*(f"MAP {name} {reaches}" for name in names), "MAP * ~NOTFOUND", f"EXCLUDE {reaches}"]
    return [
        "--no-sandbox",  # root's, as in a container, has none to be had
        f"--host-resolver-rules={', '.join(rules)}",
        *([f"--unsafely-treat-insecure-origin-as-secure={','.join(secure)}"] if secure else ()),
    ]
