"""Values for the cores of a family, and the W that the package makes of them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tenslora as tl
from tenslora import backends
from tenslora.errors import RedundantRankWarning


class Made:
    """A family at some sizes with random cores: ``core["A"]``, and their W as ``delta``."""

    def __init__(self, family, sizes, seed=0, **cores):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RedundantRankWarning)
            self.bound = tl.resolve(family).bind(sizes)
        rng = np.random.default_rng(seed)
        self.core = {n: rng.standard_normal(shape) for n, shape in self.bound.shapes.items()}
        for name, value in cores.items():
            assert np.shape(value) == self.bound.shapes[name], name
            self.core[name] = np.asarray(value, dtype=float)

    @property
    def delta(self):
        run = backends.executable(self.bound.plan(), backends.get("numpy"))
        return run.delta(self.core)


@pytest.fixture
def make():
    """Return ``Made``: make(family, sizes, seed=0, **values of cores)."""
    return Made
