"""Frozen linear layers that read one x, and their updates x A B, with a backward of their own.

``Read`` makes the thin product A x once for all of them. ``Add`` adds the update of one layer to
its output in place. The gradients of the outputs are left with ``Read``, whose backward runs after
that of every ``Add``: there the frozen weights and the updates add up into one gradient of x. The
layers need not be called together, nor all of them, and each may be called with another x.

Thin matrices are kept wide, A (rank, in) and B (rank, out): so their products are fastest. Where
one lies the other way round in memory, as a core of shape (out, rank) does, the product is laid out
to suit it.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tenslora.nn.autograd import graph_task, wanted
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
from tenslora.nn.norms import Source

__all__ = ["Add", "Again", "Books", "Deposit", "Notes", "Part", "Piece", "Read", "Work"]


class Deposit:
    """Where ``Add`` leaves gradients for ``Read``, apart for each backward pass."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[int, list[Given]] = {}

    def put(self, given: Given) -> None:
        """Leave the gradient of one layer."""
        self._held.setdefault(graph_task(), []).append(given)

    def take(self, task: int) -> list[Given]:
        """Take what the backward pass ``task`` has left."""
        return self._held.pop(task, [])


class Again(NamedTuple):
    """That A x is computed again in backward; and where x comes from, if that is known.

    Then x is not kept, but the input of the normalisation that gave it.
    """

    source: Source | None


class Notes(NamedTuple):
    """What a reading has to know: the scale, where gradients are left and where they go.

    ``again`` is given where A x is to be computed again in backward.
    """

    scale: float
    deposit: Deposit
    books: Books
    again: Again | None


class Read(torch.autograd.Function):
    """The thin product A x of all layers that read x.

    Inputs: x (..., in), x with some entries dropped (n, in) or ``None``, A (ranks, in), the
    :class:`Notes`, and every B. Saved is what the gradients that are wanted are made of: x, dropped
    out, for A's, A for x's, A x for those of the B.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor,
        dropped: Tensor | None,
        a: Tensor,
        notes: Notes,
        *bs: Tensor,
    ) -> Tensor:
        """Return A x, (ranks, n), in the dtype of A."""
        again = notes.again
        rows = x if dropped is None else dropped
        ht = read_thin(a, rows.reshape(-1, rows.shape[-1]).to(a.dtype))
        wants_x, wants_dropped, wants_a, _, *wants_b = ctx.needs_input_grad
        wants_x = wants_x or wants_dropped
        ctx.notes = notes
        ctx.shape, ctx.drops = x.shape, dropped is not None
        ctx.ranks, ctx.dtype = a.shape[0], a.dtype
        ctx.set_materialize_grads(False)
        source = None if again is None or dropped is not None else again.source
        ctx.source = (
            None if source is None else (source.module, source.autocast, weakref.ref(x), x._version)
        )
        kept: Tensor | None = x if dropped is None else dropped
        if source is not None:
            kept = source.input
        # without x at hand, A x is less to keep
        thin = any(wants_b) and (again is None or not (wants_a or source))
        ctx.save_for_backward(
            kept if wants_a or (source and any(wants_b)) else None,
            a if wants_x or not thin else None,
            ht if thin else None,
            *(bs if wants_x or wants_a else ()),
        )
        return ht

    @staticmethod
    def backward(ctx: Any, dh: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Return the gradients of x, of x with entries dropped, of A and of every B."""
        task = graph_task()
        notes = ctx.notes
        given = notes.deposit.take(task)
        if not given and dh is None:
            return (None,) * len(ctx.needs_input_grad)
        wants = wanted(ctx, drops=ctx.drops)
        x, a, ht, *bs = ctx.saved_tensors
        if x is not None and ctx.source is not None:
            x = _found_again(x, *ctx.source)
        if x is not None and ht is None and any(wants[-1]):
            ht = read_thin(a, x.reshape(-1, x.shape[-1]).to(a.dtype))
        known = Known(
            x, a, ht, bs, notes.scale, ctx.ranks, ctx.dtype, notes.books, *wants, task=task
        )
        dx, dd, da, dbs = gradients(known, given, dh, drops=ctx.drops)
        if dx is not None:
            dx = dx.view(ctx.shape)
        return dx, dd, da, None, *dbs


def _found_again(
    given: Tensor,
    module: nn.Module,
    cast: torch.dtype | None,
    known: weakref.ref[Tensor],
    version: int,
) -> Tensor:
    """What a normalisation gave for its input: the tensor of the forward while it lives.

    Who derives by x holds it.
    """
    x = known()
    if x is not None and x._version == version:
        return x
    return Source(module, given, cast).again()


class Work(NamedTuple):
    """What is added to one layer, and to what.

    The ``output``, which nothing else may have read; the ``weight`` as (out, in); the ``pieces``,
    and the same as ``parts``; the scale; the deposit of the reading, its A x taken apart, (n, rank)
    for each A, and every B. None of these tensors has an edge to :class:`Add`.
    """

    output: Tensor
    weight: Tensor
    pieces: tuple[Piece, ...]
    parts: Sequence[Part]
    scale: float
    deposit: Deposit
    thins: Sequence[Tensor]
    bs: Sequence[Tensor]


class Add(torch.autograd.Function):
    """Adds the update of one layer to its output, in place.

    Inputs: A x as :class:`Read` made it, and the :class:`Work`: torch looks at each input by
    itself, so they are few.
    """

    @staticmethod
    def forward(ctx: Any, ht: Tensor, work: Work) -> Tensor:  # type: ignore[override]
        """Return the sum, (..., out)."""
        out, weight, pieces, parts, scale, deposit, thins, bs = work
        flat = out if out.ndim == 2 else out.view(-1, out.shape[-1])
        add_updates(flat, parts, thins, bs, scale)
        ctx.save_for_backward(weight)
        ctx.pieces, ctx.deposit = pieces, deposit
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[None, ...]:  # type: ignore[override]
        """Leave the gradient with the reading."""
        if grad is not None:
            (weight,) = ctx.saved_tensors
            flat = grad.reshape(-1, grad.shape[-1])
            ctx.deposit.put(Given(flat, weight, ctx.pieces))
        return None, None
