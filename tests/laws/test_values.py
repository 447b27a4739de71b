"""Law 5: the formula counts what is allocated. Law 8: W is zero at the start, its gradient not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenslora.testing import bounds, law_counts, law_start


@given(bounds(), st.integers(0, 2**32 - 1))
def test_random_equations_are_counted(bound, seed):
    law_counts(bound, seed=seed)


def test_equations_are_counted(bound):
    law_counts(bound)


@given(bounds(), st.integers(0, 2**32 - 1))
def test_random_equations_start(bound, seed):
    law_start(bound, seed=seed)


def test_equations_start(bound):
    for seed in range(3):
        law_start(bound, seed=seed)
