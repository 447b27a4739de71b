"""Independent problems for the sites that every core carries: each value has cores of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tenslora.decompose.contraction import Array
from tenslora.decompose.problem import Problem
from tenslora.spec import core_shape

__all__ = ["join", "take_apart"]


def take_apart(problem: Problem) -> tuple[Problem, ...]:
    """Split a problem by the sites that every core carries, in C order; one where there are none.

    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = B[layer out r] A[layer r in]")
    >>> sizes = {"layer": 3, "out": 2, "in": 2, "r": 1}
    >>> parts = take_apart(Problem(n, sizes, np.ones((3, 2, 2)), {}))
    >>> len(parts), parts[0].target.shape
    (3, (1, 2, 2))
    """
    network, sites = problem.network, _sites(problem)
    sizes = {**problem.sizes, **dict.fromkeys(sites, 1)}
    parts = []
    for place in _places(problem, sites):
        fixed = {}
        for name, array in problem.fixed.items():
            core = network.cores[name]
            whole = array.reshape([problem.sizes[i] for i in core.indices])
            fixed[name] = whole[_cut(core.indices, place)].reshape(core_shape(core, sizes))
        target = problem.target[_cut(problem.indices, place)]
        parts.append(Problem(network, sizes, target, fixed))
    return tuple(parts)


def join(problem: Problem, parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Put the cores of the parts together."""
    joined = {}
    for name, shape in problem.shapes.items():
        indices = problem.network.cores[name].indices
        whole = np.zeros([problem.sizes[i] for i in indices])
        for part, place in zip(parts, _places(problem, _sites(problem)), strict=True):
            cut = _cut(indices, place)
            whole[cut] = part[name].reshape(whole[cut].shape)
        joined[name] = whole.reshape(shape)
    return joined


def _sites(problem: Problem) -> tuple[str, ...]:
    """The independent sites, where an array stands in one place and no constant carries them."""
    cores = [core for term in problem.network.terms for core in term.cores]
    if sum(not core.is_constant for core in cores) > len(problem.network.cores):
        return ()
    constant = {i for core in cores if core.is_constant for i in core.indices}
    return tuple(s for s in problem.network.independent_sites if s not in constant)


def _places(problem: Problem, sites: Sequence[str]) -> Iterator[dict[str, int]]:
    for at in itertools.product(*(range(problem.sizes[site]) for site in sites)):
        yield dict(zip(sites, at, strict=True))


def _cut(indices: Sequence[str], place: Mapping[str, int]) -> tuple[slice, ...]:
    return tuple(slice(place[i], place[i] + 1) if i in place else slice(None) for i in indices)
