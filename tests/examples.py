"""How many examples hypothesis tries: `make test-fast` takes a profile with a share of the usual hundred."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

USUAL = 100  # hypothesis's own default
FAST = 10

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("hitmesh", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=USUAL)
settings.register_profile("fast", settings.get_profile("hitmesh"), max_examples=FAST)
settings.load_profile("hitmesh")


def examples(count: int) -> int:
    """So many where the usual hundred would be too few or too many; as small a share of them in a fast run."""
    return max(1, count * settings().max_examples // USUAL)
