"""An equation with every size, as arrays to be found: its value, its parts, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenslora.plan.operands import operands_of
from tenslora.spec import Network, core_shape

__all__ = ["Array", "Arrays", "Operand", "Problem", "contract"]

Array = NDArray[np.float64]
#: An array for each core, one axis a slot.
Arrays = Mapping[str, Array]
#: An array and the index of each of its axes.
Operand = tuple[Array, tuple[str, ...]]


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


def contract(operands: Sequence[Operand], output: Sequence[str], sizes: Mapping[str, int]) -> Array:
    """Multiply arrays and sum over the indices that the output does not have.

    An index of the output that no array carries is one over which the result is constant.

    >>> a, b = np.ones((2, 3)), np.ones((3, 4))
    >>> contract([(a, ("i", "r")), (b, ("r", "j"))], ("j", "k", "i"), {"k": 2, "i": 2}).shape
    (4, 2, 2)
    """
    operands = operands or [(np.ones(()), ())]
    held = {i for _, indices in operands for i in indices}
    kept = tuple(i for i in output if i in held)
    inputs = tuple(indices for _, indices in operands)
    shapes = tuple(array.shape for array, _ in operands)
    result = np.asarray(_expression(inputs, kept, shapes)(*(array for array, _ in operands)))
    if len(kept) < len(output):
        result = result.reshape([result.shape[kept.index(i)] if i in held else 1 for i in output])
        result = np.broadcast_to(
            result,
            [
                sizes.get(i, 1) if i not in held else n
                for i, n in zip(output, result.shape, strict=True)
            ],
        )
    return result


@lru_cache(maxsize=4096)
def _expression(
    inputs: tuple[tuple[str, ...], ...],
    output: tuple[str, ...],
    shapes: tuple[tuple[int, ...], ...],
) -> Any:
    from opt_einsum import contract_expression, get_symbol

    symbol: dict[str, str] = {}
    for indices in inputs:
        for index in indices:
            symbol.setdefault(index, get_symbol(len(symbol)))
    left = ",".join("".join(symbol[i] for i in indices) for indices in inputs)
    return contract_expression(f"{left}->{''.join(symbol[i] for i in output)}", *shapes)


def _constant(name: str, shape: tuple[int, ...]) -> Array:
    if name == "ones" or not shape:
        return np.ones(shape)
    places = np.indices(shape)
    return np.asarray((places == places[0]).all(axis=0), dtype=np.float64)
