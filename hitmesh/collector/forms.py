"""What a hit is answered with: its total as JSON, an image that shows nothing, a badge. Pure."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Collection
from typing import Final

from hitmesh.collector.answers import FIELDS, encode, total_entry
from hitmesh.collector.known import Total
from hitmesh.http.wsgi import Headers
from hitmesh.site.badge import Badge

# An image from another site's page, which that page may measure, and nobody may keep: image proxies, too.
_IMAGE_FIELDS: Final = (
    ("Cache-Control", "no-cache, no-store, must-revalidate, max-age=0"),
    ("Expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("X-Content-Type-Options", "nosniff"),
    ("Access-Control-Allow-Origin", "*"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
    ("Timing-Allow-Origin", "*"),
)
_GIF: Final = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


class Form:
    """One of them. `fields` are of its head."""

    def __init__(self, fields: Headers, *, needs_total: bool = True, is_shared: bool = False) -> None:
        self.fields = fields
        self.needs_total = needs_total
        """Whether it shows the page's total, which may have to be read."""
        self.is_shared = is_shared
        """Whether all hits of a page have the same answer."""

    def body(self, page: str, total: Total, retired: Collection[str]) -> bytes:
        """The body. `retired` are datacenters that are gone for good."""
        raise NotImplementedError


class _Json(Form):
    def body(self, page: str, total: Total, retired: Collection[str]) -> bytes:
        return encode(total_entry(page, total, retired))


class _Pixel(Form):
    def body(self, page: str, total: Total, retired: Collection[str]) -> bytes:
        return _GIF


class BadgeForm(Form):
    """A badge of this look."""

    def __init__(self, badge: Badge) -> None:
        super().__init__((("Content-Type", "image/svg+xml; charset=utf-8"), *_IMAGE_FIELDS))
        self._badge = badge

    def body(self, page: str, total: Total, retired: Collection[str]) -> bytes:
        """SVG."""
        return self._badge.svg(total.total).encode()


JSON: Final[Form] = _Json(FIELDS, is_shared=True)
PIXEL: Final[Form] = _Pixel((("Content-Type", "image/gif"), *_IMAGE_FIELDS), needs_total=False)
