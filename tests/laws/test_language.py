"""Law 1: what is written is read back. Law 2: one canonical form."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenslora.testing import bounds, law_canonical, law_text


@given(bounds())
def test_random_equations_are_read_back(bound):
    law_text(bound)


def test_equations_are_read_back(bound):
    law_text(bound)


@given(bounds(), st.integers(0, 2**32 - 1))
def test_random_equations_have_one_canonical_form(bound, seed):
    law_canonical(bound, seed=seed)


def test_equations_have_one_canonical_form(bound):
    for seed in range(5):
        law_canonical(bound, seed=seed)
