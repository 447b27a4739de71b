"""Ranks that a spectrum suggests for a budget, against every other choice within it."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

import tenslora as tl
from tenslora.decompose import fit, suggest_ranks
from tenslora.errors import FitError, SizeError

TUCKER = "tenslora.qkv_depth"
SIZES = {"layer": 3, "proj": 2, "out": 5, "in": 6}


def uneven(seed):
    """Updates whose rows fall off fast and whose columns hardly do."""
    generator = np.random.default_rng(seed)
    array = generator.standard_normal((3, 2, 5, 6))
    return array * (0.3 ** np.arange(5))[:, None] * 0.9 ** np.arange(3)[:, None, None, None]


@pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("params", [40, 70, 110])
def test_nearly_as_much_is_kept_as_by_the_best_of_all_ranks(seed, params):
    target = uneven(seed)
    ranks = suggest_ranks(TUCKER, target, params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no rank is redundant
        found = fit(TUCKER, target, ranks)
    assert found.parameters <= params
    every = itertools.product(range(1, 7), range(1, 6), range(1, 3), range(1, 4))
    best = 0.0
    for a, b, c, d in every:
        others = {"a": a, "b": b, "c": c, "d": d}
        bound = tl.resolve(TUCKER).bind(SIZES, ranks=others)
        if 0.8 * params <= bound.trainable_parameters <= params:
            best = max(best, fit(TUCKER, target, others, method="svd").energy)
    assert found.energy >= 0.97 * best


def test_more_is_kept_than_by_equal_ranks():
    target = uneven(0)
    equal = tl.ranks(TUCKER, SIZES, params=70)
    assert fit(TUCKER, target, suggest_ranks(TUCKER, target, 70)).energy > (
        fit(TUCKER, target, equal).energy + 0.01
    )


def test_a_budget_for_all_of_it_takes_no_more():
    target = np.diag([3.0, 2.0, 0.0, 0.0])[None, None]
    assert suggest_ranks("lora", target, 10_000) == {"r": 2}


def test_what_cannot_be_suggested():
    with pytest.raises(SizeError, match="E207: params=3 is below the smallest adapter"):
        suggest_ranks(TUCKER, uneven(0), 3)
    with pytest.raises(FitError, match="E903: the cores of lorta are no tree"):
        suggest_ranks("lorta", uneven(0), 100, sizes={"head": 5})
