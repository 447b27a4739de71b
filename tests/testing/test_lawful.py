"""The laws hold for what is lawful, and find what is broken."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tenslora as tl
from tenslora.algebra import modify
from tenslora.backends import Executable
from tenslora.errors import SizeError
from tenslora.spec import Network
from tenslora.testing import (
    assert_lawful,
    law_backends,
    law_canonical,
    law_contraction,
    law_counts,
    law_derivatives,
    law_gauge,
    law_operators,
    law_rewrites,
    law_start,
    law_text,
    small_sizes,
)
from tenslora.testing.laws import rewriting

LORA = tl.family(
    "W[layer proj out in] = B[layer proj out r] A[layer r in]", init={"B": "zeros"}, name="mine"
)


def test_a_lawful_family_in_all_ways_to_name_it():
    assert_lawful(LORA)
    assert_lawful("lora", rank=2)
    assert_lawful("W[out in] = B[out r] A[r in]", {"in": 7}, out=3, r=1)


@pytest.mark.parametrize("names", [("x1", "x2"), ("y0", "y1"), ("x0", "x0_x")])
def test_names_that_the_laws_use_themselves(names):
    """A lawful family is lawful under any names of its own."""
    assert_lawful(tl.split("tenslora.att", "head", *names))


def test_names_of_the_other_network_of_a_law():
    assert_lawful("W[z Y X] = A[Y X]")


def test_default_ranks_are_kept():
    assert small_sizes(LORA, dict(LORA(r=3).ranks))["r"] == 3


@pytest.mark.parametrize(
    ("equation", "known", "expected"),
    [
        ("W[layer out in] = B[out r] A[r in]", {}, {"layer": 2, "out": 3, "in": 4, "r": 2}),
        ("W[out in] = B[out r] A[r s] C[s in]", {"rank": 5}, {"out": 2, "in": 3, "r": 5, "s": 5}),
        ("W[(a b) in] = B[a b in]", {"out": 6}, {"a": 2, "b": 3, "in": 3}),
        ("W[out in] = d[out] eye[out in]", {}, {"out": 2, "in": 2}),
        ("W[(a b) in] = d[a] eye[(a b) in]", {}, {"a": 1, "b": 1, "in": 1}),
        (
            "W[(a b) in] = d[a] eye[(a b) in]",
            dict(a=2, b=2, **{"in": 4}),
            {"a": 2, "b": 2, "in": 4},
        ),
    ],
)
def test_small_sizes_fit(equation, known, expected):
    family = tl.family(equation, starts_nonzero=True)
    assert small_sizes(family, known) == expected


def test_sizes_that_do_not_fit_are_an_error():
    with pytest.raises(SizeError, match="E201: 'colour' is no index"):
        assert_lawful(LORA, colour=3)


@pytest.fixture
def bound():
    return LORA.bind(layer=2, proj=3, out=4, r=2, **{"in": 3})


def test_what_a_failure_says(bound, monkeypatch):
    right = Executable.delta
    monkeypatch.setattr(Executable, "delta", lambda *a: right(*a) * 1.5)
    with pytest.raises(AssertionError) as info:
        law_contraction(bound)
    first, equation, sizes = str(info.value).splitlines()
    assert first.startswith("law 4 does not hold: delta (x shared over no site, 1 tokens, cpu): ")
    assert "of 72 entries differ" in first
    assert equation == "  mine: W[layer proj out in] = B[layer proj out r] A[layer r in]"
    assert sizes == "  layer=2 proj=3 out=4 in=3 r=2"


def scaled(method, factor):
    return lambda *arguments: method(*arguments) * factor


@pytest.mark.parametrize(
    ("law", "owner", "name", "broken"),
    [
        (law_contraction, Executable, "apply", scaled(Executable.apply, 1.0 + 1e-9)),
        (law_contraction, Executable, "apply_stacked", scaled(Executable.apply_stacked, -1)),
        (law_derivatives, Executable, "delta", scaled(Executable.delta, 1.0 + 1e-6)),
        (law_gauge, Executable, "delta", scaled(Executable.delta, 1.0 + 1e-9)),
        (law_rewrites, rewriting, "normal_form", lambda n: n),
        (law_operators, modify, "untie", lambda n, site: n),
        (law_operators, modify, "tie", lambda n, site: n),
        (law_operators, modify, "transpose", lambda n: n),
        (law_backends, Executable, "delta", scaled(Executable.delta, 1.001)),
        (law_start, Executable, "delta", lambda *a: np.ones((2, 3, 4, 3))),
        (law_counts, tl.Bound, "frozen_parameters", property(lambda self: 1)),
        (law_canonical, Network, "canonical", lambda self: self),
        (law_text, Network, "__str__", lambda self: "W[out in] = A[out in]"),
    ],
)  # fmt: skip
def test_a_law_finds_what_is_broken(law, owner, name, broken, bound, monkeypatch):
    law(bound)
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError, match=r"^law \d+ does not hold"):
        law(bound)


def test_a_start_without_a_gradient_is_found(bound):
    dead = dataclasses.replace(
        bound.family, init={**bound.family.init, "A": bound.family.init["B"]}
    )
    with pytest.raises(AssertionError, match=r"law 8 .* every trained core \(B, A\) is zero"):
        law_start(dead.bind(bound.sizes))


def test_a_start_that_changes_the_model_is_found(bound):
    changed = dataclasses.replace(
        bound.family, init={**bound.family.init, "B": bound.family.init["A"]}
    )
    with pytest.raises(AssertionError, match="law 8 does not hold: W at the start"):
        law_start(changed.bind(bound.sizes))
