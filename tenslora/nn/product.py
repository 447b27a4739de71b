"""Frozen linear layers that read one x, and their updates x A B, with a backward of their own.

``Read`` makes the thin product A x once for all of them. ``Add`` adds the update of one layer to
its output in place. The gradients of the outputs are left with ``Read``, whose backward runs after
that of every ``Add``: there the frozen weights and the updates add up into one gradient of x. The
layers need not be called together, nor all of them, and each may be called with another x.

Thin matrices are kept wide, A (rank, in) and B (rank, out): so their products are fastest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tenslora.nn.autograd import graph_task, is_batched, will_run
from tenslora.nn.ledger import Ledger

__all__ = ["Add", "Books", "Deposit", "Piece", "Read", "add_in_place"]


class Piece(NamedTuple):
    """One matrix of a layer.

    ``rows`` of the layer's output (``None``: all), rows ``start`` to ``stop`` of the thin product,
    and the number ``second`` of its B.
    """

    rows: tuple[int, int] | None
    start: int
    stop: int
    second: int


class Given(NamedTuple):
    """The gradient of one layer's output, (n, out), with the layer's weight (out, in)."""

    grad: Tensor
    weight: Tensor
    pieces: tuple[Piece, ...]


class Deposit:
    """Where ``Add`` leaves gradients for ``Read``, apart for each backward pass."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[int, list[Given]] = {}

    def put(self, given: Given) -> None:
        """Leave the gradient of one layer."""
        self._held.setdefault(graph_task(), []).append(given)

    def take(self) -> list[Given]:
        """Take what this pass has left."""
        return self._held.pop(graph_task(), [])


def add_in_place(
    out: Tensor, ht: Tensor, pieces: Sequence[Piece], bs: Sequence[Tensor], scale: float
) -> None:
    """Add ``scale * (A x).T @ B`` to ``out`` (..., out), for each piece."""
    flat = out.view(-1, out.shape[-1])
    for rows, start, stop, second in pieces:
        place = flat if rows is None else flat[:, rows[0] : rows[1]]
        place.addmm_(ht[start:stop].mT, bs[second], alpha=scale)


class Books(NamedTuple):
    """Where gradients go in place: for A, and for each B, a ledger and the number in it.

    ``None`` where autograd carries them.
    """

    first: tuple[Ledger, int] | None
    seconds: tuple[tuple[Ledger, int] | None, ...]


class Read(torch.autograd.Function):
    """The thin product A x of all layers that read x.

    Inputs: x (..., in), A (ranks, in), the scale, the :class:`Deposit`, the :class:`Books`, and
    every B. Saved is what the gradients that are wanted are made of: x for A's, A for x's, A x for
    those of the B.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, a: Tensor, scale: float, deposit: Deposit, books: Books, *bs: Tensor
    ) -> Tensor:
        """Return A x, (ranks, n)."""
        ht = a @ x.reshape(-1, x.shape[-1]).mT
        wants_x, wants_a, _, _, _, *wants_b = ctx.needs_input_grad
        ctx.scale, ctx.deposit, ctx.books = scale, deposit, books
        ctx.shape, ctx.ranks = x.shape, a.shape[0]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(
            x if wants_a else None,
            a if wants_x else None,
            ht if any(wants_b) else None,
            *(bs if wants_x or wants_a else ()),
        )
        return ht

    @staticmethod
    def backward(ctx: Any, dh: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Return the gradients of x, A and every B."""
        given = ctx.deposit.take()
        if not given and dh is None:
            return (None,) * len(ctx.needs_input_grad)
        # those of the tensors: x, A, and every B
        wants_x, wants_a, *wants_b = (will_run(node) for node, _ in ctx.next_functions)
        x, a, ht, *bs = ctx.saved_tensors
        known = _Known(x, a, ht, bs, ctx.scale, ctx.ranks, ctx.books, wants_x, wants_a, wants_b)
        plain = dh is not None or torch.is_grad_enabled() or is_batched(given[0].grad)
        dx, da, dbs = _differentiable(known, given, dh) if plain else _in_place(known, given)
        return (None if dx is None else dx.view(ctx.shape), da, None, None, None, *dbs)


class Add(torch.autograd.Function):
    """Adds the update of one layer to its output, in place.

    Inputs: A x as :class:`Read` made it, the output (which nothing else may have read), the weight
    as (out, in), the pieces, the scale, the deposit of that reading and every B. The output and B
    stand in lists: they have no edge here.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        ht: Tensor,
        out: list[Tensor],
        weight: list[Tensor],
        pieces: tuple[Piece, ...],
        scale: float,
        deposit: Deposit,
        bs: Sequence[Tensor],
    ) -> Tensor:
        """Return the sum, (..., out)."""
        add_in_place(out[0], ht, pieces, bs, scale)
        ctx.save_for_backward(weight[0])
        ctx.pieces, ctx.deposit = pieces, deposit
        ctx.set_materialize_grads(False)
        return out[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[None, ...]:  # type: ignore[override]
        """Leave the gradient with the reading."""
        if grad is not None:
            (weight,) = ctx.saved_tensors
            flat = grad.reshape(-1, grad.shape[-1])
            ctx.deposit.put(Given(flat, weight, ctx.pieces))
        return (None,) * 7


class _Known(NamedTuple):
    """What backward knows: what was saved, and for which inputs a gradient is wanted."""

    x: Tensor | None
    a: Tensor | None
    ht: Tensor | None
    bs: list[Tensor]
    scale: float
    ranks: int
    books: Books
    wants_x: bool
    wants_a: bool
    wants_b: list[bool]


_Gradients = tuple[Tensor | None, Tensor | None, list[Tensor | None]]


def _in_place(known: _Known, given: list[Given]) -> _Gradients:
    """The gradients with as few operations and as little traffic as there can be.

    All that reads one gradient is done while it is in the cache.
    """
    dx: Tensor | None = None
    da: Tensor | None = None
    dbs: list[Tensor | None] = [None] * len(known.wants_b)
    thin = _Thin(known, given[0].grad) if known.wants_x or known.wants_a else None
    for one in given:
        for (_, start, stop, n), part in _parts([one]):
            if known.wants_b[n] and known.ht is not None:
                ht = known.ht[start:stop]
                dbs[n] = _add(dbs[n], ht, part, known.scale, known.books.seconds[n])
            if thin is not None:
                thin.add(start, stop, known.bs[n], part)
        if known.wants_x:
            dx = one.grad @ one.weight if dx is None else dx.addmm_(one.grad, one.weight)
    if thin is not None:
        dht = thin.filled()
        if dx is not None and known.a is not None:
            dx.addmm_(dht.mT, known.a, alpha=known.scale)
        if known.wants_a and known.x is not None:
            x = known.x.reshape(-1, known.x.shape[-1])
            da = _add(None, dht, x, known.scale, known.books.first)
    return dx, da, dbs


def _parts(given: list[Given]) -> Iterator[tuple[Piece, Tensor]]:
    """Each piece with the gradient of its rows."""
    for grad, _, pieces in given:
        for piece in pieces:
            yield piece, grad if piece.rows is None else grad[:, piece.rows[0] : piece.rows[1]]


class _Thin:
    """The gradient of A x without the scale: each range of ranks is written where it belongs."""

    def __init__(self, known: _Known, like: Tensor) -> None:
        shape = known.ranks, like.shape[0]
        self.whole = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.done: dict[int, int] = {}

    def add(self, start: int, stop: int, b: Tensor, grad: Tensor) -> None:
        """Add what one piece gives."""
        self.whole[start:stop].addmm_(b, grad.mT, beta=1 if start in self.done else 0)
        self.done[start] = stop

    def filled(self) -> Tensor:
        """All of it, zero for layers that were not called or had no gradient."""
        end, ranks = 0, self.whole.shape[0]
        for start, stop in [*sorted(self.done.items()), (ranks, ranks)]:
            if start > end:
                self.whole[end:start].zero_()
            end = stop
        return self.whole


def _add(
    held: Tensor | None,
    one: Tensor,
    two: Tensor,
    scale: float,
    book: tuple[Ledger, int] | None,
) -> Tensor | None:
    """Add ``scale * one @ two`` to a gradient: into the ledger, or to ``held``."""
    if book is not None:
        ledger, number = book
        ledger.add(number, one, two, scale)
        return None
    if held is not None:
        return held.addmm_(one, two, alpha=scale)
    made = torch.empty(one.shape[0], two.shape[1], dtype=one.dtype, device=one.device)
    return made.addmm_(one, two, beta=0, alpha=scale)


def _differentiable(known: _Known, given: list[Given], dh: Tensor | None) -> _Gradients:
    """The same by operations that autograd and its transforms know, for a second derivative."""
    thin: dict[int, Tensor] = {}
    dbs: list[Tensor | None] = [None] * len(known.wants_b)
    for (_, start, stop, n), part in _parts(given):
        if known.wants_x or known.wants_a:
            more = known.scale * (known.bs[n] @ part.mT)
            thin[start] = thin[start] + more if start in thin else more
        if known.wants_b[n] and known.ht is not None:
            more = known.scale * (known.ht[start:stop] @ part)
            held = dbs[n]
            dbs[n] = more if held is None else held + more
    dx: Tensor | None = None
    da: Tensor | None = None
    if known.wants_x or known.wants_a:
        dht = _assembled(known.ranks, thin, dh)
        if known.a is not None:
            dx = dht.mT @ known.a
            for grad, weight, _ in given:
                dx = dx + grad @ weight
        if known.x is not None:
            da = dht @ known.x.reshape(-1, known.x.shape[-1])
    return dx, da, dbs


def _assembled(ranks: int, thin: dict[int, Tensor], dh: Tensor | None) -> Tensor:
    """The ranges of ranks one below the other, zero where there is none, and ``dh`` added."""
    rows, start = [], 0
    for begin, value in sorted(thin.items()):
        if begin > start:
            rows.append(value.new_zeros(begin - start, value.shape[1]))
        rows.append(value)
        start = begin + value.shape[0]
    if not rows and dh is not None:
        return dh
    if start < ranks:
        rows.append(rows[0].new_zeros(ranks - start, rows[0].shape[1]))
    whole = rows[0] if len(rows) == 1 else torch.cat(rows)
    return whole if dh is None else whole + dh
