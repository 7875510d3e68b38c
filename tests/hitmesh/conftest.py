"""What tests of several parts share: whoever is told of alerts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.receivers import Hook, Mailbox


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


@pytest.fixture
def box() -> Iterator[Mailbox]:
    made = Mailbox()
    yield made
    made.close()
