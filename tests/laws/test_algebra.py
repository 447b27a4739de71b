"""Law 3: rewrites and operators keep W and mean what numpy says. Law 10: gauge."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenslora.testing import bounds, law_gauge, law_operators, law_rewrites, law_settings


@given(bounds(), st.integers(0, 2**32 - 1))
def test_random_equations_are_rewritten(bound, seed):
    law_rewrites(bound, seed=seed)


def test_equations_are_rewritten(bound):
    law_rewrites(bound)


@given(bounds(), st.integers(0, 2**32 - 1))
def test_operators_on_random_equations(bound, seed):
    law_operators(bound, seed=seed)


def test_operators(bound):
    law_operators(bound)


@given(bounds(), st.integers(0, 2**32 - 1))
def test_settings_of_random_families(bound, seed):
    law_settings(bound, seed=seed)


def test_settings(bound):
    law_settings(bound)


@given(bounds(), st.integers(0, 2**32 - 1))
def test_gauge_of_random_equations(bound, seed):
    law_gauge(bound, seed=seed)


def test_gauge(bound):
    law_gauge(bound)
