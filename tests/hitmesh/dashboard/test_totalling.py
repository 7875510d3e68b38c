"""The one total: it ticks with every hit, whatever collectors and looks do meanwhile."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hitmesh.dashboard.totalling import Found, Totalling


def test_nobody_knows_before_the_first_look() -> None:
    total = Totalling()
    total.heard({"w1": 5})
    assert total.count() is None


def test_what_was_accepted_since_the_look_is_counted_at_once() -> None:
    total = Totalling()
    total.heard({"w1": 5})
    total.looked(Found(105, {"w1": 3}), {"w1": 5})
    assert total.count() == 107
    total.heard({"w1": 9})
    assert total.count() == 111


def test_a_store_that_has_less_than_before_is_believed() -> None:
    total = Totalling()
    total.looked(Found(100, {}), {})
    assert total.count() == 100
    total.looked(Found(40, {}), {})
    assert total.count() == 40


steps = st.lists(
    st.tuples(st.sampled_from(["hits", "commit", "end", "begin", "look"]), st.integers(1, 50)), max_size=60
)


@given(steps)
def test_it_is_exact_whenever_everybody_was_heard(steps: list[tuple[str, int]]) -> None:
    """Collectors that end leave what isn't committed in the spool, where it is committed later by nobody here."""
    total = Totalling()
    living, applied = {"w0": 0}, dict[str, int]()
    accepted = committed = 0
    left: dict[str, int] = {}
    seen = False
    for number, (step, count) in enumerate(steps):
        if step == "hits" and living:
            id = next(iter(living))
            living[id] += count
            accepted += count
        elif step == "commit":
            for id, all_of_it in [*living.items(), *left.items()]:
                committed += all_of_it - applied.get(id, 0)
                applied[id] = all_of_it
        elif step == "end" and living:
            id = next(iter(living))
            left[id] = living.pop(id)
        elif step == "begin":
            living[f"w{number + 1}"] = 0
        total.heard(living)
        if step == "look":
            spooled = sum(all_of_it - applied.get(id, 0) for id, all_of_it in left.items())
            total.looked(Found(committed, dict(applied), spooled), dict(living))
            seen = True
        assert total.count() == (accepted if seen else None)
