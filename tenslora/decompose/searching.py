"""Ranks by trying: for families whose bonds have no spectrum, such as CP, rings, frozen cores.

Budgets rise in equal steps; at each the ranks are those that :func:`tenslora.budget.fit_ranks`
makes of it, and the family is fitted there, until enough is kept or there is no prospect of it. The
step at which enough energy is kept is halved in on. A fit may miss what the family could do: what
is found is enough, and not always the least.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tenslora.budget import Limits, count_parameters, fit_ranks
from tenslora.budget.limits import make_ranks
from tenslora.decompose.checking import complete_from
from tenslora.decompose.contraction import Array
from tenslora.decompose.fitting import Fit, fit_until
from tenslora.errors import FitError
from tenslora.family import Family, most_ranks

__all__ = ["MOST_FROZEN", "RATIO", "Search", "enough"]

#: From one budget to the next.
RATIO = 1.1

#: What a sweep has to gain at the last step, which tells how far a family comes.
_LAST = 2e-3

#: Numbers in frozen cores at which a search ends.
MOST_FROZEN = 2_000_000


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
    fits : the best at each choice of ranks.
    asked : the parts of the energy for which each was fitted.
    """

    family: Family
    target: Array
    sizes: Mapping[str, int]
    most: int
    sweeps: int
    finish: bool = True
    fits: dict[tuple[int, ...], Fit] = field(default_factory=dict)
    asked: dict[tuple[int, ...], list[float]] = field(default_factory=dict)

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
        self._most = most_ranks(self.family, self._known)
        self._least = max(1, count_parameters(network, {**self._known, **ones}, frozen)[0])

    def at(self, step: int, energy: float) -> Fit:
        """A fit at one budget, until it keeps a part of the energy or has no prospect of it."""
        ranks = self._ranks(step)
        key = tuple(ranks.values())
        held = self.fits.get(key)
        if held is None or (held.energy < energy and not self._failed(key, energy)):
            found = fit_until(
                self.family, self.target, ranks, energy, sizes=self._known, sweeps=self.sweeps,
                finish=self.finish, patience=_LAST if step == self.last else 1.0,
            )  # fmt: skip
            self.asked.setdefault(key, []).append(energy)
            self.fits[key] = found if held is None or found.error < held.error else held
        return self.fits[key]

    def _failed(self, key: tuple[int, ...], energy: float) -> bool:
        """Whether a fit for so much, or less, has missed it, or one has gone as far as it can."""
        held = self.fits[key]
        missed = [asked for asked in self.asked[key] if asked > held.energy]
        return bool(missed) and (held.converged or min(missed) <= energy)

    def _ranks(self, step: int) -> dict[str, int]:
        """The ranks of a step: those that its parameters pay for."""
        budget = min(self.most, math.floor(self._least * RATIO**step))
        network, frozen = self.family.network, self.family.frozen
        return fit_ranks(network, self._known, budget, frozen=frozen, maximum=self._most)

    def keep(self, energy: float) -> Fit:
        """The smallest budget that was found to keep a part of the energy; the largest if none."""
        low, high = -1, self.last
        if self.at(high, energy).energy < energy:
            return self.at(high, energy)
        while high - low > 1:
            middle = (low + high) // 2
            good = self.at(middle, energy).energy >= energy
            low, high = (low, middle) if good else (middle, high)
        kept = [one for one in self.fits.values() if one.energy >= energy]
        return min(kept, key=lambda one: (one.parameters, -one.energy))

    @cached_property
    def last(self) -> int:
        """The number of the last step: the most parameters, or frozen cores that can be held."""
        last = self._last_paid
        while last > 0 and self._held_frozen(last) > MOST_FROZEN:
            last -= 1
        return last

    @property
    def ends_at_frozen(self) -> bool:
        """Whether frozen cores, not parameters, end the search."""
        return self.last < self._last_paid

    @property
    def _last_paid(self) -> int:
        return max(0, math.ceil(math.log(self.most / self._least, RATIO)))

    def _held_frozen(self, step: int) -> int:
        network, frozen = self.family.network, self.family.frozen
        if not frozen:
            return 0
        return count_parameters(network, {**self._known, **self._ranks(step)}, frozen)[1]
