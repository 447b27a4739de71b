"""The order of the cores in a row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import permutations

from tenslora.draw.parts import Parts, Tie

__all__ = ["order_row"]

_SEARCHED = 6  # cores, of which every order is looked at


def order_row(parts: Parts, component: Sequence[int]) -> list[int]:
    """Return the cores of a component from left to right.

    A chain is taken along its bonds. Otherwise the order is that of the equation, or one with
    shorter rails, for at most six cores. What takes the input comes first.
    """
    bonds = parts.inside(component)
    chosen = list(component)
    if len(component) <= _SEARCHED:
        orders = permutations(component)
        chosen = list(min(orders, key=partial(_length, parts, bonds)))
    inputs, outputs = (
        [n for n, core in enumerate(chosen) for _ in parts.features(core, role)]
        for role in ("input", "output")
    )
    if sum(inputs) * len(outputs) > sum(outputs) * len(inputs):
        chosen.reverse()
    return chosen


def _length(parts: Parts, bonds: Sequence[Tie], order: tuple[int, ...]) -> tuple[int, ...]:
    """What a good order has little of: columns under rails, then ends without a feature."""
    place = {core: n for n, core in enumerate(order)}
    spans = [sorted(place[core] for core in tie.ends) for tie in bonds]
    ends = sum(not parts.features(core, role) for core in (order[0], order[-1])
               for role in ("input", "output"))  # fmt: skip
    return sum(span[-1] - span[0] for span in spans), ends
