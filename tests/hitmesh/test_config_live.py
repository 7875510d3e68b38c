"""Which settings are live, what is refused as a value, and what of several applies together."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitmesh.config import Config
from hitmesh.config.checks import contradictions
from hitmesh.config.live import LIVE, apply, check, check_without, kind, meaning, value_of
from hitmesh.errors import ConfigError
from tests.examples import examples
from tests.hitmesh.dev_config import configured

CONFIG = configured()
VALUES = ["0", "1", "2", "300", "5000", "9000", "20000", "keep"]


def refused(key: str, text: str, config: Config = CONFIG) -> str:
    with pytest.raises(ConfigError) as raised:
        check(key, text, config)
    message = str(raised.value)
    assert "\n" not in message
    return message


# --- the keys ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", LIVE)
def test_every_live_key_is_a_setting_of_the_file_with_help(key: str) -> None:
    assert msgspec.convert(msgspec.to_builtins(_found(CONFIG, key)), kind(key)) == _found(CONFIG, key)
    assert meaning(key)


def _found(config: object, key: str) -> object:
    for name in key.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize("key", LIVE)
def test_the_value_in_force_can_be_set_and_changes_nothing(key: str) -> None:
    text = value_of(CONFIG, key)
    if key == "balancer.limits.client_burst":
        assert text == "0"
    assert check(key, text, CONFIG) == text
    assert apply(CONFIG, {key: text}) == apply(CONFIG, {})


def test_the_keys_stand_in_their_order() -> None:
    assert list(LIVE) == sorted(set(LIVE))


# --- what a value must be ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text", "canonical"),
    [
        ("timing.commit_s", "0.1", "0.1"),
        ("timing.commit_s", " 1 ", "1.0"),
        ("timing.commit_s", "1e-1", "0.1"),
        ("limits.batch_pages", "5_000", "5000"),
        ("pages.query", "keep", "keep"),
        ("pages.query", '"keep"', "keep"),
        ("pages.allow", '["a.example", "*.b.example"]', '["a.example","*.b.example"]'),
        ("pages.merge", '{"s/old" = "s/new"}', '{"s/old":"s/new"}'),
        ("pages.merge", '{"s/old": "s/new", "s/u/*": "s/u"}', '{"s/old":"s/new","s/u/*":"s/u"}'),
        ("counting.ignore", '["10.0.0.0/8"]', '["10.0.0.0/8"]'),
        ("datacenters/us-west", "retired", "retired"),
        ("routes/www.example.com", '{"status": 410, "action": "empty"}', '{"action":"empty","status":410}'),
    ],
)
def test_a_value_has_one_way_of_writing(key: str, text: str, canonical: str) -> None:
    assert check(key, text, CONFIG) == canonical
    assert check(key, canonical, CONFIG) == canonical


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("timing.comit_s", "1", "timing.comit_s is not a setting; did you mean timing.commit_s?"),
        ("nonsense", "1", "nonsense is not a setting; `hitmesh config list` shows those that are live"),
        ("timing.heartbeat_s", "1", "timing.heartbeat_s can't be changed while the mesh runs; change the datacenter's"),
        ("name", "x", "name can't be changed while the mesh runs"),
        ("balancer.limits", "1", "balancer.limits can't be changed while the mesh runs"),
        ("timing.commit_s", "soon", 'timing.commit_s must be a number, not "soon" (between two commits'),
        ("timing.commit_s", "", 'timing.commit_s must be a number, not ""'),
        ("timing.commit_s", "0", "timing.commit_s must be a number >= 0.01, not 0"),
        ("timing.commit_s", "nan", "timing.commit_s must be a number >= 0.01"),
        ("timing.commit_s", "nan", "0.01, not nan"),
        ("log.level", "inf", '"warning" or "error", not inf; did you mean info?'),
        ("timing.commit_s", "1\nname = 2", "a value is written as in the file, on one line"),
        ("timing.commit_s", "[" * 250, "timing.commit_s must be a number"),
        ("timing.commit_s", "[" * 16_000, "timing.commit_s must be a number"),
        ("pages.merge", "{" * 16_000, "pages.merge must be a table"),
        ("pages.merge", '{"s/old" = 1}', "pages.merge.s/old must be a string"),
        ("pages.merge", '{"s/old" = "s/../new"}', "pages.merge.'s/old': 's/../new' is no page"),
        ("pages.merge", '{"s/old" = "s/*"}', "'s/*' is one page, not a pattern"),
        ("pages.allow", "example.com", "pages.allow must be an array"),
        ("pages.allow", '["Example.com"]', "'Example.com' is neither a site, in small letters, nor site/path"),
        ("pages.query_keep", '["a&b"]', "pages.query_keep[0] must be"),
        ("counting.ignore", '["10.0.0.1/8"]', "did you mean 10.0.0.0/8?"),
        ("counting.ignore", '["localhost"]', "must be a network in CIDR or an address"),
        ("counting.reload_s", "-1", "counting.reload_s must be a whole number >= 0"),
        ("limits.batch_pages", "1.5", "limits.batch_pages must be a whole number, not 1.5"),
        ("limits.batch_pages", "true", "limits.batch_pages must be a whole number, not true"),
        ("pages.query", "kepe", 'pages.query must be "drop" or "keep", not "kepe"; did you mean keep?'),
        ("timing.commit_s", "7", "timing.commit_s (7.0) must be below timing.retry_delay_s (5.0)"),
        ("balancer.limits.line_bytes", "20000", "is more than balancer.limits.head_bytes (16384)"),
        ("balancer.limits.client_burst", "9", "means nothing without balancer.limits.client_rps"),
        ("datacenters/us-west", "gone", "datacenters/us-west: the only value is retired"),
        ("formats/wire", "2", "formats/wire isn't set by hand: `hitmesh formats finalize`"),
        ("datacenters/US", "retired", "datacenters/<name>: the name must be a string that matches"),
        ("routes/WWW.example.com", "{}", "routes/WWW.example.com: this is no Host"),
        ("routes/www.example.com", "{", "routes/www.example.com: not JSON"),
        ("routes/www.example.com", '{"action": "emty"}', "routes/www.example.com: action must be"),
    ],
)
def test_what_is_wrong_is_refused_with_what_would_be_right(key: str, text: str, message: str) -> None:
    assert message in refused(key, text)


@given(key=st.sampled_from([*LIVE, "datacenters/x", "routes/default", "", ".", "a.b", "name.x"]), text=st.text())
def test_any_text_is_taken_in_its_one_way_or_refused(key: str, text: str) -> None:
    try:
        canonical = check(key, text, CONFIG)
    except ConfigError:
        return
    assert check(key, canonical, CONFIG) == canonical
    assert not apply(CONFIG, {key: canonical}).refused


def test_what_may_not_be_unset_alone_is_refused() -> None:
    both = {"balancer.limits.client_burst": "9", "balancer.limits.client_rps": "5"}
    assert apply(CONFIG, both).refused == {}
    with pytest.raises(ConfigError, match=r"client_rps can't be unset while balancer\.limits\.client_burst is set"):
        check_without("balancer.limits.client_rps", CONFIG, both)
    check_without("balancer.limits.client_burst", CONFIG, both)
    with pytest.raises(ConfigError, match="did you mean"):
        check_without("balancer.limits.client_rsp", CONFIG, both)


# --- what applies together --------------------------------------------------------------------


def test_live_settings_lie_over_the_file_and_leave_the_rest() -> None:
    applied = apply(CONFIG, {"timing.commit_s": "0.1", "pages.query": "keep", "routes/x": "nonsense"})
    assert (applied.config.timing.commit_s, applied.config.pages.query) == (0.1, "keep")
    assert applied.refused == {}
    changed = configured(lambda data: (data["timing"].update(commit_s=0.1), data["pages"].update(query="keep")))
    assert applied.config == changed


def test_retired_datacenters_are_told() -> None:
    applied = apply(CONFIG, {"datacenters/us-west": "retired", "datacenters/ap-south": "retired", "datacenters/x": "?"})
    assert applied.retired == {"us-west", "ap-south"}
    assert list(applied.refused) == ["datacenters/x"]


def test_what_is_wrong_or_unknown_is_left_out_and_the_others_apply() -> None:
    applied = apply(
        CONFIG, {"timing.commit_s": "9", "timing.rows_s": "?", "timing.of_tomorrow_s": "1", "timing.fresh_s": "2"}
    )
    assert applied.config == apply(CONFIG, {"timing.fresh_s": "2"}).config
    assert set(applied.refused) == {"timing.commit_s", "timing.rows_s", "timing.of_tomorrow_s"}
    assert "must be below timing.retry_delay_s" in applied.refused["timing.commit_s"]


def test_settings_that_are_right_only_together_apply_together() -> None:
    values = {
        "balancer.limits.head_bytes": "4096",
        "balancer.limits.header_bytes": "2048",
        "balancer.limits.line_bytes": "2048",
        "balancer.limits.client_burst": "9",
        "balancer.limits.client_rps": "5",
    }
    assert apply(CONFIG, values).refused == {}
    beside_a_wrong_one = apply(CONFIG, {**values, "timing.commit_s": "9"})
    assert list(beside_a_wrong_one.refused) == ["timing.commit_s"]
    assert beside_a_wrong_one.config == apply(CONFIG, values).config


def test_of_settings_that_exclude_each_other_the_rest_is_right() -> None:
    applied = apply(CONFIG, {"balancer.limits.head_bytes": "4096", "balancer.limits.line_bytes": "9000"})
    assert len(applied.refused) >= 1
    assert apply(CONFIG, {key: value_of(applied.config, key) for key in LIVE}).refused == {}


@settings(max_examples=examples(50))
@given(st.dictionaries(st.sampled_from(LIVE), st.sampled_from(VALUES), max_size=8))
def test_whatever_is_set_what_applies_is_right_and_the_rest_is_named(values: dict[str, str]) -> None:
    applied = apply(CONFIG, values)
    assert list(contradictions(applied.config)) == []
    for key, text in values.items():
        if key in applied.refused:
            assert value_of(applied.config, key) == value_of(CONFIG, key)
        else:
            assert msgspec.convert(text, kind(key), strict=False) == _found(applied.config, key)
    # In whatever order they came, it is the same everywhere.
    assert apply(CONFIG, dict(reversed(values.items()))) == applied


# --- who reads them ---------------------------------------------------------------------------


def test_the_example_names_the_settings_of_pages() -> None:
    assert (CONFIG.pages.trailing_slash, CONFIG.pages.query) == ("drop", "drop")


def test_a_finalised_format_is_in_force_and_is_not_taken_back() -> None:
    applied = apply(CONFIG, {"formats/wire": "2"})
    assert (applied.written.formats, applied.written.unreadable, applied.refused) == ({"wire": 2}, "", {})
    with pytest.raises(ConfigError, match="can't be unset: what is written already stays"):
        check_without("formats/wire", CONFIG, {"formats/wire": "2"})


@pytest.mark.parametrize("text", ["3", "99"])
def test_a_format_that_this_release_cannot_read_is_said(text: str) -> None:
    applied = apply(CONFIG, {"formats/wire": text, "formats/job": "1"})
    assert applied.written.formats == {"job": 1}
    assert applied.refused == {"formats/wire": applied.written.unreadable}
    assert f"the mesh writes wire format {text}" in applied.written.unreadable


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "1.5", "9" * 300, "\u0662"])
def test_what_is_no_format_is_left_out_and_can_be_unset(text: str) -> None:
    applied = apply(CONFIG, {"formats/wire": text})
    assert (applied.written.formats, applied.written.unreadable) == ({}, "")
    assert applied.refused == {"formats/wire": "formats/wire: a format is a number from 1 on"}
    check_without("formats/wire", CONFIG, {"formats/wire": text})


def test_the_memory_of_deploys_is_nobodys_setting_and_nothing_wrong() -> None:
    applied = apply(CONFIG, {"deploys/us-west/lock": "{}", "deploys/us-west/trail": "[]"})
    assert (applied.config, applied.refused) == (CONFIG, {})
