"""JSON: what is written is read back; anything else is refused with its reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from tenslora.errors import SpecError, StateError
from tenslora.spec import SCHEMA_VERSION, from_json, parse, to_json
from tenslora.spec.schema import check_keys
from tenslora.testing import networks

LORA = "W[out in] = B[out r] A[r in]"


def test_the_document():
    assert to_json(parse(LORA)) == {"schema": 1, "equation": LORA}
    assert SCHEMA_VERSION == 1


@given(networks())
def test_round_trip_through_text(network):
    assert from_json(json.loads(json.dumps(to_json(network)))) == network


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (
            {"schema": 2, "equation": LORA},
            "E601: network JSON has schema 2; this release reads schema 1\n"
            "  Write it again with this release, or read it with the release that wrote it.",
        ),
        (
            {"equation": LORA},
            "E601: network JSON has schema None; this release reads schema 1\n"
            "  Write it again with this release, or read it with the release that wrote it.",
        ),
        (
            {"schema": True, "equation": LORA},
            "E601: network JSON has schema True; this release reads schema 1\n"
            "  Write it again with this release, or read it with the release that wrote it.",
        ),
        (
            {"schema": 1, "equation": LORA, "extra": 1, "another": 2},
            "E602: network JSON has unknown keys another, extra\n  The keys are equation, schema.",
        ),
        (
            {"schema": 1},
            "E602: network JSON has missing keys equation\n  The keys are equation, schema.",
        ),
        (
            {"schema": 1, "equations": LORA},
            "E602: network JSON has unknown keys equations and missing keys equation\n"
            "  The keys are equation, schema.",
        ),
        (
            [LORA],
            'E603: network JSON is list, not an object\n  It looks like {"schema": 1, ...}.',
        ),
        (
            {"schema": 1, "equation": ["W"]},
            "E603: network JSON: 'equation' is list, not a string\n  Write the equation as text.",
        ),
    ],
)
def test_what_is_refused(document, text):
    with pytest.raises(StateError) as info:
        from_json(document)
    assert str(info.value) == text


def test_an_equation_that_is_wrong_keeps_its_caret():
    with pytest.raises(SpecError, match=r"E103.*\n.*\n +\^\n  Did you mean A\[r in\]\?"):
        from_json({"schema": 1, "equation": "W[out in] = B[out r] A[r j]"})


def test_optional_keys():
    check_keys({"a": 1}, "thing", {"a"}, frozenset({"b"}))
    check_keys({"a": 1, "b": 2}, "thing", {"a"}, frozenset({"b"}))
    with pytest.raises(StateError, match="E602: thing JSON has unknown keys c\n  The keys are a"):
        check_keys({"a": 1, "c": 2}, "thing", {"a"}, frozenset({"b"}))


def test_keys_that_are_no_text():
    with pytest.raises(StateError, match="E602: network JSON has unknown keys 3"):
        from_json({"schema": 1, "equation": LORA, 3: 4})
