"""Law 4: any order gives the same W; apply(x) is x @ W.T; stacked is site by site."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenslora.plan import Profile
from tenslora.testing import bounds, law_contraction


@given(bounds(), st.integers(0, 2**32 - 1))
def test_random_equations(bound, seed):
    law_contraction(bound, seed=seed)


def test_equations(bound):
    law_contraction(bound)


@given(bounds(), st.data())
def test_any_plan(bound, data):
    shared = data.draw(st.sets(st.sampled_from(bound.network.sites or ("",)))) - {""}
    tokens = data.draw(st.sampled_from([1, 2, 16, 4096, 10**9]))
    weight = data.draw(st.sampled_from([0.0, 1.0, 1e6]))
    profile = Profile("made up", weight, 1)
    plan = bound.plan(shared=tuple(shared), tokens=tokens, profile=profile)
    law_contraction(bound, plan=plan)
