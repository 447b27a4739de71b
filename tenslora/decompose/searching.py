"""Ranks by trying: for families whose bonds have no spectrum, such as CP, rings, frozen cores.

Budgets rise in equal steps; at each the ranks are those that :func:`tenslora.budget.fit_ranks`
makes of it, and the family is fitted there. The step at which enough energy is kept is halved in
on. A fit may miss what the family could do: what is found is enough, and not always the least.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tenslora.budget import Limits, count_parameters, fit_ranks
from tenslora.budget.limits import make_ranks
from tenslora.decompose.checking import complete_from
from tenslora.decompose.fitting import Fit, fit
from tenslora.decompose.problem import Array
from tenslora.errors import FitError
from tenslora.family import Family

__all__ = ["RATIO", "Search", "enough"]

#: From one budget to the next.
RATIO = 1.1

_STARTS = 1


def enough(array: Array) -> int:
    """The parameters at which a search ends: twice those of LoRA of the updates' own ranks.

    >>> enough(np.ones((3, 8, 6)))  # three weights of rank 1
    84
    """
    matrices = array.reshape(-1, *array.shape[-2:])
    ranks = sum(int(np.linalg.matrix_rank(matrix)) for matrix in matrices)
    return max(1, 2 * ranks * sum(array.shape[-2:]))


@dataclass
class Search:
    """The fits of one family to one target, at rising budgets; each is made once.

    Attributes
    ----------
    family, target, sizes : as for :func:`tenslora.fit`, the target by slots.
    most : the largest budget.
    sweeps, finish : of each fit.
    """

    family: Family
    target: Array
    sizes: Mapping[str, int]
    most: int
    sweeps: int
    finish: bool = True
    fits: dict[tuple[int, ...], Fit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse frozen cores that come from weights, which the updates do not hold (E903)."""
        network, frozen = self.family.network, self.family.frozen
        if self.family.start is not None and frozen:
            what = f"cores {', '.join(sorted(frozen))} of {self.family.label} are filled from the "
            what += "weights of the model, which the updates do not hold"
            raise FitError("E903", what, advice="Fit it with cores= and ranks of your choice.")
        known = complete_from(network, self.target, self.sizes)
        self._known = {name: n for name, n in known.items() if name not in network.bonds}
        lowest = make_ranks(network, self._known, Limits())
        ones = {bond: rank.low for rank in lowest for bond in rank.bonds}
        self._least = max(1, count_parameters(network, {**self._known, **ones}, frozen)[0])

    def at(self, step: int) -> Fit:
        """The fit at one budget."""
        network, frozen = self.family.network, self.family.frozen
        budget = min(self.most, math.floor(self._least * RATIO**step))
        ranks = fit_ranks(network, self._known, budget, frozen=frozen)
        key = tuple(ranks.values())
        if key not in self.fits:
            self.fits[key] = fit(
                self.family, self.target, ranks, sizes=self._known, sweeps=self.sweeps,
                starts=_STARTS, finish=self.finish,
            )  # fmt: skip
        return self.fits[key]

    def keep(self, energy: float) -> Fit:
        """The smallest budget that was found to keep a part of the energy; the largest if none."""
        low, high = -1, self.last
        if self.at(high).energy < energy:
            return self.at(high)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.at(middle).energy >= energy else (middle, high)
        good = [one for one in self.fits.values() if one.energy >= energy]
        return min(good, key=lambda one: (one.parameters, -one.energy))

    @property
    def last(self) -> int:
        """The number of the last step."""
        return max(0, math.ceil(math.log(self.most / self._least, RATIO)))
