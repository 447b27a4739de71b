"""The renderer of errors, and the errors of the language above the parser, with their whole text.

Those of the parser stand in tests/spec/test_check.py, of sizes in test_sizes.py and of JSON in
test_schema.py.
"""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest

import tenslora as tl
from tenslora import errors
from tenslora.errors import (
    CODES,
    RedundantRankWarning,
    SpecError,
    TensloraError,
    UsageError,
    render,
)

TEXT = "W[out in] = B[out r] A[r j]"
LORA = tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"})
SIZES = {"out": 8, "in": 6}


def classes():
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, TensloraError)
    ]


def test_codes_are_in_order_and_have_one_line():
    for letter in "EW":
        codes = [code for code in CODES if code.startswith(letter)]
        assert codes == sorted(codes)
    assert all(title and "\n" not in title and len(title) < 100 for title in CODES.values())


def test_a_users_mistake_is_a_value_error_but_for_the_command_line():
    for cls in classes():
        assert issubclass(cls, ValueError) == (cls not in (TensloraError, UsageError))


def test_the_parts_of_a_text():
    full = SpecError("E103", "what is wrong", advice="What to do.", text=TEXT, span=(25, 26))
    assert str(full) == f"E103: what is wrong\n    {TEXT}\n{' ' * 29}^\n  What to do."
    assert str(SpecError("E103", "what is wrong")) == "E103: what is wrong"
    assert str(SpecError("E103", "what", advice="Do.")) == "E103: what\n  Do."
    assert str(SpecError("E103", "what", text=TEXT)) == "E103: what"  # no place, no line


@pytest.mark.parametrize("cls", classes())
def test_errors_travel_between_processes(cls):
    error = cls("E103", "what", advice="Do.", text=TEXT, span=(25, 26))
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(twin) is cls
        assert str(twin) == str(error)
        assert (twin.code, twin.what, twin.advice) == ("E103", "what", "Do.")


@pytest.mark.parametrize(
    ("text", "span", "shown"),
    [
        ("abc", (0, 3), "    abc\n    ^^^"),
        ("abc", (3, 4), "    abc\n       ^"),  # after the end
        ("abc", (1, 1), "    abc\n     ^"),  # an empty span is one caret
        ("abc", (7, 9), "    abc\n       ^"),  # outside: the end
        ("one\ntwo\nthree", (4, 7), "    two\n    ^^^"),
        ("one\ntwo\nthree", (5, 12), "    two\n     ^^"),  # a span ends with its line
        ("\ta b", (3, 4), "     a b\n       ^"),  # a tab is one column
        ("", (0, 1), "    \n    ^"),
    ],
)
def test_carets(text, span, shown):
    assert render(text, span) == shown


@pytest.mark.parametrize("at", [0, 10, 90, 95, 96, 100, 250, 299])
def test_the_caret_of_a_long_line_stands_under_its_character(at):
    text = "".join(chr(0x4E00 + n) for n in range(300))  # every character is another
    line, caret = render(text, (at, at + 1)).splitlines()
    assert line[caret.index("^")] == text[at]
    assert len(line) <= 4 + 96 + 6


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: LORA.bind(SIZES, r=0),
            "E206: rank r=0 is not a positive integer\n  Give a rank of at least 1.",
        ),
        (
            lambda: LORA.bind(SIZES, rank=-1),
            "E206: rank rank=-1 is not a positive integer\n  Give a rank of at least 1.",
        ),
        (
            lambda: LORA.bind(SIZES, ranks={"r": 1.5}),
            "E206: rank r=1.5 is not a positive integer\n  Give a rank of at least 1.",
        ),
        (
            lambda: LORA.bind(SIZES, ranks={"q": 2}),
            "E201: ranks names 'q', no bond of W[out in] = B[out r] A[r in]\n  The bonds are r.",
        ),
        (
            lambda: LORA.bind(SIZES, r=2, params=100),
            "E208: ranks (r=2) and a parameter budget are both given\n"
            "  Give the ranks or the budget.",
        ),
        (
            lambda: tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros", "A": "zeros"}),
            "E303: every gradient is zero at the start of W[out in] = B[out r] A[r in]: "
            "B, A at zero\n"
            "  Start exactly one trained core of a term at zero, and let it stand there once.",
        ),
        (
            lambda: tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"}, frozen="B"),
            "E303: every gradient is zero at the start of W[out in] = B[out r] A[r in]: B at zero\n"
            "  Start exactly one trained core of a term at zero, and let it stand there once.",
        ),
        (
            lambda: tl.family("W[out in] = B[out r] A[r in]"),
            "E304: no core of W[out in] = B[out r] A[r in] starts at zero: "
            "the model would change before training\n"
            "  Write starts_nonzero=True if you mean it, "
            "or start one core at zero: init={'B': 'zeros'}.",
        ),
        (
            lambda: tl.family("W[out in] = B[out r] A[r in] + C[out in]", init={"B": "zeros"}),
            "E304: no core of term 2, C[out in], starts at zero: "
            "the model would change before training\n"
            "  Write starts_nonzero=True if you mean it, "
            "or start one core at zero: init={'C': 'zeros'}.",
        ),
        (
            lambda: tl.family("W[out in] = B[out r] A[r in]", init={"b": "zeros"}),
            "E301: init names 'b', no core of W[out in] = B[out r] A[r in]\n"
            "  Did you mean 'B'? The cores are B, A.",
        ),
        (
            lambda: tl.family("W[out in] = B[out r] A[r in]", init={"B": "zero"}),
            "E302: unknown initialisation rule 'zero'\n"
            "  Did you mean zeros? Rules: zeros, ones, mean, eye, const, normal, uniform, "
            "kaiming, xavier, orthogonal, circulant, cos, sin, copy(CORE).",
        ),
        (
            lambda: tl.Family.from_json({**LORA.to_json(), "schema": 9}),
            "E601: family JSON has schema 9; this release reads schema 1\n"
            "  Write it again with this release, or read it with the release that wrote it.",
        ),
        (
            lambda: tl.Family.from_json({**LORA.to_json(), "colour": "red"}),
            "E602: family JSON has unknown keys colour\n"
            "  The keys are aliases, dropout, equation, evaluated, frozen, init, lr, name, notes, "
            "ranks, repository, scale, schema, source, start, starts_nonzero, summary.",
        ),
    ],
)
def test_errors_of_families(call, text):
    with pytest.raises(TensloraError) as info:
        call()
    assert str(info.value) == text


def test_a_rank_above_its_mode_is_a_warning():
    with pytest.warns(RedundantRankWarning) as record:
        bound = LORA.bind(SIZES, r=7)
    assert [str(w.message) for w in record] == [
        "W201: rank r=7 is above 6, all that its mode can carry in W[out in] = B[out r] A[r in]: "
        "the extra parameters are redundant. Lower it to 6."
    ]
    assert record[0].filename == __file__  # it points at the caller
    assert bound.ranks == {"r": 7}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LORA.bind(SIZES, r=6)
