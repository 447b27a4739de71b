"""Emitted programs on shapes alone: what autograd keeps for a backward, as torch does it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from tenslora.plan.emit import load_program

__all__ = ["Piece", "Trace", "Traced"]


@dataclass(eq=False)
class Piece:
    """The memory of an array; views share it.

    Attributes
    ----------
    entries : its numbers.
    times : how many of it there are. 0 for what is counted elsewhere, such as the cores.
    """

    entries: int
    times: int


class Trace:
    """Makes arrays without numbers, and collects the memory that their products keep.

    Attributes
    ----------
    times : how many of each array that is made from now on there are.
    kept : the memory so far.
    """

    def __init__(self) -> None:
        self.times = 1
        self.kept: set[Piece] = set()

    def array(self, shape: Sequence[int], *, trained: bool = False) -> Traced:
        """An array with memory of its own."""
        return self._laid_out(shape, range(len(shape)), trained)

    def _laid_out(self, shape: Sequence[int], order: Collection[int], trained: bool) -> Traced:
        """An array whose axes lie in memory in an order, the slowest first."""
        steps, step = [0] * len(shape), 1
        for axis in reversed(list(order)):
            steps[axis], step = step, step * shape[axis]
        return Traced(
            self, tuple(shape), tuple(steps), Piece(math.prod(shape), self.times), trained
        )

    def program(self, source: str) -> dict[str, Any]:
        """The functions of an emitted program, for such arrays."""
        return load_program(
            source,
            "shapes",
            {
                "permute": lambda a, *axes: a.permute(axes),
                "eye": lambda like, size, axes: self.array([size] * axes),
                "ones": lambda like, *shape: self.array(shape),
                "broadcast": lambda a, *shape: a.expand(shape),
                "concat": self._concat,
            },
        )

    def keep(self, one: Traced, two: Traced) -> None:
        """The gradient of either factor of a product is made of the other."""
        self.kept.update(a.piece for a, b in ((one, two), (two, one)) if b.trained)

    def total(self) -> int:
        """Count the numbers that are kept."""
        return sum(piece.entries * piece.times for piece in self.kept)

    def _concat(self, arrays: Sequence[Traced], axis: int) -> Traced:
        shape = list(arrays[0].shape)
        shape[axis] = sum(a.shape[axis] for a in arrays)
        return self.array(shape, trained=any(a.trained for a in arrays))


@dataclass(frozen=True, eq=False)
class Traced:
    """An array without numbers: its shape, how it lies in memory, and whether it has a gradient."""

    trace: Trace
    shape: tuple[int, ...]
    steps: tuple[int, ...]
    piece: Piece
    trained: bool

    def _view(self, shape: Sequence[int], steps: Sequence[int]) -> Traced:
        return Traced(self.trace, tuple(shape), tuple(steps), self.piece, self.trained)

    def permute(self, axes: Sequence[int]) -> Traced:
        """A view with the axes in another order."""
        return self._view([self.shape[n] for n in axes], [self.steps[n] for n in axes])

    def expand(self, shape: Sequence[int]) -> Traced:
        """A view in which axes of length 1 are longer."""
        steps = [0 if n != m else s for n, m, s in zip(self.shape, shape, self.steps, strict=True)]
        return self._view(shape, steps)

    def first(self) -> Traced:
        """A view of the first slice along the first axis."""
        return self._view(self.shape[1:], self.steps[1:])

    def reshape(self, *shape: Any) -> Traced:
        """A view where there is one, else a copy."""
        wanted = list(shape[0] if shape and isinstance(shape[0], tuple) else shape)
        if -1 in wanted:
            rest = math.prod(n for n in wanted if n != -1)
            wanted[wanted.index(-1)] = math.prod(self.shape) // rest
        steps = _viewed(self.shape, self.steps, wanted)
        if steps is None:
            return self.trace.array(wanted, trained=self.trained)
        return self._view(wanted, steps)

    def __matmul__(self, other: Traced) -> Traced:
        self.trace.keep(self, other)
        shape = [*self.shape[:-1], other.shape[-1]]
        return self.trace.array(shape, trained=self.trained or other.trained)

    def __mul__(self, other: Traced) -> Traced:
        self.trace.keep(self, other)
        return self._together(other)

    def __add__(self, other: Traced) -> Traced:
        return self._together(other)

    def _together(self, other: Traced) -> Traced:
        """A new array of both shapes, laid out as the operand that has all of it."""
        rank = max(len(self.shape), len(other.shape))
        both = [(1,) * (rank - len(a.shape)) + a.shape for a in (self, other)]
        shape = [max(pair) for pair in zip(*both, strict=True)]
        whole = next((a for a in (self, other) if list(a.shape) == shape), None)
        order: Sequence[int] = range(rank)
        if whole is not None:
            order = sorted(order, key=lambda axis: (-whole.steps[axis], axis))
        return self.trace._laid_out(shape, order, self.trained or other.trained)


def _viewed(shape: Sequence[int], steps: Sequence[int], wanted: Sequence[int]) -> list[int] | None:
    """The steps of a view of another shape, ``None`` where there is no such view.

    Axes that follow each other in memory are merged, and taken apart anew.
    """
    runs: list[list[int]] = []  # length and innermost step
    for length, step in zip(shape, steps, strict=True):
        if length == 1:
            continue
        if runs and runs[-1][1] == length * step:
            runs[-1] = [runs[-1][0] * length, step]
        else:
            runs.append([length, step])
    found, axes = [1] * len(wanted), len(wanted) - 1
    for length, inner in reversed(runs):
        step, left = inner, length
        while left > 1:
            if axes < 0 or left % wanted[axes]:
                return None
            found[axes] = step
            step, left = step * wanted[axes], left // wanted[axes]
            axes -= 1
    return found
