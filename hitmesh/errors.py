"""The one exception tree. Owns what an operator is told; knows nothing of who raises it.

Every error says what was tried (`op`), where (`endpoint`, and nowhere else), what would help (`hint`), and
whether the same thing may succeed later (`retryable`). Errors are translated into these only
where I/O happens, with `raise ... from`.
"""

from __future__ import annotations


class HitmeshError(Exception):
    """The root of everything that hitmesh raises on purpose."""

    retryable = False

    def __init__(self, message: str, *, op: str = "", endpoint: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.op = op
        self.endpoint = endpoint
        self.hint = hint

    @property
    def reason(self) -> str:
        """What is wrong and what would help, without the places that strangers needn't know."""
        return self.message + (f" ({self.hint})" if self.hint else "")

    def __str__(self) -> str:
        where = f" at {self.endpoint}" if self.endpoint else ""
        what = f"{self.op}{where}: " if self.op or where else ""
        return what + self.reason


class ConfigError(HitmeshError):
    """A setting is missing, unknown or wrong; names the file and the key."""


class PageError(HitmeshError):
    """A page name that can't be counted."""


class DecodeError(HitmeshError):
    """Bytes that aren't a message of ours: the only error that decoding raises."""


class SpoolRefused(HitmeshError):
    """The spool said no: nothing of this job is on its disk, and none of it will be counted."""

    retryable = True


class SpoolUnknown(HitmeshError):
    """The spool didn't say: the job may be on its disk or not."""

    retryable = True


class StoreUnknown(HitmeshError):
    """The totals store gave no usable answer: a read has no value, a write may have happened.

    Never a reason to assume 0, nor that nothing was written.
    """

    retryable = True


class SettingConflict(HitmeshError):
    """The setting isn't at the version that its writer expected: nothing was written."""


class MeshError(HitmeshError):
    """No Nexus answered, or it refused the request."""

    retryable = True


class AlertError(HitmeshError):
    """An alert wasn't taken by whom it was sent to."""

    retryable = True


class CommandError(HitmeshError):
    """A command of the user's that can't be carried out."""
