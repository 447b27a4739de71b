"""A smaller problem with the same answer: features of a low-rank target in a basis of their span.

Where an index of the target stands on one trained core in the whole equation, the best core lies in
the span of the target along that index: the rest of the target is missed by every choice. So the
index may be written in an orthonormal basis of that span (as CANDELINC does for CP; Carroll et al.
1980), and the core turned back afterwards. Nothing is lost, and updates of LoRA adapters become
several times smaller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from tenslora.decompose.contraction import Array
from tenslora.decompose.problem import Arrays, Problem
from tenslora.spec import Network, core_shape

__all__ = ["Reduction", "reduce"]

_ROUNDING = 1e-13


class Reduction:
    """A problem, the smaller one, and the way back."""

    def __init__(self, whole: Problem, small: Problem, bases: Mapping[str, Array]) -> None:
        self.whole, self.small, self.bases = whole, small, dict(bases)

    def back(self, cores: Arrays) -> dict[str, Array]:
        """Return the cores of the whole problem for those of the small one."""
        return {name: self._turn(name, array) for name, array in cores.items()}

    def _turn(self, name: str, array: Array) -> Array:
        core = self.whole.network.cores[name]
        sizes = self.small.sizes
        array = array.reshape([sizes[i] for i in core.indices])
        for axis, index in enumerate(core.indices):
            if index in self.bases:
                array = np.moveaxis(np.tensordot(self.bases[index], array, (1, axis)), 0, axis)
        return array.reshape(core_shape(core, self.whole.sizes))


def reduce(problem: Problem) -> Reduction:
    """Write the target's indices in bases of their spans, where that makes them shorter."""
    target, bases = problem.target, {}
    for index in movable(problem.network, problem.fixed):
        axis = problem.indices.index(index)
        matrix = np.moveaxis(target, axis, 0).reshape(target.shape[axis], -1)
        if matrix.shape[0] < 2:
            continue
        basis = span(matrix)
        if basis.shape[1] < basis.shape[0]:
            bases[index] = basis
            target = np.moveaxis(np.tensordot(basis.T, target, (1, axis)), 0, axis)
    sizes = {**problem.sizes, **{index: b.shape[1] for index, b in bases.items()}}
    return Reduction(problem, Problem(problem.network, sizes, target, problem.fixed), bases)


def movable(network: Network, fixed: Arrays) -> tuple[str, ...]:
    """The indices of the target that stand on one trained core in each term, in its one place."""
    uses = Counter(core.name for term in network.terms for core in term.cores)

    def alone(index: str) -> bool:
        for term in network.terms:
            places = [core for core in term.cores if index in core.indices]
            if len(places) != 1 or places[0].is_constant:
                return False
            if places[0].name in fixed or uses[places[0].name] > 1:
                return False
        return True

    return tuple(filter(alone, network.target.indices))


def span(matrix: Array) -> Array:
    """An orthonormal basis of the columns, up to rounding."""
    rows, columns = matrix.shape
    if columns > rows:  # the triangle of the transpose has the same column space, and is small
        matrix = np.asarray(np.linalg.qr(matrix.T, mode="r")).T
    u, s, _ = np.linalg.svd(matrix, full_matrices=False)
    rank = int((s > _ROUNDING * max(float(s[0]), 1e-300)).sum())
    return np.ascontiguousarray(u[:, : max(1, rank)])
