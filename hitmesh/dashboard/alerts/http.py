"""A request to somebody's web server: bounded in time and size, once, to where it says and nowhere else.

A URL may be a secret (those of Slack are): no text of here has more of it than its host.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from hitmesh import __version__
from hitmesh.config.alerts import url_trouble
from hitmesh.dashboard.alerts.sending import TIMEOUT_S, address_of, context, excerpt
from hitmesh.errors import AlertError
from hitmesh.protocol.names import bracketed

MAX_ANSWER_BYTES: Final = 4096  # that are read: its beginning is shown when it is an error


def place_of(url: str) -> str:
    """Where a URL leads, without what may be a secret of it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{bracketed(parts.hostname or '')}{f':{parts.port}' if parts.port else ''}"


def ask(method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> str:
    """Send a request; the status of its answer, if it says that all is well (2xx). Raises AlertError."""
    import urllib3

    if trouble := url_trouble(url):
        raise AlertError(f"the URL {trouble}")
    parts = urlsplit(url)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    address, port = address_of(host, parts.port or (443 if is_tls else 80))
    timeout = urllib3.Timeout(connect=TIMEOUT_S, read=TIMEOUT_S)
    pool: urllib3.HTTPConnectionPool
    if is_tls:
        # The connection is made to the address; who must be there is the host.
        pool = urllib3.HTTPSConnectionPool(address, port, timeout=timeout, ssl_context=context(), server_hostname=host)
    else:
        pool = urllib3.HTTPConnectionPool(address, port, timeout=timeout)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    said = {
        "Host": place_of(url).partition("://")[2],
        "User-Agent": f"hitmesh/{__version__}",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **(headers or {}),
    }
    try:
        answer = pool.urlopen(
            method, target, body=body, headers=said, retries=False, redirect=False, preload_content=False
        )
        with contextlib.closing(answer):
            if 200 <= answer.status < 300:
                return str(answer.status)
            raise AlertError(f"it answers {answer.status}: {excerpt(_beginning(answer))}")
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise AlertError(_in_short(error)) from None  # whose text may have the URL
    finally:
        pool.close()


def _beginning(answer: object) -> bytes:
    """Of an answer's body, as much as comes soon."""
    deadline, found = time.monotonic() + TIMEOUT_S, b""
    while len(found) < MAX_ANSWER_BYTES and time.monotonic() < deadline:
        piece: bytes = answer.read(MAX_ANSWER_BYTES, decode_content=False)  # type: ignore[attr-defined]
        if not piece:
            break
        found += piece
    return found


def _in_short(error: Exception) -> str:
    import urllib3

    kinds = urllib3.exceptions
    if isinstance(error, kinds.NewConnectionError):  # a kind of the next one
        return "no connection: refused, or nobody there"
    if isinstance(error, kinds.ConnectTimeoutError):
        return f"no connection within {TIMEOUT_S:g} s"
    if isinstance(error, kinds.ReadTimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    if isinstance(error, kinds.SSLError):
        found = str(error).partition("certificate verify failed: ")[2].partition(" (_ssl.c")[0]
        return f"its certificate isn't trusted: {found}" if found else "it doesn't speak TLS as we do"
    if isinstance(error, kinds.ProtocolError):
        return "the connection was lost before an answer"
    return f"it can't be asked: {type(error).__name__}"
