"""Law 6, without autograd: derivatives by finite differences are those of the product rule."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenslora.testing import bounds, law_derivatives


@given(bounds(), st.integers(0, 2**32 - 1))
def test_random_equations(bound, seed):
    law_derivatives(bound, seed=seed)


def test_equations(bound):
    law_derivatives(bound)
