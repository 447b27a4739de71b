"""Ranks from a budget: counting, what a mode can carry, and the largest ranks that fit.

Pure integer arithmetic on networks and sizes; families call it through
:meth:`tenslora.family.Family.bind`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from tenslora.errors import SizeError
from tenslora.spec import Core, Network, Term, slot_size

__all__ = ["count_parameters", "fit_ranks", "isorank", "rank_cap"]


def isorank(network: Network, rank: int) -> dict[str, int]:
    """Give every bond the same rank, as in the paper's comparison at equal rank.

    >>> from tenslora.spec import parse
    >>> isorank(parse("W[out in] = B[out s] G[s r] A[r in]"), 4)
    {'s': 4, 'r': 4}
    """
    return dict.fromkeys(network.bonds, rank)


def count_parameters(
    network: Network, sizes: Mapping[str, int], frozen: Collection[str] = frozenset()
) -> tuple[int, int]:
    """Count the entries of the trained and of the frozen cores.

    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out r] A[r in]")
    >>> count_parameters(n, {"out": 10, "in": 20, "r": 4}, frozen={"A"})
    (40, 80)
    """
    counts = {name: slot_size(core.indices, sizes) for name, core in network.cores.items()}
    still = sum(count for name, count in counts.items() if name in frozen)
    return sum(counts.values()) - still, still


def rank_cap(network: Network, bond: str, sizes: Mapping[str, int]) -> int | None:
    """The largest rank at which no parameter of a bond is redundant, as far as its ends tell.

    A bond joins two cores. Seen as a matrix from the bond to its other indices, either core has at
    most as many independent rows as those indices have values; target indices on both cores are
    fixed and do not count. Above that, the two cores could be replaced by smaller ones.

    Parameters
    ----------
    network : the equation.
    bond : the name of one of its bonds.
    sizes : the sizes of the target's indices, and the ranks that are known.

    Returns
    -------
    int or None
        ``None`` where nothing is known: the bond is in three cores or more (CP), or each end has
        an index without a size.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = B[layer out r] A[layer r in]")
    >>> rank_cap(n, "r", {"layer": 12, "out": 64, "in": 32})
    32
    """
    caps = [_cap_in(network, term, bond, sizes) for term in network.terms if bond in term.indices]
    known = [cap for cap in caps if cap is not None]
    return max(known) if known and len(known) == len(caps) else None


def _cap_in(network: Network, term: Term, bond: str, sizes: Mapping[str, int]) -> int | None:
    ends = [core for core in term.cores if bond in core.indices]
    if len(ends) != 2:
        return None
    target = set(network.target.indices)
    batch = target.intersection(*(core.indices for core in ends))
    found = [_carried(core, bond, batch, sizes) for core in ends]
    return min((cap for cap in found if cap is not None), default=None)


def _carried(core: Core, bond: str, batch: Collection[str], sizes: Mapping[str, int]) -> int | None:
    if core.name == "ones":
        return 1
    others = [index for index in core.indices if index != bond and index not in batch]
    if any(index not in sizes for index in others):
        return None
    if core.name == "eye":
        slots = [slot for slot in core.slots if bond not in slot]
        return slot_size(slots[0], sizes) if slots else None
    return math.prod(sizes[index] for index in others)


def fit_ranks(
    network: Network,
    sizes: Mapping[str, int],
    params: int,
    *,
    frozen: Collection[str] = frozenset(),
    maximum: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Choose the ranks whose trained parameters come close to a budget without going over.

    All ranks grow together as far as they fit, each only up to what its mode can carry
    (:func:`rank_cap`); then single ranks grow by one while they fit, the smallest first. This is
    the comparison at equal parameters of TensLoRA (arXiv 2509.19391).

    Parameters
    ----------
    network : the equation.
    sizes : the size of every index of the target.
    params : the budget, in trained parameters.
    frozen : cores that are not trained.
    maximum : ranks not to be passed, by bond.

    Returns
    -------
    dict
        A rank for each bond, in the equation's order.

    Raises
    ------
    SizeError
        E207 where even rank 1 is over the budget.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = V[out b] D[layer c] G[b a c] U[in a]")
    >>> fit_ranks(n, {"layer": 2, "out": 64, "in": 64}, 1000)
    {'b': 7, 'c': 2, 'a': 7}
    """
    limits = dict(maximum or {})

    def count(ranks: Mapping[str, int]) -> int:
        return count_parameters(network, {**sizes, **ranks}, frozen)[0]

    smallest = count(isorank(network, 1))
    if smallest > params:
        what = f"params={params:,} is below the smallest adapter of {network}: {smallest:,}"
        raise SizeError("E207", what, advice="Raise the budget, or share a core over sites.")
    if not network.bonds:
        return {}

    def together(rank: int) -> dict[str, int]:
        return _capped(network, sizes, rank, limits)

    ranks = together(_largest(lambda rank: count(together(rank)) <= params, params))
    grown = _next(network, sizes, ranks, limits, count, params)
    while grown is not None:
        ranks = grown
        grown = _next(network, sizes, ranks, limits, count, params)
    return ranks


def _largest(fits: Callable[[int], bool], highest: int) -> int:
    """The largest number from 1 to ``highest`` that fits; what fits is an interval from 1."""
    low, high = 1, 2
    while high <= highest and fits(high):
        low, high = high, 2 * high
    high = min(high, highest + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _capped(
    network: Network, sizes: Mapping[str, int], rank: int, limits: Mapping[str, int]
) -> dict[str, int]:
    """Every bond at ``rank``, lowered to what it can carry beside the other bonds."""
    ranks = {bond: min(rank, limits.get(bond, rank)) for bond in network.bonds}
    changed = True
    while changed:
        changed = False
        for bond in network.bonds:
            cap = rank_cap(network, bond, {**sizes, **ranks})
            if cap is not None and ranks[bond] > cap:
                ranks[bond], changed = cap, True
    return ranks


def _next(
    network: Network,
    sizes: Mapping[str, int],
    ranks: Mapping[str, int],
    limits: Mapping[str, int],
    count: Callable[[Mapping[str, int]], int],
    params: int,
) -> dict[str, int] | None:
    """Raise one rank by one, the smallest for which the result fits; ``None`` where none does."""
    spent = count(ranks)
    for bond in sorted(ranks, key=lambda name: ranks[name]):
        raised = {**ranks, bond: ranks[bond] + 1}
        cap = rank_cap(network, bond, {**sizes, **ranks})
        allowed = raised[bond] <= limits.get(bond, raised[bond])
        if allowed and (cap is None or raised[bond] <= cap) and spent < count(raised) <= params:
            return raised
    return None
