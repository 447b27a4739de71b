"""Ranks from a budget: counting, what a mode can carry, and the largest ranks that fit.

Pure integer arithmetic on networks and sizes; families call it through
:meth:`tenslora.family.Family.bind`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from tenslora.algebra.redundancy import rank_cap
from tenslora.errors import SizeError
from tenslora.spec import Network, slot_size

__all__ = ["count_parameters", "fit_ranks", "isorank"]


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
    (:func:`tenslora.algebra.redundancies`); then single ranks grow by one while they fit, the
    smallest first; last, one rank is lowered by one for another where that comes closer. This
    is the comparison at equal parameters of TensLoRA (arXiv 2509.19391).

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
        E207 where even rank 1 is over the budget, or where a bond joins frozen cores only, so that
        no number of trained parameters says how large it is.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = V[out b] D[layer c] G[b a c] U[in a]")
    >>> fit_ranks(n, {"layer": 2, "out": 64, "in": 64}, 1000)
    {'b': 7, 'c': 2, 'a': 7}
    """
    _refuse_frozen(network, frozen)
    search = _Search(network, sizes, params, frozen, maximum or {})
    smallest = isorank(network, 1)
    count = search.count(smallest)
    if count > params:
        what = f"params={params:,} is below the smallest adapter of {network}: {count:,}"
        raise SizeError("E207", what, advice="Raise the budget, or share a core over sites.")
    ranks = search.grow(smallest)
    closest = max(
        (tried for tried in (ranks, *_swaps(ranks)) if search.fits(tried)), key=search.count
    )
    return search.grow(closest)


def _refuse_frozen(network: Network, frozen: Collection[str]) -> None:
    cores = network.cores.items()
    trained = {index for name, core in cores if name not in frozen for index in core.indices}
    loose = [bond for bond in network.bonds if bond not in trained]
    if loose:
        what = f"rank {', '.join(loose)} stands on frozen cores only in {network}"
        advice = "A number of trained parameters says nothing about it: give ranks instead."
        raise SizeError("E207", what, advice=advice)


@dataclass(frozen=True)
class _Search:
    """What a choice of ranks has to keep to."""

    network: Network
    sizes: Mapping[str, int]
    params: int
    frozen: Collection[str]
    maximum: Mapping[str, int]

    def count(self, ranks: Mapping[str, int]) -> int:
        return count_parameters(self.network, {**self.sizes, **ranks}, self.frozen)[0]

    def fits(self, ranks: Mapping[str, int]) -> bool:
        return self.count(ranks) <= self.params and self.capped(ranks) == ranks

    def capped(self, wanted: Mapping[str, int]) -> dict[str, int]:
        """Lower ranks to what each can carry beside the others, and to its maximum."""
        ranks = {bond: min(rank, self.maximum.get(bond, rank)) for bond, rank in wanted.items()}
        changed = True
        while changed:
            changed = False
            for bond in ranks:
                cap = rank_cap(self.network, bond, {**self.sizes, **ranks})
                if cap is not None and ranks[bond] > cap:
                    ranks[bond], changed = cap, True
        return ranks

    def level(self, ranks: Mapping[str, int], bonds: Collection[str]) -> dict[str, int]:
        """Raise some ranks to one level, the highest that fits."""

        def at(rank: int) -> dict[str, int]:
            return self.capped({b: max(r, rank) if b in bonds else r for b, r in ranks.items()})

        return at(_largest(lambda rank: self.count(at(rank)) <= self.params, self.params))

    def grow(self, ranks: Mapping[str, int]) -> dict[str, int]:
        """Raise all ranks to one level, then those that can go on, until none can."""
        found = self.level(ranks, ranks)
        while True:
            raised = [{**found, bond: rank + 1} for bond, rank in sorted(found.items(), key=_rank)]
            possible = [tried for tried in raised if self.fits(tried)]
            if not possible:
                return found
            growing = [bond for tried in possible for bond in tried if tried[bond] > found[bond]]
            found = self.level(possible[0], growing)


def _rank(item: tuple[str, int]) -> int:
    return item[1]


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


def _swaps(ranks: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Every way of lowering one rank by one and raising another."""
    for less, more in itertools.permutations(ranks, 2):
        if ranks[less] > 1:
            yield {**ranks, less: ranks[less] - 1, more: ranks[more] + 1}
