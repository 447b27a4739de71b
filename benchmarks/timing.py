"""Timing side by side: every side in each round, in random order, by processor time."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Ratio", "Times", "race"]


@dataclass(frozen=True)
class Ratio:
    """How much dearer one thing is than another, said twice.

    Attributes
    ----------
    minima : ratio of the least times: what the code can do.
    paired : median of the ratios within each round: what it did.
    """

    minima: float
    paired: float


@dataclass(frozen=True)
class Times:
    """Seconds of each side in each round."""

    seconds: Mapping[str, Sequence[float]]

    def ratio(self, side: str, other: str) -> Ratio:
        """``side`` over ``other``."""
        mine, theirs = self.seconds[side], self.seconds[other]
        paired = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
        return Ratio(min(mine) / min(theirs), paired)

    def overhead(self, side: str, floor: str = "floor") -> Ratio:
        """What a side takes beyond the floor, in parts of the floor."""
        found = self.ratio(side, floor)
        return Ratio(found.minima - 1, found.paired - 1)

    def beyond(self, side: str, floor: str = "floor") -> float:
        """Seconds that a side takes beyond the floor: the median of what each round differs by."""
        pairs = zip(self.seconds[side], self.seconds[floor], strict=True)
        return statistics.median(a - b for a, b in pairs)

    def part(self, side: str, other: str, floor: str = "floor") -> Ratio:
        """The overhead of ``side`` over the overhead of ``other``.

        Paired is the ratio of the two median overheads: an overhead within one round can be zero.
        """
        mine, theirs = self.overhead(side, floor), self.overhead(other, floor)
        return Ratio(_over(mine.minima, theirs.minima), _over(mine.paired, theirs.paired))

    def noise(self) -> float:
        """Twice the largest gap between twins (``"floor"``, ``"floor again"``): less says nothing.

        In parts of the floor, by both statistics.
        """
        gaps = [0.0]
        for twin in self.seconds:
            one = twin.removesuffix(" again")
            if one != twin and one in self.seconds:
                found = self.ratio(twin, one)
                gaps += [abs(found.minima - 1), abs(found.paired - 1)]
        return 2 * max(gaps)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Medians and minima, in seconds, with ratios to the floor."""
        return {
            side: {"median": statistics.median(values), "minimum": min(values)}
            for side, values in self.seconds.items()
        }


def _over(a: float, b: float) -> float:
    return a / b if b > 0 else float("nan")


def race(
    steps: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    seed: int = 0,
    warmup: int = 2,
    least: float = 2e-3,
    budget: float | None = None,
    clock: Callable[[], float] = time.process_time,
) -> Times:
    """Time every step in each round, in an order that is drawn anew.

    Parameters
    ----------
    steps : what is timed, by name. Twins end in `` again``.
    rounds : how often.
    seed : of the orders.
    warmup : rounds that are not counted.
    least : a step shorter than this many seconds is repeated within its turn.
    budget : seconds of the clock after which no further round begins (at least 5 are made).
    clock : ``time.process_time``: what other processes do disturbs little.
    """
    order = random.Random(seed)  # noqa: S311
    names = list(steps)
    repeats = {}
    for name in names:
        for _ in range(warmup):
            start = clock()
            steps[name]()
            took = clock() - start
        repeats[name] = max(1, round(least / max(took, 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in names}
    begun = clock()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for n in range(rounds):
            if budget is not None and n >= 5 and clock() - begun > budget:
                break
            order.shuffle(names)
            for name in names:
                step, count = steps[name], repeats[name]
                start = clock()
                for _ in range(count):
                    step()
                seconds[name].append((clock() - start) / count)
            gc.collect(0)
    finally:
        if collecting:
            gc.enable()
    return Times(seconds)
