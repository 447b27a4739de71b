"""Targets that a family can meet exactly, made from drawn cores by the definition."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pytest

import tenslora as tl
from tenslora.errors import RedundantRankWarning
from tenslora.family import Bound
from tenslora.testing.oracle import dense


@dataclass(frozen=True)
class Planted:
    bound: Bound
    cores: dict
    target: np.ndarray


@pytest.fixture
def plant():
    def make(family, sizes, ranks, seed=0) -> Planted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RedundantRankWarning)
            bound = tl.resolve(family).bind(sizes, ranks=ranks)
        generator = np.random.default_rng(seed)
        cores = {name: generator.standard_normal(s) for name, s in bound.shapes.items()}
        cores |= bound.arrays(0) if bound.family.frozen else {}
        cores |= {
            name: generator.standard_normal(bound.shapes[name])
            for name in bound.shapes
            if name not in bound.family.frozen
        }
        target = bound.scale * dense(bound.network, cores, bound.sizes)
        return Planted(bound, cores, target)

    return make
