"""Why somebody who was asked over the network gave no answer, in words: without the number of an error."""

from __future__ import annotations

import ssl


def why_not(error: Exception, timeout_s: float) -> str:
    """What an error says, of a question with that time-out. smtplib and its like wrap what the network said."""
    for each in (error, error.__context__):
        if isinstance(each, TimeoutError):
            return f"no answer within {timeout_s:g} s"
        if isinstance(each, ConnectionRefusedError):
            return "no connection: refused, or nobody there"
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"its certificate isn't trusted: {each.verify_message}"
        if isinstance(each, ssl.SSLError):
            return "it doesn't speak TLS as we do"
        if isinstance(each, ConnectionError):
            return "the connection was lost before an answer"
        if isinstance(each, OSError) and each.strerror:
            return f"it can't be asked: {each.strerror}"
    return f"it can't be asked: {str(error) or type(error).__name__}"
