"""The normal form of a site: x A B, with A and B computed for all sites at once.

The cores of a term are divided in two, as for the rank of W (:mod:`tenslora.plan.cut`): those of
the input make A, those of the output make B, and the bonds between the halves are the rank. Where
an index of the input and one of the output stand on one core no such division exists.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tenslora.plan.cost import entries
from tenslora.plan.operands import Operand, operands_of
from tenslora.plan.path import best_order, order_cost
from tenslora.plan.search import Names, Problem, make_part
from tenslora.plan.steps import Array, Part
from tenslora.spec import Term

__all__ = ["Factor", "Product", "find_product"]

#: Cores that may go to either half: beyond so many the divisions are too many to try.
_FREE = 10


@dataclass(frozen=True)
class Factor:
    """One term as a product of two matrices.

    Attributes
    ----------
    bonds : the indices between them, in the order of the rank's axis.
    first, second : how A (bonds, in) and B (bonds, out) are made, with the sites that each carries.
    """

    bonds: tuple[str, ...]
    first: Part
    second: Part


@dataclass(frozen=True)
class Product:
    """W at every site as A and B; the ranks of all terms are laid one behind the other.

    Attributes
    ----------
    factors : one a term.
    first_sites, second_sites : the site indices that A and B carry; those over which x varies come
        first.
    rank : of A and B.
    cost : of a step in training, in FLOPs of the profile, as :func:`tenslora.plan.path.order_cost`
        counts.
    """

    factors: tuple[Factor, ...]
    first_sites: tuple[str, ...]
    second_sites: tuple[str, ...]
    rank: int
    cost: float


def find_product(problem: Problem) -> Product | None:
    """Divide each term where it is cheapest; ``None`` where a term cannot be divided.

    Every division is tried, and for each the best order of both halves is searched for.
    """
    names = Names("p", problem.network)
    found = [_divide(problem, term, names) for term in problem.network.terms]
    factors, costs = [], []
    for division in found:
        if division is None:
            return None
        factors.append(division[0])
        costs.append(division[1])
    rank = sum(entries(factor.bonds, problem.sizes) for factor in factors)
    first, second = (
        _sites(problem, [getattr(factor, half) for factor in factors])
        for half in ("first", "second")
    )
    return Product(tuple(factors), first, second, rank, sum(costs))


def _sites(problem: Problem, parts: Sequence[Part]) -> tuple[str, ...]:
    held = {index for part in parts for index in part.result.indices}
    order = [*problem.varying(), *(s for s in problem.network.sites if s in problem.shared)]
    return tuple(site for site in order if site in held)


def _divide(problem: Problem, term: Term, names: Names) -> tuple[Factor, float] | None:
    network = problem.network
    operands = operands_of(network, term)
    arrays = [names.array(operand) for operand in operands]
    held = {index for array in arrays for index in array.indices}
    if not held.issuperset((*network.input, *network.output)):
        return None
    best: tuple[float, tuple[int, ...]] | None = None
    for inner in _divisions(problem, arrays):
        bound = _per_token(problem, arrays, inner)
        if best is None or bound < best[0]:
            cost = bound + sum(_half(problem, arrays, operands, inner))
            if best is None or cost < best[0]:
                best = cost, inner
    if best is None:
        return None
    cost, inner = best
    first = _make(problem, arrays, operands, inner, names)
    second = _make(problem, arrays, operands, _others(arrays, inner), names)
    leading = second if first.steps else first  # a core itself is not laid out anew
    cut = _cut(problem, arrays, inner)
    bonds = tuple(index for index in leading.result.indices if index in cut)
    return Factor(bonds, first, second), cost


def _divisions(problem: Problem, arrays: Sequence[Array]) -> Iterator[tuple[int, ...]]:
    """The sets of arrays that can make A: those of the input, and any that touch neither side."""
    inputs, outputs = set(problem.network.input), set(problem.network.output)
    there = [n for n, array in enumerate(arrays) if inputs.intersection(array.indices)]
    beyond = [n for n, array in enumerate(arrays) if outputs.intersection(array.indices)]
    free = [n for n in range(len(arrays)) if n not in there and n not in beyond]
    if set(there) & set(beyond) or not there or not beyond or len(free) > _FREE:
        return
    for count in range(len(free) + 1):
        for chosen in itertools.combinations(free, count):
            yield tuple(sorted((*there, *chosen)))


def _others(arrays: Sequence[Array], inner: Sequence[int]) -> tuple[int, ...]:
    return tuple(n for n in range(len(arrays)) if n not in inner)


def _indices(arrays: Sequence[Array], chosen: Sequence[int]) -> set[str]:
    return {index for n in chosen for index in arrays[n].indices}


def _cut(problem: Problem, arrays: Sequence[Array], inner: Sequence[int]) -> set[str]:
    """The indices between the halves, which are summed when A meets B at one site."""
    both = _indices(arrays, inner) & _indices(arrays, _others(arrays, inner))
    return both.difference(problem.network.sites)


def _kept(
    problem: Problem, arrays: Sequence[Array], chosen: Sequence[int], inner: Sequence[int]
) -> set[str]:
    target = set(problem.network.target.indices)
    held = _indices(arrays, chosen)
    return held & (target | _cut(problem, arrays, inner))


def _per_token(problem: Problem, arrays: Sequence[Array], inner: Sequence[int]) -> float:
    """The two products of every token, as :func:`tenslora.plan.path.order_cost` counts them."""
    network, sizes, profile = problem.network, problem.sizes, problem.profile
    varying = set(problem.varying())
    carried = _indices(arrays, inner)
    sites = {s for s in network.sites if s in varying or s in carried}
    every = {s for s in network.sites if s in varying or s in _indices(arrays, range(len(arrays)))}
    rank = entries(_cut(problem, arrays, inner), sizes)
    thin = problem.tokens * rank * entries(sites, sizes)
    wide = problem.tokens * rank * entries(every, sizes)
    first: float = 2 * thin * entries(network.input, sizes)
    first += 2 * profile.itemsize * profile.flops_per_byte * thin
    # x and, behind the first product, everything needs a gradient
    return 3 * first + 3 * 2 * wide * entries(network.output, sizes)


def _half(
    problem: Problem, arrays: Sequence[Array], operands: Sequence[Operand], inner: Sequence[int]
) -> Iterator[float]:
    for chosen in (inner, _others(arrays, inner)):
        inputs = [arrays[n].indices for n in chosen]
        kept = _kept(problem, arrays, chosen, inner)
        trained = [problem.trains(operands[n]) for n in chosen]
        order = best_order(inputs, kept, problem.sizes, problem.profile, trained)
        yield order_cost(order, inputs, kept, problem.sizes, problem.profile, trained, last=True)


def _make(
    problem: Problem,
    arrays: Sequence[Array],
    operands: Sequence[Operand],
    chosen: Sequence[int],
    names: Names,
) -> Part:
    kept = _kept(problem, arrays, chosen, chosen)
    inputs = [arrays[n].indices for n in chosen]
    trained = [problem.trains(operands[n]) for n in chosen]
    order = best_order(inputs, kept, problem.sizes, problem.profile, trained)
    return make_part(order, chosen, arrays, operands, kept, problem, names)
