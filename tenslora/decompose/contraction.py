"""Products of arrays with named axes, made pair by pair, by matrix products where there are some.

The order of the pairs is opt_einsum's. Axes of length 1 are left out, so that a site by itself does
not turn a matrix product into a sum over single numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Operand", "contract"]

Array = NDArray[np.float64]
#: An array and the index of each of its axes.
Operand = tuple[Array, tuple[str, ...]]

_Indices = tuple[str, ...]
_Step = Callable[[Array, Array], Array]

#: Numbers multiplied for one entry of a batch below which a matrix product for each takes longer
#: than one sum over all of them.
_SMALL = 256


def contract(operands: Sequence[Operand], output: Sequence[str], sizes: Mapping[str, int]) -> Array:
    """Multiply arrays and sum over the indices that the output does not have.

    An index of the output that no array carries is one over which the result is constant.

    >>> a, b = np.ones((2, 3)), np.ones((3, 4))
    >>> contract([(a, ("i", "r")), (b, ("r", "j"))], ("j", "k", "i"), {"k": 2, "i": 2}).shape
    (4, 2, 2)
    """
    operands = operands or [(np.ones(()), ())]
    held = {i for _, indices in operands for i in indices}
    kept = tuple(i for i in output if i in held)
    inputs = tuple(indices for _, indices in operands)
    shapes = tuple(array.shape for array, _ in operands)
    result = _plan(inputs, kept, shapes)([array for array, _ in operands])
    if len(kept) < len(output):
        result = result.reshape([result.shape[kept.index(i)] if i in held else 1 for i in output])
        result = np.broadcast_to(
            result,
            [
                sizes.get(i, 1) if i not in held else n
                for i, n in zip(output, result.shape, strict=True)
            ],
        )
    return result


@lru_cache(maxsize=4096)
def _plan(
    inputs: tuple[_Indices, ...], output: _Indices, shapes: tuple[tuple[int, ...], ...]
) -> Callable[[list[Array]], Array]:
    """Return what multiplies arrays of these shapes."""
    lengths: dict[str, int] = {}
    for held, shape in zip(inputs, shapes, strict=True):
        lengths.update(zip(held, shape, strict=True))
    whole = tuple(lengths[i] for i in output)
    if any(len(set(held)) < len(held) for held in inputs):  # a diagonal
        return lambda arrays: np.asarray(
            np.einsum(_subscripts(inputs, output), *arrays, optimize=True)
        )
    inputs = tuple(tuple(i for i in held if lengths[i] > 1) for held in inputs)
    output = tuple(i for i in output if lengths[i] > 1)
    thin = [tuple(lengths[i] for i in held) for held in inputs]
    steps: list[tuple[int, int, _Step]] = []
    held_now = list(inputs)
    for places in _path(inputs, output, thin):
        # the later place goes first, so that the other stays where it is
        first, second = max(places), min(places)
        x, y = held_now.pop(first), held_now.pop(second)
        later = {i for held in held_now for i in held} | {*output}
        made, step = _pair(x, y, later, lengths)
        steps.append((first, second, step))
        held_now.append(made)
    last = _alone(held_now[0], output)

    def run(arrays: list[Array]) -> Array:
        held = [array.reshape(shape) for array, shape in zip(arrays, thin, strict=True)]
        for first, second, step in steps:
            x, y = held.pop(first), held.pop(second)
            held.append(step(x, y))
        return last(held[0]).reshape(whole)

    return run


def _path(
    inputs: Sequence[_Indices], output: _Indices, shapes: Sequence[tuple[int, ...]]
) -> list[tuple[int, int]]:
    """The pairs to multiply, one after the other; each product goes to the end.

    Multiplications are weighed against the numbers that are written: of two orders with as many
    multiplications one may write an array that is as large as all indices together.
    """
    if len(inputs) < 3:
        return [(0, 1)] * (len(inputs) - 1)
    from opt_einsum import contract_path
    from opt_einsum.paths import DynamicProgramming

    way = DynamicProgramming(minimize="combo")
    found, _ = contract_path(_subscripts(inputs, output), *shapes, shapes=True, optimize=way)
    pairs: list[tuple[int, int]] = []
    count = len(inputs)
    for places in found:
        waiting = sorted(places)
        while len(waiting) > 1:  # opt_einsum may join several at once
            one, two = waiting.pop(), waiting.pop()
            pairs.append((two, one))
            waiting = [n - (n > two) for n in waiting]
            count -= 1
            waiting.append(count - 1)
    return pairs


def _subscripts(inputs: Sequence[_Indices], output: _Indices) -> str:
    from opt_einsum import get_symbol

    symbol: dict[str, str] = {}
    for held in inputs:
        for index in held:
            symbol.setdefault(index, get_symbol(len(symbol)))
    left = ",".join("".join(symbol[i] for i in held) for held in inputs)
    return f"{left}->{''.join(symbol[i] for i in output)}"


def _alone(held: _Indices, output: _Indices) -> Callable[[Array], Array]:
    """Sum over what the output does not have, and order the axes as there."""
    summed = tuple(n for n, i in enumerate(held) if i not in output)
    left = [i for i in held if i in output]
    order = [left.index(i) for i in output]
    if summed:
        return lambda array: np.asarray(array.sum(axis=summed).transpose(order))
    return lambda array: array.transpose(order)


def _pair(
    x: _Indices, y: _Indices, later: Collection[str], lengths: Mapping[str, int]
) -> tuple[_Indices, _Step]:
    """Return the axes of the product of two arrays, and what makes it."""
    if not {*x} - {*y} - {*later} and not {*y} - {*x} - {*later}:
        return _product(x, y, later, lengths)
    mine = tuple(i for i in x if i in y or i in later)
    yours = tuple(i for i in y if i in x or i in later)
    made, step = _product(mine, yours, later, lengths)
    sum_x, sum_y = _alone(x, mine), _alone(y, yours)
    return made, lambda a, b: step(sum_x(a), sum_y(b))


def _product(
    x: _Indices, y: _Indices, later: Collection[str], lengths: Mapping[str, int]
) -> tuple[_Indices, _Step]:
    if math.prod(lengths[i] for i in x) < math.prod(lengths[i] for i in y):
        made, step = _product(y, x, later, lengths)
        return made, lambda a, b: step(b, a)
    both = [i for i in x if i in y]
    batch = [i for i in both if i in later]
    inner = [i for i in both if i not in later]
    left, right = [i for i in x if i not in y], [i for i in y if i not in x]
    if not inner and not right:
        return x, _spread(x, y, lengths)
    size = math.prod(lengths[i] for i in (*left, *right, *inner))
    if batch and (not left or not right or not inner or size <= _SMALL):
        made = (*(i for i in x if i in later), *right)
        text = _subscripts([x, y], made)
        return made, lambda a, b: np.asarray(np.einsum(text, a, b))
    return _matrices(x, y, (batch, left, inner, right), lengths)


def _spread(x: _Indices, y: _Indices, lengths: Mapping[str, int]) -> _Step:
    """Multiply by an array that has some of the axes."""
    order = [y.index(i) for i in x if i in y]
    shape = [lengths[i] if i in y else 1 for i in x]
    return lambda a, b: a * b.transpose(order).reshape(shape)


def _matrices(
    x: _Indices,
    y: _Indices,
    groups: tuple[list[str], list[str], list[str], list[str]],
    lengths: Mapping[str, int],
) -> tuple[_Indices, _Step]:
    """Multiply matrices, one for each entry of a batch."""
    batch, left, inner, right = groups
    of_x = [x.index(i) for i in (*batch, *left, *inner)]
    of_y = [y.index(i) for i in (*batch, *inner, *right)]
    counts = [math.prod(lengths[i] for i in group) for group in groups]
    lead = [counts[0]] if batch else []
    rows, columns = [*lead, counts[1], counts[2]], [*lead, counts[2], counts[3]]
    made = (*batch, *left, *right)
    shape = [lengths[i] for i in made]

    def step(a: Array, b: Array) -> Array:
        product = a.transpose(of_x).reshape(rows) @ b.transpose(of_y).reshape(columns)
        return product.reshape(shape)

    return made, step
