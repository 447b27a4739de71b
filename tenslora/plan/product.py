"""The normal form of a site: x A B, with A and B computed for all sites at once.

The cores of a term are divided in two, as for the rank of W (:mod:`tenslora.plan.cut`): those of
the input make A, those of the output make B, and the bonds between the halves are the rank. Where
an index of the input and one of the output stand on one core no such division exists.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from tenslora.plan.cost import entries
from tenslora.plan.operands import Operand, operands_of
from tenslora.plan.orient import Groups, orient_halves
from tenslora.plan.path import Contraction, Order, find_order, order_cost
from tenslora.plan.search import ROW, Names, Problem, make_part
from tenslora.plan.steps import Array, Part

__all__ = ["Factor", "Product", "find_product"]

#: Cores that may go to either half: beyond so many the divisions are too many to try.
_FREE = 10

#: What a division that keeps no x for its backward is taken to cost, in parts of its cost. The
#: count is too high there: the gradient that it reads for B is in the cache, and x would not be.
#: On LoRA-XS at width 768 the two take the same time, and the count differs by 8 to 17 %. At 16 and
#: 394 tokens and ranks of 4 to 64 there, 0.6 chooses as 0.8 does for every family of the catalogue
#: with a frozen core; 0.9 keeps x at a rank of 4 in LoRA-XS, TinyLoRA and CRAFT.
_WITHOUT_X = 0.8


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
    fixed : the part of the cost that does not grow with the tokens.
    """

    factors: tuple[Factor, ...]
    first_sites: tuple[str, ...]
    second_sites: tuple[str, ...]
    rank: int
    cost: float
    fixed: float


@dataclass(frozen=True)
class _Division:
    """Which arrays make A and which B, the order of each, and the cost."""

    inner: tuple[int, ...]
    first: Order
    second: Order
    cost: float
    fixed: float


def find_product(problem: Problem) -> Product | None:
    """Divide each term where it is cheapest; ``None`` where a term cannot be divided.

    Every division is tried, and for each the best order of both halves is searched for.
    """
    names = Names("p", problem.network)
    factors, cost, fixed = [], 0.0, 0.0
    for term in problem.network.terms:
        operands = operands_of(problem.network, term)
        arrays = [names.array(operand) for operand in operands]
        division = _divide(problem, arrays, operands)
        if division is None:
            return None
        factors.append(_factor(problem, arrays, operands, division, names))
        cost, fixed = cost + division.cost, fixed + division.fixed
    rank = sum(entries(factor.bonds, problem.sizes) for factor in factors)
    first, second = (
        _sites(problem, [getattr(factor, half) for factor in factors])
        for half in ("first", "second")
    )
    return Product(tuple(factors), first, second, rank, cost, fixed)


def _sites(problem: Problem, parts: Sequence[Part]) -> tuple[str, ...]:
    held = {index for part in parts for index in part.result.indices}
    return tuple(site for site in _ordered(problem) if site in held)


def _ordered(problem: Problem) -> list[str]:
    """All sites, those over which x varies first."""
    return [*problem.varying(), *(s for s in problem.network.sites if s in problem.shared)]


def _divide(
    problem: Problem, arrays: Sequence[Array], operands: Sequence[Operand]
) -> _Division | None:
    network = problem.network
    held = _indices(arrays, range(len(arrays)))
    if not held.issuperset((*network.input, *network.output)):
        return None
    best: _Division | None = None
    for inner in _divisions(problem, arrays):
        bound, fixed = _products(problem, arrays, operands, inner)
        if bound * _WITHOUT_X < (math.inf if best is None else best.cost):
            first, second = (
                _half(problem, arrays, operands, chosen, inner)
                for chosen in (inner, _others(arrays, inner))
            )
            if first is None or second is None:
                continue
            halves = first.cost + second.cost
            made = _Division(inner, first, second, bound + halves, fixed + halves)
            if best is None or _weighed(problem, operands, made) < _weighed(
                problem, operands, best
            ):
                best = made
    return best


def _weighed(problem: Problem, operands: Sequence[Operand], division: _Division) -> float:
    """The cost; less where A is frozen, for then x need not be kept."""
    kept = any(problem.trains(operands[n]) for n in division.inner)
    return division.cost if kept else division.cost * _WITHOUT_X


def _factor(
    problem: Problem,
    arrays: Sequence[Array],
    operands: Sequence[Operand],
    division: _Division,
    names: Names,
) -> Factor:
    inner, outer = division.inner, _others(arrays, division.inner)
    first, second = (
        make_part(order.pairs, chosen, arrays, operands, kept, problem, names)
        for order, chosen, kept in (
            (division.first, inner, _kept(problem, arrays, inner, inner)),
            (division.second, outer, _kept(problem, arrays, outer, inner)),
        )
    )
    wanted = partial(_wanted, problem, _cut(problem, arrays, inner))
    if first.steps:
        leading, first = orient_halves(second, first, wanted, problem.sizes)
        second = leading
    else:  # a core itself is not laid out anew
        leading, second = orient_halves(first, second, wanted, problem.sizes)
        first = leading
    return Factor(tuple(wanted(leading, leading)[1]), first, second)


def _wanted(problem: Problem, cut: Collection[str], leading: Part, part: Part) -> Groups:
    """How a half is laid out: sites, bonds as in ``leading``, features."""
    held = part.result.indices
    sites = [site for site in _ordered(problem) if site in held]
    features = (*problem.network.input, *problem.network.output)
    bonds = [index for index in leading.result.indices if index in cut]
    return sites, bonds, [index for index in features if index in held]


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


def _products(
    problem: Problem, arrays: Sequence[Array], operands: Sequence[Operand], inner: Sequence[int]
) -> tuple[float, float]:
    """What the products of x with A, and of that with B, cost, and what of it without any token.

    Infinite where the thin product goes beyond the limit on memory.
    """
    network, halves = problem.network, (inner, _others(arrays, inner))
    first, second = (_kept(problem, arrays, chosen, inner) for chosen in halves)
    trained = [any(problem.trains(operands[n]) for n in chosen) for chosen in halves]
    x = {ROW, *problem.varying(), *network.input}
    output = (first | second | x) - _cut(problem, arrays, inner) - set(network.input)
    sizes = {**problem.sizes, ROW: problem.tokens}
    limit = problem.memory_limit
    if limit is not None:
        thin = entries((first | x) - set(network.input), sizes)
        if thin * problem.profile.itemsize > limit:
            return math.inf, math.inf
    costs = []
    for tokens in (problem.tokens, 0):
        inputs = [first, second, x]
        products = Contraction(
            inputs, output, {**sizes, ROW: tokens}, [*trained, True], x=2, sites=network.sites
        )
        costs.append(order_cost(((0, 2), (1, 3)), products, problem.profile))
    return costs[0], costs[1]


def _half(
    problem: Problem,
    arrays: Sequence[Array],
    operands: Sequence[Operand],
    chosen: Sequence[int],
    inner: Sequence[int],
) -> Order | None:
    """The best order of the arrays of one half."""
    half = Contraction(
        inputs=[arrays[n].indices for n in chosen],
        output=_kept(problem, arrays, chosen, inner),
        sizes=problem.sizes,
        trained=[problem.trains(operands[n]) for n in chosen],
        bounded=len(chosen) > 1,
    )
    return find_order(half, problem.profile, problem.memory_limit)
