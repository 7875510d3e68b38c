"""Alerts by mail: all notices that are due in one, given to a server over SMTP, which answers for the rest.

What a server says is bounded: smtplib would read replies of any number of lines.
"""

from __future__ import annotations

import contextlib
import smtplib
import socket
from collections.abc import Sequence
from typing import Any, Final

from hitmesh.config import host_port
from hitmesh.config.alerts import Mail
from hitmesh.dashboard.alerts import notices as words
from hitmesh.dashboard.alerts.memory import Notice
from hitmesh.dashboard.alerts.sending import TIMEOUT_S, address_of, context, excerpt, secret_word
from hitmesh.dashboard.unreached import why_not
from hitmesh.errors import AlertError

MAX_REPLIES_BYTES: Final = 64 * 1024  # of one connection: what servers say in one is some 2 KB


class MailWay:
    """The mail of a configuration."""

    name = "mail"
    together = True

    def __init__(self, settings: Mail) -> None:
        self._settings = settings
        self._host, self._port = host_port(settings.server)
        self.where = f"{', '.join(settings.to)} by way of {settings.server}"

    def send(self, dc: str, notices: Sequence[Notice]) -> str:
        settings = self._settings
        password = secret_word(settings.password_file) if settings.password_file else ""
        message = words.mail(dc, notices, sender=settings.sender, to=settings.to)
        try:
            with contextlib.closing(_Server(self._host, self._port, is_tls=settings.security == "tls")) as server:
                if settings.security == "starttls":
                    server.starttls(context=context())
                if settings.user:
                    server.login(settings.user, password)
                refused = server.send_message(message, settings.sender, settings.to)
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    server.quit()  # what was taken is taken, whatever it says to that
        except smtplib.SMTPNotSupportedError as error:
            raise AlertError(f"it can't do what it must: {excerpt(str(error))}") from error
        except smtplib.SMTPAuthenticationError as error:
            raise AlertError(f"it refuses the user and password: {error.smtp_code}") from None  # may say them again
        except smtplib.SMTPRecipientsRefused as error:
            raise AlertError(f"it refuses all of {', '.join(settings.to)}: {_reasons(error.recipients)}") from error
        except smtplib.SMTPDataError as error:
            if error.smtp_code == 250:  # of the mail itself that is no error
                raise AlertError(
                    f"it takes DATA for a whole mail: it answers 250, not 354: {excerpt(error.smtp_error)}"
                ) from error
            raise AlertError(f"it answers {error.smtp_code}: {excerpt(error.smtp_error)}") from error
        except smtplib.SMTPResponseException as error:
            raise AlertError(f"it answers {error.smtp_code}: {excerpt(error.smtp_error)}") from error
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise AlertError(excerpt(why_not(error, TIMEOUT_S))) from error
        return f"taken, but not for {_reasons(refused)}" if refused else "taken"


class _Server(smtplib.SMTP):
    """A connection to one. `host` is who must be there; where that is was looked up."""

    def __init__(self, host: str, port: int, *, is_tls: bool) -> None:
        self._is_tls = is_tls
        super().__init__(host, port, local_hostname=socket.gethostname() or "localhost", timeout=TIMEOUT_S)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = socket.create_connection(address_of(host, port), timeout)
        return context().wrap_socket(plain, server_hostname=host) if self._is_tls else plain

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file: Any = _Bounded(self.sock.makefile("rb"))
        return super().getreply()


class _Bounded:
    """What a server says, up to a bound."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = MAX_REPLIES_BYTES

    def readline(self, size: int) -> bytes:
        line: bytes = self._file.readline(size)
        self._left -= len(line)
        if self._left < 0:
            raise OSError(f"it says more than {MAX_REPLIES_BYTES} bytes")
        return line

    def close(self) -> None:
        self._file.close()


def _reasons(refused: dict[str, tuple[int, bytes]]) -> str:
    return ", ".join(f"{address} ({code} {excerpt(why)})" for address, (code, why) in list(refused.items())[:3])
