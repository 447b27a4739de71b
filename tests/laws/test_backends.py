"""Law 9: numpy, torch and jax agree."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenslora.testing import bounds, law_backends

# jax compiles each equation: a random one takes it a third of a second.
FEW = settings(max_examples=max(1, settings().max_examples // 5))


@pytest.fixture(params=["numpy", "torch", "jax"], scope="module")
def backend(request):
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    return request.param


@FEW
@given(bounds(), st.integers(0, 2**32 - 1))
def test_random_equations(backend, bound, seed):
    law_backends(bound, backends=[backend], seed=seed)


def test_equations(backend, bound):
    law_backends(bound, backends=[backend])
