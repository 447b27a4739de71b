"""An equation with every size, as arrays to be found: its value, its parts, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tenslora.decompose.contraction import Array, Operand, contract
from tenslora.plan.operands import operands_of
from tenslora.spec import Network, core_shape

__all__ = ["Arrays", "Problem"]

#: An array for each core, one axis a slot.
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Factor:
    """Where a core stands in a term: its indices, groups taken apart."""

    name: str
    indices: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Problem:
    """Find the trained cores whose W comes closest to ``target``.

    Attributes
    ----------
    network : the equation.
    sizes : the size of every index.
    target : what is to be met, one axis for each index of the network's target.
    fixed : the cores that are given.
    """

    network: Network
    sizes: Mapping[str, int]
    target: Array
    fixed: Arrays

    @cached_property
    def indices(self) -> tuple[str, ...]:
        """The indices of the target, one an axis."""
        return self.network.target.indices

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each trained core."""
        return {
            name: core_shape(core, self.sizes)
            for name, core in self.network.cores.items()
            if name not in self.fixed
        }

    @cached_property
    def norm(self) -> float:
        """The Frobenius norm of the target."""
        return float(np.linalg.norm(self.target))

    @cached_property
    def _parsed(self) -> tuple[tuple[tuple[Factor, ...], ...], dict[str, Array]]:
        """The terms without the constants that can be removed, and the others as arrays."""
        terms, constants = [], {}
        for t, term in enumerate(self.network.terms):
            factors = []
            for n, operand in enumerate(operands_of(self.network, term)):
                name = operand.name
                if operand.is_constant:
                    name = f"{operand.name}#{t}.{n}"  # no name of the language
                    shape = tuple(math.prod(self.sizes[i] for i in s) for s in operand.slots)
                    constants[name] = _constant(operand.name, shape)
                factors.append(Factor(name, operand.indices))
            terms.append(tuple(factors))
        return tuple(terms), constants

    @property
    def terms(self) -> tuple[tuple[Factor, ...], ...]:
        """The factors of each term."""
        return self._parsed[0]

    def operand(self, factor: Factor, cores: Arrays) -> Operand:
        """The array of a factor, one axis an index."""
        name = factor.name
        held = self._parsed[1].get(name)
        if held is None:
            held = self.fixed[name] if name in self.fixed else cores[name]
        return held.reshape([self.sizes[i] for i in factor.indices]), factor.indices

    def operands(self, term: int, cores: Arrays, without: int = -1) -> list[Operand]:
        """The operands of a term, but the one at the place ``without``."""
        factors = self.terms[term]
        return [self.operand(f, cores) for n, f in enumerate(factors) if n != without]

    def value(self, cores: Arrays) -> Array:
        """Return W, one axis an index of the target."""
        total = np.zeros(self.target.shape)
        for term in range(len(self.terms)):
            total += contract(self.operands(term, cores), self.indices, self.sizes)
        return total

    def residual(self, cores: Arrays) -> Array:
        """Return the target less W."""
        return self.target - self.value(cores)

    def error(self, cores: Arrays) -> float:
        """The norm of the residual over that of the target."""
        return relative(float(np.linalg.norm(self.residual(cores))), self.norm)

    def gradient(self, cores: Arrays, weights: Array, names: Sequence[str]) -> dict[str, Array]:
        """Differentiate ``sum(weights * W)`` with respect to the cores of these names."""
        found = {name: np.zeros(self.shapes[name]) for name in names}
        for t, factors in enumerate(self.terms):
            for n, factor in enumerate(factors):
                if factor.name in found:
                    others = [(weights, self.indices), *self.operands(t, cores, n)]
                    part = contract(others, factor.indices, self.sizes)
                    found[factor.name] += part.reshape(self.shapes[factor.name])
        return found


def relative(distance: float, norm: float) -> float:
    """Return a distance over a norm; nothing missing of nothing is 0."""
    if norm > 0.0:
        return distance / norm
    return 0.0 if distance == 0.0 else math.inf


def _constant(name: str, shape: tuple[int, ...]) -> Array:
    if name == "ones" or not shape:
        return np.ones(shape)
    places = np.indices(shape)
    return np.asarray((places == places[0]).all(axis=0), dtype=np.float64)
