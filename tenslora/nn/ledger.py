"""The gradients of all A and of all B of one forward, written where they belong.

Autograd would stack the gradients of what ``unbind`` took apart, and add up, one after the other,
those of a matrix that several layers share. Here each reading of an x adds into its place of one
buffer; the hoisted part gets the buffer when all readings are done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tenslora.nn.autograd import graph_task

__all__ = ["Hold", "Ledger"]

#: Backward passes over one graph that may be unfinished at the same time.
_UNFINISHED = 16

#: Which view of the gradient of all matrices belongs to one key.
Places = Callable[[Tensor, int], Tensor]


class Ledger:
    """A buffer for each backward pass that is under way.

    Parameters
    ----------
    shape, dtype, device : of the gradient of all matrices.
    places : the place of the matrix with a number.
    count : how many numbers there are.
    """

    __slots__ = ("_count", "_held", "_like", "_places")

    def __init__(self, like: Tensor, count: int, places: Places) -> None:
        self._like = like.shape, like.dtype, like.device
        self._count, self._places = count, places
        self._held: dict[int, tuple[Tensor, set[int]]] = {}

    def add(self, number: int, one: Tensor, two: Tensor, scale: float) -> None:
        """Add ``scale * one @ two`` to the gradient of a matrix."""
        task = graph_task()
        if task not in self._held:
            while len(self._held) >= _UNFINISHED:  # passes that were broken off
                self._held.pop(min(self._held))
            shape, dtype, device = self._like
            self._held[task] = torch.empty(shape, dtype=dtype, device=device), set()
        whole, done = self._held[task]
        place = self._places(whole, number)
        if one.dtype is place.dtype:
            place.addmm_(one, two, beta=1 if number in done else 0, alpha=scale)
        else:
            if number not in done:
                place.zero_()
            place.add_(one @ two, alpha=scale)
        done.add(number)

    def take(self) -> Tensor | None:
        """The gradient of all matrices, ``None`` where this pass has added nothing."""
        whole, done = self._held.pop(graph_task(), (None, set()))
        if whole is not None and len(done) < self._count:
            for number in range(self._count):
                if number not in done:
                    self._places(whole, number).zero_()
        return whole


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
