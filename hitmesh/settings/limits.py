"""What a setting may look like, the same for every store. Pure.

A key is a path such as `routes/*.example.com`, of characters that are the same in a URL, in
Consul's key space and in a shell's quotes; a value is text, mostly JSON.
"""

from __future__ import annotations

import re
from typing import Final

from hitmesh.errors import ConfigError, SettingConflict
from hitmesh.settings import Edition, Setting

MAX_KEY_BYTES: Final = 512  # "routes/" and the longest host name are 260
MAX_VALUE_BYTES: Final = 64 * 1024  # in Consul's JSON and base64 it is at most 2.7 times that, of its 512 KiB
MAX_AUTHOR_CHARS: Final = 128  # as long as a name in a message may be
MAX_MERGED_VERSION: Final = 2**49  # what claims to be later leaves no room: a load in a heartbeat is at most 10**15
MAX_EDITIONS: Final = 10_000  # keys that are merged, those of what was deleted too; as many as a message may have

# A dot never begins a segment: no segment is . or .., and such keys are free for the store's own use.
_SEGMENT = r"[A-Za-z0-9_*:\[\]-][A-Za-z0-9_*:\[\].-]*"
_KEY = re.compile(rf"{_SEGMENT}(/{_SEGMENT})*")
_PREFIX = re.compile(r"([A-Za-z0-9_*:\[\]-][A-Za-z0-9_*:\[\]./-]*)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # one takes six bytes in JSON, and none belongs into text


def check_key(key: str) -> None:
    """Raise ConfigError for what is no setting's key."""
    if not _KEY.fullmatch(key):
        raise ConfigError(
            f"{key[:MAX_KEY_BYTES]!r} is not a setting's key",
            hint="it is a path such as routes/*.example.com, of letters, digits and _ * : [ ] - .",
        )
    if len(key) > MAX_KEY_BYTES:
        raise ConfigError(f"a setting's key of {len(key)} bytes; the limit is {MAX_KEY_BYTES}")


def check_prefix(prefix: str) -> None:
    """Raise ConfigError for what no key begins with; the empty text begins every key."""
    if not _PREFIX.fullmatch(prefix) or len(prefix) > MAX_KEY_BYTES:
        raise ConfigError(f"{prefix[:MAX_KEY_BYTES]!r} is not the beginning of a setting's key")


def check_value(key: str, value: bytes) -> None:
    """Raise ConfigError for a value that isn't text, or is too long."""
    if len(value) > MAX_VALUE_BYTES:
        raise ConfigError(f"{key}: a value of {len(value)} bytes; the limit is {MAX_VALUE_BYTES}")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{key}: the value is not UTF-8: {error.reason} at byte {error.start}") from error
    if found := _CONTROL.search(text):
        raise ConfigError(f"{key}: the value has the control character {found[0]!r}")


def check_author(author: str) -> None:
    """Raise ConfigError for a name that can't be shown on a line."""
    if not 1 <= len(author) <= MAX_AUTHOR_CHARS or not author.isprintable():
        raise ConfigError(f"an author is printable text of 1 to {MAX_AUTHOR_CHARS} characters")


def check_edition(edition: Edition) -> None:
    """Raise ConfigError for one that no release of ours has written: it comes from elsewhere."""
    check_key(edition.key)
    if edition.value is not None:
        check_value(edition.key, edition.value)
    check_author(edition.author)
    if not 1 <= edition.version <= MAX_MERGED_VERSION or not 0 <= edition.changed_at <= MAX_MERGED_VERSION:
        raise ConfigError(f"{edition.key}: version {edition.version} of {edition.changed_at:.0f} can't be")


def check_version(key: str, found: Setting | None, expected: int | None, endpoint: str) -> None:
    """Raise SettingConflict when a version is expected, and what was found has another one."""
    version = found.version if found else 0
    if expected is None or expected == version:
        return
    is_now = f"at version {version}, by {found.author}" if found else "not there"
    wanted = f"version {expected}" if expected else "none"
    raise SettingConflict(f"it is {is_now}; {wanted} was expected", op=f"change {key}", endpoint=endpoint)
