"""How a record is written in each form, whatever stands in it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

import pytest

from hitmesh.lines import FORMS, JSON, LOGFMT, TEXT, Speaker

SPEAKER = Speaker("eu-west", "collector", "collector-1")
EVIL = 'a" level=error\r\n2026-01-01 00:00:00,000 x ERROR y: forged\x1b[2K\u202e\u2028\x00\\\udce9'
SHOWN = r'"a\" level=error\r\n2026-01-01 00:00:00,000 x ERROR y: forged\x1b[2K\u202e\u2028\x00\\\udce9"'


def written(
    form: str, message: str, *arguments: object, fields: Mapping[str, object] | None = None, error: str | None = None
) -> str:
    info = (ValueError, ValueError(error), None) if error is not None else None
    record = logging.LogRecord("hitmesh.x", logging.WARNING, "x.py", 1, message, arguments, info)
    record.created, record.msecs = 1_795_953_600.25, 250.0
    if fields is not None:
        record.fields = fields
    return FORMS[form](SPEAKER).format(record)


def test_text_says_when_who_and_what_and_then_the_fields() -> None:
    line = written(TEXT, "took partition %d over", 7, fields={"partition": 7, "why": "no heartbeat", "is_new": True})
    _, _, rest = line.split(" ", 2)
    assert rest == (
        "eu-west/collector/collector-1 WARNING hitmesh.x: took partition 7 over "
        'partition=7 why="no heartbeat" is_new=true'
    )


def test_logfmt_is_one_line_in_which_all_is_a_field() -> None:
    assert written(LOGFMT, "took partition %d over", 7, fields={"partition": 7, "ms": 1.5, "of": ""}) == (
        "time=2026-11-29T12:00:00.250Z level=warning dc=eu-west role=collector name=collector-1 "
        'logger=hitmesh.x message="took partition 7 over" partition=7 ms=1.5 of=""'
    )


def test_json_is_one_line_of_ascii() -> None:
    line = written(JSON, "took partition %d over", 7, fields={"partition": 7, "page": "straße.example/ü"})
    assert line == (
        '{"time":"2026-11-29T12:00:00.250Z","level":"warning","dc":"eu-west","role":"collector","name":"collector-1",'
        '"logger":"hitmesh.x","message":"took partition 7 over","partition":7,"page":"stra\\u00dfe.example/\\u00fc"}'
    )


@pytest.mark.parametrize("form", FORMS)
def test_no_value_and_no_message_forges_a_line_a_field_or_a_record(form: str) -> None:
    text = written(form, "page %s", EVIL, fields={"page": EVIL, "partition": 7})
    assert "\n" not in text and text.isprintable()
    if form == JSON:
        assert text.isascii()
        found = json.loads(text)
        assert (found["message"], found["page"], found["partition"]) == (f"page {EVIL}", EVIL, 7)
        assert found["level"] == "warning"
    else:
        assert text.endswith(f"page={SHOWN} partition=7")
        assert (f'message="page {SHOWN[1:]}' in text) is (form == LOGFMT)


@pytest.mark.parametrize("form", [LOGFMT, JSON])
def test_a_traceback_is_a_field_of_its_record(form: str) -> None:
    text = written(form, "failed", error=EVIL)
    assert "\n" not in text and text.isprintable()
    if form == JSON:
        assert json.loads(text)["traceback"].endswith(f"ValueError: {EVIL}")
    else:
        assert text.endswith(f"ValueError: {SHOWN[1:]}")


@pytest.mark.parametrize("form", [LOGFMT, JSON])
def test_a_field_takes_no_other_ones_name(form: str) -> None:
    text = written(form, "x", fields={"level": "info", "a b=c": 1, "name": "y"})
    if form == JSON:
        found = json.loads(text)
        assert (found["level"], found["level_"], found["a_b_c"], found["name_"]) == ("warning", "info", 1, "y")
    else:
        assert text.endswith("level_=info a_b_c=1 name_=y") and "level=warning" in text


def test_what_is_no_number_in_json_is_text() -> None:
    assert json.loads(written(JSON, "x", fields={"age_s": float("inf")}))["age_s"] == "inf"


@pytest.mark.parametrize("fields", [None, ["a"], "a=b"])
def test_what_are_no_fields_are_none(fields: Mapping[str, object] | None) -> None:
    assert written(LOGFMT, "x", fields=fields).endswith("message=x")
