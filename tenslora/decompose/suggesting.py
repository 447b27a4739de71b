"""Ranks for a budget from what is in the updates, where the modes differ in what they hold."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tenslora.algebra.redundancy import rank_cap
from tenslora.budget import count_parameters, fit_ranks
from tenslora.decompose.checking import check_target, complete_from
from tenslora.decompose.contraction import Array
from tenslora.decompose.ranking import bond_spectra
from tenslora.family import Family, resolve
from tenslora.spec import Network

__all__ = ["suggest_ranks"]


def suggest_ranks(
    family: Family | str,
    target: ArrayLike,
    params: int,
    *,
    sizes: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Choose the ranks of a budget by the singular values of the updates at each bond.

    Every bond is cut where the energy behind it falls below one threshold, the lowest that the
    budget allows: what a nested decomposition loses is at most the sum of these energies. What is
    left of the budget goes, one rank at a time, to the bond that gains the most for a parameter.
    Where modes differ in what they hold, so much more is kept than by equal ranks
    (:func:`tenslora.ranks`).

    Parameters
    ----------
    family, target, sizes : as for :func:`fit`; the cores have to form a tree.
    params : trained parameters at most.

    Returns
    -------
    dict
        A rank for each bond, for ``fit`` or :func:`tenslora.attach`.

    Raises
    ------
    FitError
        E903 for a family whose cores are no tree.
    SizeError
        E207 for a budget below the smallest adapter.

    Examples
    --------
    >>> import numpy as np
    >>> first, rest = np.diag([4.0, 2.0, 1.0]), np.diag([4.0, 0.0, 0.0])
    >>> tied = "W[layer out in] = B[layer out s] C[s r] A[r in]"
    >>> suggest_ranks(tied, np.stack([first, rest]), 30)
    {'s': 2, 'r': 2}
    """
    family = resolve(family)
    network, array = family.network, check_target(target)
    known = complete_from(network, array, sizes or {})
    known = {name: size for name, size in known.items() if name not in network.bonds}
    spectra = bond_spectra(family, array, sizes=sizes)
    fit_ranks(network, known, params, frozen=family.frozen)  # says the smallest budget

    tails = {bond: _tails(values) for bond, values in spectra.items()}
    budget = _Budget(network, known, family.frozen, params, tails)
    thresholds = sorted({float(t) for behind in tails.values() for t in behind}, reverse=True)
    over = bisect_left(thresholds, True, key=lambda t: budget.count(budget.cut(t)) > params)
    return budget.filled(budget.cut(thresholds[max(0, over - 1)]))


def _tails(values: Array) -> Array:
    """The energy behind each rank, from 0 on, over all independent sites."""
    energy = (values**2).sum(axis=0)
    return np.concatenate([np.cumsum(energy[::-1])[::-1], [0.0]])


@dataclass(frozen=True)
class _Budget:
    """So many parameters of one equation, and the energy behind each rank of each bond."""

    network: Network
    sizes: Mapping[str, int]
    frozen: frozenset[str]
    params: int
    tails: Mapping[str, Array]

    def count(self, ranks: Mapping[str, int]) -> int:
        """Count the trained parameters."""
        return count_parameters(self.network, {**self.sizes, **ranks}, self.frozen)[0]

    def cut(self, limit: float) -> dict[str, int]:
        """The lowest ranks behind which no more than the limit stands, none of them redundant."""
        ranks = {b: max(1, int(np.argmax(behind <= limit))) for b, behind in self.tails.items()}
        while over := [bond for bond, rank in ranks.items() if rank > self.cap(bond, ranks)]:
            ranks[over[0]] = self.cap(over[0], ranks)
        return ranks

    def cap(self, bond: str, ranks: Mapping[str, int]) -> int:
        """What a bond can carry beside the others."""
        cap = rank_cap(self.network, bond, {**self.sizes, **ranks})
        return len(self.tails[bond]) - 1 if cap is None else cap

    def filled(self, ranks: dict[str, int]) -> dict[str, int]:
        """Raise single ranks while one fits that gains something, the best for its price first."""
        while True:
            best, most = ranks, 0.0
            for bond, rank in ranks.items():
                behind, more = self.tails[bond], {**ranks, bond: rank + 1}
                price = self.count(more) - self.count(ranks)
                room = min(len(behind) - 1, self.cap(bond, ranks))
                if rank < room and self.count(more) <= self.params:
                    gain = float(behind[rank] - behind[rank + 1]) / price
                    best, most = (more, gain) if gain > most else (best, most)
            if best is ranks:
                return ranks
            ranks = best
