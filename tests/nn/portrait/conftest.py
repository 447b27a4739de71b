"""Adapters with values drawn at random, and their dense updates by numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import tenslora as tl


class Plain(nn.Module):
    """Layers of named projections."""

    def __init__(self, depth: int, out: dict[str, int], width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(width, rows) for name, rows in out.items()})
            for _ in range(depth)
        )


@pytest.fixture
def attached():
    """Attach a family to a small model, with values drawn from a seed."""

    def make(family, *, depth=3, out=None, width=6, seed=0, **settings):
        model = Plain(depth, out or {"q": 8, "k": 8}, width)
        given = {"ranks": 2, **settings}
        adapter = tl.attach(model, family, targets="all-linear", **given)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for core in adapter.parameters():
                core.copy_(torch.randn(core.shape, generator=generator))
        return adapter

    return make


@pytest.fixture
def dense():
    """The updates of an adapter as numpy arrays, one a site, as merging would add them."""

    def make(adapter):
        with torch.no_grad():
            return {site.path: adapter.delta(site).double().numpy() for site in adapter.sites}

    return make


@pytest.fixture
def unfolded():
    """Singular values of an array along one axis, by numpy alone."""

    def values(array, axis):
        matrix = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
        found = np.linalg.svd(matrix, compute_uv=False)
        return np.pad(found, (0, array.shape[axis] - len(found)))

    return values
