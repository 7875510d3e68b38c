"""Errors of the network, in words."""

from __future__ import annotations

import smtplib
import ssl

import pytest

from hitmesh.dashboard.unreached import why_not


def wrapped(inside: Exception) -> Exception:
    """As smtplib tells of it."""
    try:
        try:
            raise inside
        except OSError as error:
            raise smtplib.SMTPServerDisconnected(f"Connection unexpectedly closed: {error}")  # noqa: B904
    except smtplib.SMTPServerDisconnected as error:
        return error


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "no connection: refused, or nobody there"),
        (TimeoutError("timed out"), "no answer within 2 s"),
        (wrapped(TimeoutError("timed out")), "no answer within 2 s"),
        (wrapped(ConnectionResetError(104, "Connection reset by peer")), "the connection was lost before an answer"),
        (OSError(113, "No route to host"), "it can't be asked: No route to host"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "it doesn't speak TLS as we do"),
        (smtplib.SMTPServerDisconnected("please run connect() first"), "it can't be asked: please run connect() first"),
        (ValueError(""), "it can't be asked: ValueError"),
    ],
)
def test_an_error_is_told_in_words(error: Exception, why: str) -> None:
    assert why_not(error, 2.0) == why
