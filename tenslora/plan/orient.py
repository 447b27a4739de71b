"""Which side of each product is its rows: so that thin products are wide, and little is copied.

A product of two matrices may be laid out as A B or as its transpose. A result of a few columns
takes several times as long as one of a few rows, and where axes come to lie as the next product
wants them nothing is copied. What is counted are entries that are copied row by row; the weights
were measured on a CPU, and only choose between layouts of one order of contraction.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from tenslora.plan.cost import entries
from tenslora.plan.steps import Array, Part, Step, pair_up

__all__ = ["Groups", "copied", "orient", "orient_halves"]

#: How a result is wanted: groups of axes, each merged into one.
Groups = Sequence[Sequence[str]]

#: Steps of a part for which every combination is tried; the first ones of longer parts stay.
_TOGETHER = 5

#: Results with fewer columns than this, and more than one, are slow: by so many times the larger
#: side.
_NARROW, _SLOW = 12, 6

#: What copying takes where the last axis does not stay the last; and that in four axes or more.
_SCATTERED, _MANY = 8, 12


def orient(part: Part, wanted: Callable[[Part], Groups], sizes: Mapping[str, int]) -> Part:
    """Turn steps of a part round where that saves time; every array keeps its name.

    Parameters
    ----------
    part : what is computed.
    wanted : how the result of a part like it has to be laid out in the end.
    sizes : of every index.
    """
    return min(_ways(part), key=lambda way: _cost(way, wanted(way), sizes))


def orient_halves(
    leading: Part,
    other: Part,
    wanted: Callable[[Part, Part], Groups],
    sizes: Mapping[str, int],
) -> tuple[Part, Part]:
    """As :func:`orient`, of two parts; the first says in which order both have their bonds.

    ``wanted(leading, part)`` is how the result of one of them has to be laid out.
    """
    found = []
    for way in _ways(leading):
        rest = orient(other, partial(wanted, way), sizes)
        cost = _cost(way, wanted(way, way), sizes) + _cost(rest, wanted(way, rest), sizes)
        found.append((cost, way, rest))
    return min(found, key=lambda each: each[0])[1:]


def copied(have: Sequence[str], groups: Groups, sizes: Mapping[str, int]) -> float:
    """What it takes to see an array as a stack of matrices, in entries that are copied in order.

    >>> sizes = {"a": 2, "b": 3, "c": 4}
    >>> copied("abc", ["ab", "c"], sizes), copied("abc", ["a", "cb"], sizes)
    (0, 192)
    """
    lie = [i for i in have if sizes[i] > 1]
    seen = [[i for i in group if sizes[i] > 1] for group in groups]
    ends = {group[-1] for group in seen[-2:] if group}
    if not lie or (lie[-1] in ends and all(_together(lie, group) for group in seen)):
        return 0
    order = [i for group in seen for i in group]
    if order[-1] == lie[-1]:
        return entries(lie, sizes)
    runs = 1 + sum(lie.index(b) != lie.index(a) + 1 for a, b in itertools.pairwise(order))
    return entries(lie, sizes) * (_SCATTERED if runs < 4 else _MANY)


def _together(lie: Sequence[str], group: Sequence[str]) -> bool:
    """Whether the axes of a group lie one after the other."""
    start = lie.index(group[0]) if group else 0
    return list(lie[start : start + len(group)]) == list(group)


def _ways(part: Part) -> Iterator[Part]:
    """The part as it is, and with steps turned round."""
    yield part
    free = min(len(part.steps), _TOGETHER)
    for chosen in itertools.islice(itertools.product((False, True), repeat=free), 1, None):
        turned = [False] * (len(part.steps) - free) + [*chosen]
        known: dict[str, Array] = {}
        steps = []
        for step, turn in zip(part.steps, turned, strict=True):
            left, right = (known.get(side.name, side) for side in (step.left, step.right))
            if turn:
                left, right = right, left
            pair = pair_up(left.indices, right.indices, step.result.indices)
            result = Array(step.result.name, pair.batch + pair.left + pair.right)
            known[result.name] = result
            steps.append(Step(result, left, right, step.flops, step.nbytes))
        yield Part(part.operands, tuple(steps), steps[-1].result)


def _cost(part: Part, wanted: Groups, sizes: Mapping[str, int]) -> float:
    cost = copied(part.result.indices, wanted, sizes)
    for step in part.steps:
        pair = pair_up(step.left.indices, step.right.indices, step.result.indices)
        if pair.summed:
            cost += copied(step.left.indices, (pair.batch, pair.left, pair.summed), sizes)
            cost += copied(step.right.indices, (pair.batch, pair.summed, pair.right), sizes)
            if 1 < entries(pair.right, sizes) < min(_NARROW, entries(pair.left, sizes)):
                cost += _SLOW * entries(step.left.indices, sizes)
    return cost
