"""The ranks that come closest to a number of parameters without going over."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any

from tenslora.algebra.redundancy import rank_ends
from tenslora.budget.counting import count_parameters
from tenslora.budget.limits import Limits, Rank, make_ranks
from tenslora.errors import SizeError
from tenslora.spec import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[Any]

__all__ = ["fit_ranks"]

#: Where more choices than this lie within the spread, it is narrowed.
_CHOICES = 50_000


def fit_ranks(
    network: Network,
    sizes: Mapping[str, int],
    params: int,
    *,
    frozen: Collection[str] = frozenset(),
    maximum: Mapping[str, int] | None = None,
    limits: Limits | None = None,
    itemsize: int | None = None,
) -> dict[str, int]:
    """Choose the ranks whose trained parameters come closest to a budget without going over.

    All ranks rise together, in proportion to their weights, as far as the budget goes; each only up
    to what its mode can carry (:func:`tenslora.algebra.redundancies`) and to its maximum. Among all
    ranks that leave this proportion by no more than ``limits.spread`` (20 %, or one step; a mode
    that is carried whole stays so), the ones with the most parameters within the budget are taken:
    every choice is counted. Of several, the most even one is taken. What a rank that is much
    cheaper than the others could still take, it takes. This is the comparison at equal parameters
    of TensLoRA (arXiv 2509.19391).

    Parameters
    ----------
    network : the equation.
    sizes : the size of every index of the target.
    params : the budget, in trained parameters.
    frozen : cores that are not trained.
    maximum : ranks not to be passed, by bond; the same as ``Limits(maximum=...)``.
    limits : minimum, maximum, multiples, weights and spread.
    itemsize : bytes of a number, where the caller's budget was one of bytes: an error says them.

    Returns
    -------
    dict
        A rank for each bond, in the equation's order; the same for the same question.

    Raises
    ------
    SizeError
        E207 where even the smallest ranks are over the budget, or where a bond joins frozen cores
        only, so that no number of trained parameters says how large it is; E211 for limits that
        contradict each other.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = V[out b] D[layer c] G[b a c] U[in a]")
    >>> fit_ranks(n, {"layer": 2, "out": 64, "in": 64}, 1000)
    {'b': 7, 'c': 2, 'a': 7}
    """
    limits = limits or Limits(maximum=maximum)
    ranks = make_ranks(network, sizes, limits)
    _refuse_frozen(network, ranks, frozen)
    search = _Search(network, sizes, params, frozen, tuple(ranks))
    found = [rank.low for rank in ranks]
    if search.count(found) > params:
        word, unit = ("params", 1) if itemsize is None else ("bytes", itemsize)
        what = f"{word}={unit * params:,} is below the smallest adapter of {network}"
        lowest = search.named(found)
        listed = " ".join(f"{b}={r}" for b, r in lowest.items())
        what += f": {unit * search.count(found):,}" + (f" at {listed}" if max(found) > 1 else "")
        raise SizeError("E207", what, advice="Raise the budget, or share a core over sites.")
    growing: tuple[int, ...] = tuple(range(len(ranks)))
    while growing:
        level = search.level(found, growing)
        found = search.closest(found, level, growing, limits.spread)
        growing = search.growing(found)
    return search.named(found)


def _refuse_frozen(network: Network, ranks: Sequence[Rank], frozen: Collection[str]) -> None:
    cores = network.cores.items()
    trained = {index for name, core in cores if name not in frozen for index in core.indices}
    free = [rank for rank in ranks if rank.high is None or rank.low < rank.high]
    loose = [b for rank in free for b in rank.bonds if not trained.intersection(rank.bonds)]
    if loose:
        what = f"rank {', '.join(loose)} stands on frozen cores only in {network}"
        advice = "A number of trained parameters says nothing about it: give ranks instead."
        raise SizeError("E207", what, advice=advice)


@dataclass(frozen=True)
class _Search:
    """A budget, and the numbers that are searched for; a choice is a list of values for them."""

    network: Network
    sizes: Mapping[str, int]
    params: int
    frozen: Collection[str]
    ranks: tuple[Rank, ...]

    def named(self, values: Sequence[int]) -> dict[str, int]:
        """The ranks by bond."""
        known = {b: n for rank, n in zip(self.ranks, values, strict=True) for b in rank.bonds}
        return {bond: known[bond] for bond in self.network.bonds}

    def count(self, values: Sequence[int]) -> int:
        """The parameters of one choice."""
        return count_parameters(self.network, {**self.sizes, **self.named(values)}, self.frozen)[0]

    @cached_property
    def _place(self) -> dict[str, int]:
        return {bond: n for n, rank in enumerate(self.ranks) for bond in rank.bonds}

    def _product(self, indices: Sequence[str]) -> tuple[int, tuple[int, ...]]:
        """A product of sizes: what is known, and the places of what is searched for."""
        known = [self.sizes[i] for i in indices if i not in self._place]
        return math.prod(known), tuple(self._place[i] for i in indices if i in self._place)

    @cached_property
    def _monomials(self) -> list[tuple[int, tuple[int, ...]]]:
        cores = self.network.cores.items()
        return [self._product(core.indices) for name, core in cores if name not in self.frozen]

    @cached_property
    def _caps(self) -> list[list[list[list[tuple[int, tuple[int, ...]]]]]]:
        """For each rank, for each bond and term that bounds it, the products of its two ends."""
        found = []
        for rank in self.ranks:
            ends = [rank_ends(self.network, bond) for bond in rank.bonds]
            bounded = [terms for terms in ends if terms and all(terms)]
            found.append([[list(map(self._product, t)) for t in terms] for terms in bounded])
        return found

    def capped(self, wanted: Sequence[int]) -> list[int]:
        """Lower values to what each can carry beside the others."""
        values = list(wanted)
        changed = True
        while changed:
            changed = False
            for n in range(len(values)):
                cap = self._cap(n, values)
                if cap is not None and values[n] > cap:
                    values[n], changed = cap, True
        return values

    def _cap(self, n: int, values: Sequence[Any]) -> Any:
        """What rank ``n`` can carry beside the others, as an allowed value; ``None``: anything."""

        def carried(end: tuple[int, tuple[int, ...]]) -> Any:
            return math.prod([values[place] for place in end[1]], start=end[0])

        caps = [
            reduce(_most, [reduce(_least, map(carried, term)) for term in terms])
            for terms in self._caps[n]
        ]
        if not caps:
            return None
        rank = self.ranks[n]
        steps = (reduce(_least, caps) - rank.low) // rank.step
        return _most(rank.low + steps * rank.step, rank.low)

    def fits(self, values: Sequence[int]) -> bool:
        """Whether a choice is within the budget and carries something with every rank."""
        inside = all(r.high is None or v <= r.high for r, v in zip(self.ranks, values, strict=True))
        return inside and self.count(values) <= self.params and self.capped(values) == list(values)

    def growing(self, values: Sequence[int]) -> tuple[int, ...]:
        """The places that can rise by a step."""
        return tuple(
            n
            for n, rank in enumerate(self.ranks)
            if self.fits([v + rank.step * (k == n) for k, v in enumerate(values)])
        )

    def level(self, values: Sequence[int], growing: Collection[int]) -> list[int]:
        """Raise some values to the highest common level, in proportion to their weights."""
        heaviest = max(self.ranks[n].weight for n in growing)

        def at(level: int) -> list[int]:
            raised = [
                max(v, rank.floor(level * rank.weight / heaviest)) if n in growing else v
                for n, (v, rank) in enumerate(zip(values, self.ranks, strict=True))
            ]
            return self.capped(raised)

        return at(_largest(lambda level: self.count(at(level)) <= self.params, self.params))

    def closest(
        self, least: Sequence[int], level: Sequence[int], growing: Collection[int], spread: float
    ) -> list[int]:
        """Count every choice near ``level`` and take the one closest to the budget.

        Ranks that grow no more stay; the first time all grow, and may also give way.
        """
        import numpy as np

        windows = self._windows(least, level, growing, spread)
        last = max(range(len(windows)), key=lambda n: len(windows[n]))
        dtype: Any = np.int64 if self.count([w[-1] for w in windows]) < 2**62 else object
        axes = [np.array(w[:1] if n == last else w, dtype) for n, w in enumerate(windows)]
        grid: list[Integers] = [g.reshape(-1) for g in np.meshgrid(*axes, indexing="ij")]
        grid[last] = self._largest_last(grid, last, windows[last])
        inside = self._counts(grid) <= self.params
        for n in range(len(grid)):
            cap = self._cap(n, grid)
            inside &= np.bool_(True) if cap is None else np.asarray(grid[n] <= cap, bool)
        counts = np.where(inside, self._counts(grid), -1)
        best = np.flatnonzero(counts == counts.max())
        uneven: Any = sum(
            (np.asarray(grid[n][best], float) / level[n] - 1) ** 2 for n in range(len(grid))
        )
        order = np.lexsort([*(g[best].astype(np.int64) for g in grid[::-1]), uneven])
        return [int(g[best[order[0]]]) for g in grid]

    def _windows(
        self, least: Sequence[int], level: Sequence[int], growing: Collection[int], spread: float
    ) -> list[list[int]]:
        """The values that each rank may have near a level."""
        first = list(least) == [rank.low for rank in self.ranks]
        while True:
            windows = []
            for n, (rank, v) in enumerate(zip(self.ranks, level, strict=True)):
                if n not in growing:
                    windows.append([v])
                    continue
                reach = max(1, math.floor(min(spread * v, self.params) / rank.step)) * rank.step
                down = 0 if v == rank.high and spread <= 1 else reach  # what is whole stays whole
                low = max(rank.low if first else least[n], v - down)
                high = v + reach if rank.high is None else min(rank.high, v + reach)
                high = min(high, self._alone(least, n))
                windows.append(list(range(low, max(high, v) + 1, rank.step)))
            sizes = sorted(len(window) for window in windows)
            if math.prod(sizes[:-1]) <= _CHOICES:
                return windows
            if spread < 1e-9:  # more than ten ranks: keep the first few free
                return [w if n < 10 else [level[n]] for n, w in enumerate(windows)]
            spread = spread / 2 if spread < 1e6 else 1e6

    def _alone(self, values: Sequence[int], n: int) -> int:
        """The largest value of one rank beside the smallest of the others."""
        rank = self.ranks[n]

        def at(steps: int) -> list[int]:
            return [
                rank.low + (steps - 1) * rank.step if k == n else v for k, v in enumerate(values)
            ]

        steps = _largest(lambda steps: self.count(at(steps)) <= self.params, self.params)
        return at(steps)[n]

    def _largest_last(self, grid: list[Integers], last: int, window: list[int]) -> Integers:
        """For every choice of the others, the largest value of the last rank that fits."""
        import numpy as np

        values = np.array(window, grid[last].dtype)
        low = np.zeros(len(grid[last]), np.int64)
        high = np.full(len(grid[last]), len(window) - 1)
        while bool(np.any(low < high)):
            middle = (low + high + 1) // 2
            tried = [values[middle] if n == last else g for n, g in enumerate(grid)]
            fits = np.asarray(self._counts(tried) <= self.params, bool)
            low, high = np.where(fits, middle, low), np.where(fits, high, middle - 1)
        found = values[low]
        cap = self._cap(last, [found if n == last else g for n, g in enumerate(grid)])
        return found if cap is None else np.minimum(found, cap)

    def _counts(self, grid: Sequence[Any]) -> Any:
        monomials = [math.prod([grid[p] for p in places], start=n) for n, places in self._monomials]
        return sum(monomials) + 0 * grid[0]


def _least(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    import numpy as np

    return np.minimum(a, b)


def _most(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    import numpy as np

    return np.maximum(a, b)


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
