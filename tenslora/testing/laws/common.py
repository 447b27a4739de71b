"""What several laws need: sites, inputs and weights of a bound family, arrays of a backend."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tenslora.backends import Executable
from tenslora.family import Bound
from tenslora.spec import core_shape, slot_size

__all__ = ["arrays_of", "every_site", "inputs", "run_stages", "weights"]


def every_site(bound: Bound) -> Iterator[dict[str, int]]:
    """Every combination of positions on the site indices."""
    sites = bound.network.sites
    for position in itertools.product(*(range(bound.sizes[site]) for site in sites)):
        yield dict(zip(sites, position, strict=True))


def inputs(bound: Bound, tokens: int, seed: int) -> Any:
    """An x (tokens, in) of small whole numbers, in float64."""
    generator = np.random.default_rng((seed, 1))
    width = slot_size(bound.network.input, bound.sizes)
    return generator.integers(-3, 4, (tokens, width)).astype(float)


def weights(bound: Bound, seed: int) -> Any:
    """An array of the shape of W with no zero in it: what a loss multiplies W with."""
    generator = np.random.default_rng((seed, 2))
    shape = core_shape(bound.network.target, bound.sizes)
    return generator.integers(-3, 4, shape) + 0.5


def arrays_of(backend: str, arrays: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Copies of numpy arrays on a backend, in their own dtype as far as the backend has it."""
    if backend == "torch":
        import torch

        return {n: torch.tensor(a, **options) for n, a in arrays.items()}
    if backend == "jax":
        import jax.numpy

        return {n: jax.numpy.asarray(a, **options) for n, a in arrays.items()}
    return {n: np.array(a, **options) for n, a in arrays.items()}


def run_stages(run: Executable, unbound: Any, x: Any, site: Mapping[str, int]) -> Any:
    """What an adapter does at one site: every stage of every chain, one after the other."""
    total: Any = None
    for stages, tensors in zip(run.chains, run.pick(unbound, site), strict=True):
        h = x
        for stage, tensor in zip(stages, tensors, strict=True):
            h = stage(h, tensor)
        total = h if total is None else total + h
    return total
