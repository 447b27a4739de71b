"""Law 7: on a model of torch; merging and unmerging, saving and loading."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenslora.testing import bounds, law_adapter

pytest.importorskip("torch", reason="adapters need torch, which is not installed")
pytest.importorskip("safetensors", reason="checkpoints need safetensors, which is not installed")


@given(bounds(), st.integers(0, 2**32 - 1))
def test_random_equations(bound, seed):
    law_adapter(bound, seed=seed)


def test_equations(bound):
    law_adapter(bound)
