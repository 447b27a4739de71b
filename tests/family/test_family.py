"""Families: settings are checked against the equation, and a start that cannot train is refused."""

from __future__ import annotations

import json

import pytest

import tenslora as tl
from tenslora.errors import FamilyError, SizeError, SpecError, StateError

EQUATION = "W[out in] = B[out r] A[r in]"
LORA = tl.family(EQUATION, init={"B": "zeros"}, scale="alpha/r", name="test.tied")


def refused(error, code, call, *parts):
    with pytest.raises(error) as info:
        call()
    assert info.value.code == code
    for part in parts:
        assert part in str(info.value)


def test_defaults():
    assert str(LORA.init["A"]) == "kaiming"
    assert LORA.frozen == frozenset()
    assert LORA.equation == EQUATION


@pytest.mark.parametrize(
    ("settings", "code", "parts"),
    [
        ({"init": {"b": "zeros"}}, "E301", ["init names 'b'", "Did you mean 'B'?"]),
        ({"init": "zeros"}, "E301", ["init is 'zeros', not a mapping", "init={'B': 'zeros'}."]),
        ({"lr": 2.0}, "E301", ["lr={'B': 2.0}."]),
        ({"lr": 0.0}, "E301", ["lr is 0.0, not", "lr={'B': 2.0}."]),
        ({"init": [("B", "zeros")]}, "E301", ["init={'B': 'zeros'}."]),
        ({"dropout": 0.1}, "E308", ["dropout is 0.1"]),
        ({"frozen": 1}, "E301", ["frozen is 1, no names", "frozen=['B']."]),
        ({"frozen": {"A": False}}, "E301", ["frozen is {'A': False}"]),
        ({"frozen": ["Q"]}, "E301", ["The cores are B, A."]),
        ({"init": {"B": "zeros"}, "lr": {"B": 0}}, "E301", ["not a positive number"]),
        ({"init": {"B": "zero"}}, "E302", ["Did you mean zeros?"]),
        ({"init": {"B": "zeros", "A": "zeros"}}, "E303", ["every gradient is zero", "B, A"]),
        ({"init": {"B": "zeros"}, "frozen": ["B"]}, "E303", ["Start exactly one trained core"]),
        ({}, "E304", ["would change before training", "init={'B': 'zeros'}"]),
        ({"init": {"B": "zeros"}, "scale": "alpha/q"}, "E305", ["The bonds are: r."]),
        ({"init": {"B": "zeros"}, "scale": "constant(x)"}, "E305", ["unknown scale rule"]),
        ({"init": {"B": "zeros"}, "dropout": {"input": 1.0}}, "E308", ["below 1"]),
        ({"init": {"B": "zeros"}, "dropout": {"r": 0.1}}, "E308", ["dropout 'r'"]),
    ],
)
def test_wrong_settings(settings, code, parts):
    refused(FamilyError, code, lambda: tl.family(EQUATION, **settings), *parts)


def test_a_zero_core_that_stands_twice_never_moves():
    text = "W[out in] = A[out in] A[out in]"
    refused(FamilyError, "E303", lambda: tl.family(text, init={"A": "zeros"}))


def test_a_nonzero_start_has_to_be_meant():
    made = tl.family(EQUATION, starts_nonzero=True)
    assert made.starts_nonzero


def test_every_term_has_to_be_zero():
    text = "W[out in] = B[out r] A[r in] + D[out in]"
    refused(FamilyError, "E304", lambda: tl.family(text, init={"B": "zeros"}), "term 2, D[out in],")
    tl.family(text, init={"B": "zeros", "D": "zeros"})


MINUS = "W[out in] = B[out r] A[r in] + N[out r] M[r in]"
COPIES = {"B": "xavier", "A": "xavier", "N": "-copy(B)", "M": "copy(A)"}


def test_terms_may_take_each_other_away_at_the_start():
    made = tl.family(MINUS, init=COPIES, frozen=["N", "M"])
    assert not made.starts_nonzero
    assert tl.rename(made, B="X").init["N"].of == "X"
    assert tl.Family.from_json(made.to_json()) == made
    twice = made + made
    assert [str(twice.init[core]) for core in ("N", "N2")] == ["-copy(B)", "-copy(B2)"]


@pytest.mark.parametrize(
    ("change", "frozen", "code"),
    [
        ({"N": "copy(B)"}, ["N", "M"], "E304"),
        ({"M": "-copy(A)"}, ["N", "M"], "E304"),
        ({"M": "xavier"}, ["N", "M"], "E304"),
        ({}, ["B", "A", "N", "M"], "E303"),
    ],
)
def test_what_does_not_cancel_or_cannot_train(change, frozen, code):
    refused(FamilyError, code, lambda: tl.family(MINUS, init={**COPIES, **change}, frozen=frozen))


def test_a_scale_over_the_inputs_features():
    made = tl.family(EQUATION, init={"B": "zeros"}, scale="1/in")
    assert str(made.scale) == "1/in"
    assert tl.Family.from_json(made.to_json()) == made
    assert (0.5 * made).bind({"in": 4, "out": 3}, r=2).scale == 0.125
    refused(FamilyError, "E310", lambda: made.T, "which becomes the output")
    refused(FamilyError, "E310", lambda: tl.hadamard(made, LORA))


@pytest.mark.parametrize(
    ("scale", "alpha", "factor"),
    [
        ("constant", None, 1.0),
        ("constant(0.5)", None, 0.5),
        ("constant(0.5)", 3, 3.0),
        ("alpha/r", 16, 2.0),
        ("alpha/r", None, 1.0),
        ("alpha/sqrt(r)", 16, 16 / 8**0.5),
        ("1/in", None, 1 / 20),
        ("3.0/in", 2, 6 / 20),
    ],
)
def test_scale(scale, alpha, factor):
    made = tl.family(EQUATION, init={"B": "zeros"}, scale=scale)
    assert made.bind({"in": 20, "out": 10}, r=8, alpha=alpha).scale == pytest.approx(factor)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), "2", True])
def test_wrong_alpha(alpha):
    call = lambda: LORA.bind({"in": 20, "out": 10}, r=8, alpha=alpha)  # noqa: E731
    refused(FamilyError, "E305", call)


def test_json_round_trip():
    rich = tl.family(
        EQUATION,
        init={"B": "zeros", "A": "normal(0.02)"},
        frozen=["A"],
        scale="alpha/sqrt(r)",
        dropout={"input": 0.1},
        lr={"B": 16},
        ranks={"r": 8},
        name="mine",
        aliases=["also_mine"],
        source="here",
        summary="a test",
        repository="someone/something",
        evaluated="a model",
        notes="read twice",
    )
    assert tl.Family.from_json(json.loads(json.dumps(rich.to_json()))) == rich


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"schema": 2}, "E601"),
        ({"schema": True}, "E601"),
        ({"surprise": 1}, "E602"),
        ({"init": []}, "E603"),
        ({"ranks": {"r": 0}}, "E206"),
        ({"equation": "W[out in] = "}, "E102"),
    ],
)
def test_wrong_json(change, code):
    with pytest.raises((StateError, SizeError, SpecError)) as info:
        tl.Family.from_json({**LORA.to_json(), **change})
    assert info.value.code == code


def test_missing_json_key():
    data = LORA.to_json()
    del data["init"]
    refused(StateError, "E602", lambda: tl.Family.from_json(data), "missing keys init")
    refused(StateError, "E603", lambda: tl.Family.from_json([]))


def test_default_ranks():
    assert dict(LORA(r=8).ranks) == {"r": 8}
    assert LORA(r=8).bind({"in": 20, "out": 10}).ranks == {"r": 8}
    assert LORA(r=8).bind({"in": 20, "out": 10}, r=2).ranks == {"r": 2}
    refused(SizeError, "E201", lambda: LORA(s=8), "The bonds are r.")
    refused(SizeError, "E206", lambda: LORA(r=-1))


def test_registry():
    mine = tl.family(EQUATION, init={"B": "zeros"}, name="test.registry", aliases=["test.alias"])
    assert tl.register(mine) is mine
    assert tl.register(mine) is mine  # twice the same is no conflict
    assert tl.resolve("test.alias") is mine
    assert "test.registry" in tl.registered()
    other = tl.family("W[out in] = D[out in]", init={"D": "zeros"}, name="test.registry")
    refused(FamilyError, "E307", lambda: tl.register(other))
    refused(FamilyError, "E306", lambda: tl.register(tl.family(EQUATION, init={"B": "zeros"})))
    refused(FamilyError, "E306", lambda: tl.resolve("lorra"), "Did you mean lora")
    refused(FamilyError, "E306", lambda: tl.resolve(3))
    assert tl.resolve(mine) is mine


def test_an_equation_resolves_with_its_first_core_at_zero():
    made = tl.resolve(EQUATION)
    assert str(made.init["B"]) == "zeros"
    squared = "W[out in] = A[out in] A[out in]"
    refused(FamilyError, "E303", lambda: tl.resolve(squared))
    assert tl.resolve(squared, any_start=True).equation == squared


def test_ranks_may_follow_a_name_or_an_equation():
    assert dict(tl.resolve("lora:8").ranks) == {"r": 8}
    assert dict(tl.resolve("tenslora.qkv:a=22, b=20").ranks) == {"a": 22, "b": 20}
    assert dict(tl.resolve(f"{EQUATION}:4").ranks) == {"r": 4}
    for text in ("lora:", "lora:x", "lora:r=", "lora:=3"):
        refused(SizeError, "E206", lambda text=text: tl.resolve(text), "cannot be read")
    refused(SizeError, "E206", lambda: tl.resolve("lora:0"), "at least 1")
    refused(SizeError, "E201", lambda: tl.resolve("lora:q=3"), "The bonds are r.")
