"""The pictures of the page in docs/operations/pictures: `python -m tests.hitmesh.dashboard.pictures` takes them anew."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from tests.hitmesh.dashboard import samples
from tests.hitmesh.dashboard.server import Stage, beaten
from tests.services.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FOLDER: Final = Path(__file__).parents[3] / "docs" / "operations" / "pictures"
MOST_BYTES: Final = 200_000  # of one: whoever clones the repository takes them along
BEATS: Final = 6  # until rates are known
BEAT_MS: Final = 1000


class Picture(NamedTuple):
    """One of them."""

    name: str
    sick: bool
    scheme: Literal["light", "dark"]
    width: int
    height: int
    scale: float = 1.0  # device pixels by pixel: a phone has more than one


PICTURES: Final = (
    Picture("dashboard-light", False, "light", 1280, 1040),
    Picture("dashboard-dark", False, "dark", 1280, 1040),
    Picture("dashboard-phone", True, "light", 390, 844, 1.5),
    Picture("dashboard-sick", True, "light", 1280, 960),
)


def take(browser: Browser, picture: Picture, folder: Path) -> Path:
    """One picture, as a file of `folder`."""
    now = time.time()
    status = samples.sick(now) if picture.sick else samples.healthy(now)
    file = folder / f"{picture.name}.png"
    context = browser.new_context(
        viewport={"width": picture.width, "height": picture.height},
        color_scheme=picture.scheme,
        device_scale_factor=picture.scale,
        reduced_motion="reduce",  # no pulse half way
        timezone_id="UTC",
    )
    with closing(Stage(status)) as stage, closing(context):
        page = context.new_page()
        page.goto(stage.url)
        page.wait_for_selector("#dcs .card")
        for beats in range(1, BEATS):
            page.wait_for_timeout(BEAT_MS)
            stage.show(beaten(status, beats, time.time()))
        page.wait_for_timeout(BEAT_MS // 2)
        page.screenshot(path=file)
    return file


def main() -> None:
    """Take all of them; a picture that is too large is an error."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for picture in PICTURES:
            file = take(browser, picture, FOLDER)
            size = file.stat().st_size
            sys.stdout.write(f"{file.name}: {size} bytes\n")
            if size > MOST_BYTES:
                raise SystemExit(f"{file.name} has {size} bytes, more than {MOST_BYTES}: take less of the page")


if __name__ == "__main__":
    main()
