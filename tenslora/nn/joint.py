"""Frozen linear layers that read one x, run together with their updates x A B.

The mathematics of ``product``, for layers that are all run when the first of them is called: one
node in the graph, where ``Read`` and ``Add`` are one and another for each layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tenslora.nn.autograd import apply_quietly, graph_task, wanted
from tenslora.nn.gradients import (
    Books,
    Given,
    Known,
    Part,
    Piece,
    add_updates,
    gradients,
    read_thin,
)

__all__ = ["Job", "Layer", "run_joint"]


#: A frozen layer x W + b: W (out, in) and b; and the pieces of its update, the same as parts.
Layer = tuple[Tensor, Tensor | None, tuple[Piece, ...], Sequence[Part]]


class Job(NamedTuple):
    """What is run: the layers, the rank of each A, the scale, and where gradients go."""

    layers: Sequence[Layer]
    widths: Sequence[int]
    scale: float
    books: Books


class Joint(torch.autograd.Function):
    """The outputs of the layers, with a backward of its own.

    Inputs: x (..., in), x with some entries dropped (n, in) or ``None``, A (ranks, in), the
    :class:`Job`, and every B (rank, out). Saved is what the gradients that are wanted are made of:
    x, dropped out, for A's, A for x's, A x for those of the B, the weights.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, dropped: Tensor | None, a: Tensor, job: Job, *bs: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the outputs (..., out), and A x (ranks, n) for the sake of second derivatives."""
        layers = job.layers
        rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
        met = rows if dropped is None else dropped
        ht = read_thin(a, met if met.dtype is a.dtype else met.to(a.dtype))
        widths = job.widths
        thins = (ht.mT,) if len(widths) == 1 else ht.mT.split_with_sizes(widths, 1)
        outputs = []
        for weight, bias, _, parts in layers:
            out = functional.linear(rows, weight, bias)
            add_updates(out, parts, thins, bs, job.scale)
            outputs.append(out)
        if x.ndim != 2:  # no views: nobody could change those in place
            for out in outputs:
                out.resize_(*x.shape[:-1], out.shape[1])
        wants_x, wants_dropped, wants_a, _, *wants_b = ctx.needs_input_grad
        wants_x = wants_x or wants_dropped
        ctx.pieces = [layer[2] for layer in layers]
        ctx.scale, ctx.books, ctx.drops = job.scale, job.books, dropped is not None
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(
            (x if dropped is None else dropped) if wants_a else None,
            a if wants_x else None,
            ht if True in wants_b else None,
            *[layer[0] for layer in layers],
            *(bs if wants_x or wants_a else ()),
        )
        ctx.shape, ctx.ranks, ctx.dtype = x.shape, a.shape[0], a.dtype
        return *outputs, ht

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Return the gradients of x, of x with entries dropped, of A and of every B."""
        *outer, dh = grads
        x, a, ht, *others = ctx.saved_tensors
        given = []
        for grad, weight, pieces in zip(outer, others, ctx.pieces, strict=False):
            if grad is not None:
                rows = grad if grad.ndim == 2 else grad.reshape(-1, grad.shape[-1])
                given.append(Given(rows, weight, pieces))
        if not given and dh is None:
            return (None,) * len(ctx.needs_input_grad)
        wants = wanted(ctx, drops=ctx.drops)
        bs = others[len(outer) :]
        known = Known(
            x, a, ht, bs, ctx.scale, ctx.ranks, ctx.dtype, ctx.books, *wants, task=graph_task()
        )
        dx, dropped, da, dbs = gradients(known, given, dh, drops=ctx.drops)
        if dx is not None and len(ctx.shape) != 2:
            dx = dx.view(ctx.shape)
        return dx, dropped, da, None, *dbs


def run_joint(
    x: Tensor, dropped: Tensor | None, a: Tensor, bs: Sequence[Tensor], job: Job
) -> list[Tensor]:
    """The output (..., out) of each layer for x (..., in), as one node of the graph.

    ``dropped`` is x (n, in) with some entries dropped, A (ranks, in), every B (rank, out). No
    transform of ``torch.func`` may be at work, and x may be none that one has left behind.
    """
    *outputs, _ = apply_quietly(Joint, x, dropped, a, job, *bs)
    return outputs
