"""The gradients of all A and of all B of one forward, written where they belong.

Autograd would stack the gradients of what ``unbind`` took apart, and add up, one after the other,
those of a matrix that several layers share. Here each reading of an x adds into its place of one
buffer; the hoisted part gets the buffer when all readings are done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tenslora.nn.autograd import graph_task

__all__ = ["Hold", "Ledger", "lies_tall"]

#: Backward passes over one graph that may be unfinished at the same time.
_UNFINISHED = 16

#: The gradient of all matrices as a view for each.
Apart = Callable[[Tensor], Sequence[Tensor]]


def lies_tall(matrix: Tensor) -> bool:
    """Whether a wide matrix (rank, n) is the view of a tall one: its columns lie together."""
    return matrix.stride(-1) != 1


class _Pass(NamedTuple):
    """What one backward pass has added: a buffer, the place of each matrix, those written."""

    whole: Tensor
    places: Sequence[Tensor]
    done: set[int]


class Ledger:
    """A buffer for each backward pass that is under way.

    Parameters
    ----------
    like : of the shape, dtype and device of all matrices.
    apart : takes their gradient apart.

    Attributes
    ----------
    tall : the matrices themselves, without gradients, where they lie tall.
    """

    __slots__ = ("_apart", "_dtype", "_held", "_like", "_wide", "tall")

    def __init__(self, like: Tensor, apart: Apart) -> None:
        self._dtype = like.dtype
        self._like, self._apart = (like.shape, like.device), apart
        self._held: dict[int, _Pass] = {}
        self._wide: tuple[int, Sequence[Tensor]] | None = None
        self.tall: Tensor | None = None

    def wide(self, task: int, number: int) -> Tensor | None:
        """One of the matrices that lie tall, laid out wide; ``None`` where they are not known.

        All are copied at once in a backward pass, and let go of when it has given their gradient.
        """
        if self.tall is None:
            return None
        held = self._wide
        if held is None or held[0] != task:
            held = self._wide = task, self._apart(self.tall.contiguous())
        return held[1][number]

    def add(self, task: int, number: int, one: Tensor, two: Tensor, scale: float) -> None:
        """Add ``scale * one @ two`` to the gradient of a matrix, in the backward pass ``task``."""
        held = self._held.get(task)
        if held is None:
            held = self._begin(task)
        place, done = held.places[number], held.done
        if one.dtype is self._dtype:
            place.addmm_(one, two, beta=1 if number in done else 0, alpha=scale)
        else:
            if number not in done:
                place.zero_()
            place.add_(one @ two, alpha=scale)
        done.add(number)

    def _begin(self, task: int) -> _Pass:
        while len(self._held) >= _UNFINISHED:  # passes that were broken off
            self._held.pop(min(self._held))
        shape, device = self._like
        whole = torch.empty(shape, dtype=self._dtype, device=device)
        held = self._held[task] = _Pass(whole, self._apart(whole), set())
        return held

    def take(self) -> Tensor | None:
        """The gradient of all matrices, ``None`` where this pass has added nothing."""
        self._wide = None
        held = self._held.pop(graph_task(), None)
        if held is None:
            return None
        if len(held.done) < len(held.places):
            for number, place in enumerate(held.places):
                if number not in held.done:
                    place.zero_()
        return held.whole


class Hold(torch.autograd.Function):
    """Hands on a tensor in a dtype, and gives it the gradient that a ledger holds."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, tensor: Tensor, ledger: Ledger, dtype: torch.dtype
    ) -> Tensor:
        """Return the tensor."""
        ctx.ledger, ctx.dtype = ledger, tensor.dtype
        ctx.set_materialize_grads(False)
        return tensor.view_as(tensor) if tensor.dtype is dtype else tensor.to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None, None]:  # type: ignore[override]
        """Return what was added in place, and what came by the graph."""
        whole = ctx.ledger.take()
        if grad is not None:
            grad = grad.to(ctx.dtype)
            whole = grad if whole is None else whole + grad
        return whole, None, None
