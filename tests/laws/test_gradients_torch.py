"""Laws 4 and 6 on torch: the same numbers, and gradients that are those of the equation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenslora.testing import bounds, law_contraction, law_gradients

pytest.importorskip("torch", reason="autograd needs torch, which is not installed")


@given(bounds(), st.integers(0, 2**32 - 1))
def test_gradients_of_random_equations(bound, seed):
    law_gradients(bound, seed=seed)


def test_gradients(bound):
    law_gradients(bound)


@settings(max_examples=max(1, settings().max_examples // 2))
@given(bounds())
def test_random_equations_on_torch(bound):
    law_contraction(bound, plan=bound.plan(shared=bound.network.sites), backend="torch")


def test_contraction_on_torch(bound):
    law_contraction(bound, plan=bound.plan(tokens=4), backend="torch")
