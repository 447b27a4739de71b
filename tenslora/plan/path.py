"""The cheapest order of pairwise contractions, found exactly by opt_einsum."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tenslora.plan.cost import Profile, entries, pair_flops

__all__ = ["best_order", "order_cost"]


def best_order(
    inputs: Sequence[Collection[str]],
    output: Collection[str],
    sizes: Mapping[str, int],
    profile: Profile,
    trained: Sequence[bool],
) -> list[tuple[int, int]]:
    """Find the order of contraction with the least cost in training.

    A step costs its FLOPs and the writing and reading of its result, in the profile's weights; once
    for the forward and once more for each side that needs a gradient. Inputs are read and the
    output is written once in any order, so they do not count. The search is exact: outer products
    and indices in any number of inputs are included.

    Parameters
    ----------
    inputs : the indices of each array, each index in two arrays or in the output.
    output : the indices of the result.
    sizes : the size of each index.
    profile : the machine.
    trained : whether each input needs a gradient.

    Returns
    -------
    list of (int, int)
        Pairs to contract. Inputs are numbered from 0; each step's result has the next number.

    Examples
    --------
    >>> from tenslora.plan.cost import CPU
    >>> sizes = {"n": 512, "i": 64, "r": 4, "o": 64}
    >>> best_order([("o", "r"), ("r", "i"), ("n", "i")], ("n", "o"), sizes, CPU, [True] * 3)
    [(1, 2), (0, 3)]
    """
    if len(inputs) < 2:
        return []
    from opt_einsum.paths import DynamicProgramming, linear_to_ssa

    minimize = _cost_rule(inputs, output, sizes, profile, trained)
    search = DynamicProgramming(minimize=minimize, cost_cap=False, search_outer=True)
    linear = search([frozenset(i) for i in inputs], frozenset(output), dict(sizes))
    return [(min(pair), max(pair)) for pair in linear_to_ssa(linear)]


def order_cost(
    order: Sequence[tuple[int, int]],
    inputs: Sequence[Collection[str]],
    output: Collection[str],
    sizes: Mapping[str, int],
    profile: Profile,
    trained: Sequence[bool],
    *,
    last: bool = False,
) -> float:
    """What an order costs, by the rule that :func:`best_order` minimises.

    ``last`` counts the writing and reading of the output too: it is not the end of a computation.

    Examples
    --------
    >>> from tenslora.plan.cost import CPU
    >>> sizes = {"o": 3, "r": 2, "i": 5}
    >>> order_cost([(0, 1)], [("o", "r"), ("r", "i")], ("o", "i"), sizes, CPU, [True, True])
    180.0
    """
    weight = 2 * profile.itemsize * profile.flops_per_byte
    held = [frozenset(i) for i in inputs]
    needed = list(trained)
    left = set(range(len(held)))
    cost: float = 0
    for n, (one, two) in enumerate(order):
        left -= {one, two}
        later = frozenset(output).union(*(held[k] for k in left))
        kept = (held[one] | held[two]) & later
        flops = pair_flops(held[one], held[two], kept, sizes)
        written = 0 if n == len(order) - 1 and not last else entries(kept, sizes)
        cost += (1 + needed[one] + needed[two]) * (flops + weight * written)
        held.append(kept)
        needed.append(needed[one] or needed[two])
        left.add(len(held) - 1)
    return cost


def _cost_rule(
    inputs: Sequence[Collection[str]],
    output: Collection[str],
    sizes: Mapping[str, int],
    profile: Profile,
    trained: Sequence[bool],
) -> Callable[..., None]:
    """Make the cost function that opt_einsum's search calls for each pair of partial results.

    Its arguments are those of ``opt_einsum.paths._dp_compare_flops`` in 3.4: no stable interface,
    so a test keeps them in step.
    """
    mask = sum(1 << n for n, needed in enumerate(trained) if needed)
    weight = 2 * profile.itemsize * profile.flops_per_byte

    def compare(
        cost1: float,
        cost2: float,
        union: frozenset[int],
        size_list: Sequence[int],
        cost_cap: float,
        s1: int,
        s2: int,
        found: dict[int, Any],
        group: int,
        every: int,
        arrays: Sequence[frozenset[int]],
        shared: frozenset[int],
        memory_limit: int | None,
        contract1: Any,
        contract2: Any,
    ) -> None:
        both = s1 | s2
        rest = group & (every ^ both)
        later: set[int] = set()
        for n, array in enumerate(arrays):
            if rest >> n & 1:
                later |= array
        summed = shared - later
        kept = union - summed
        size = math.prod([size_list[i] for i in kept])
        flops = size * math.prod([size_list[i] for i in summed]) * (2 if summed else 1)
        last = both == group
        passes = 1 + bool(s1 & mask) + bool(s2 & mask)
        cost = cost1 + cost2 + passes * (flops + (0 if last else weight * size))
        if both not in found or cost < found[both][1]:
            found[both] = (frozenset(kept), cost, (contract1, contract2))

    return compare
