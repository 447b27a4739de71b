"""The gradients of frozen linear layers that read one x, and of their updates x A B.

Found in place, with as little traffic as there can be; or by operations that autograd knows, where
they are derived again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tenslora.nn.autograd import autocast_state, is_batched
from tenslora.nn.ledger import Ledger, lies_tall

__all__ = [
    "NARROW",
    "Books",
    "Given",
    "Gradients",
    "Known",
    "Part",
    "Piece",
    "add_product",
    "add_updates",
    "can_add",
    "gradients",
    "read_thin",
]


#: Of these an output may be given an update in float32: their sum is rounded once.
NARROW = (torch.bfloat16, torch.float16)


class Piece(NamedTuple):
    """One matrix of a layer.

    ``rows`` of the layer's output (``None``: all), rows ``start`` to ``stop`` of the thin product,
    and the number ``second`` of its B.
    """

    rows: tuple[int, int] | None
    start: int
    stop: int
    second: int


#: Rows of a layer's output (``None``: all), the number of the thin product, and that of the B.
Part = tuple[tuple[int, int] | None, int, int]


class Given(NamedTuple):
    """The gradient of one layer's output, (n, out), with the layer's weight (out, in)."""

    grad: Tensor
    weight: Tensor
    pieces: tuple[Piece, ...]


class Books(NamedTuple):
    """Where gradients go in place: for A, and for each B, a ledger and the number in it.

    ``None`` where autograd carries them.
    """

    first: tuple[Ledger, int] | None
    seconds: tuple[tuple[Ledger, int] | None, ...]


class Known(NamedTuple):
    """What backward knows: what was saved, and for which inputs a gradient is wanted.

    ``x`` is what A met: with some entries dropped where that is asked for. ``dtype`` is that of the
    updates, ``task`` the number of the backward pass.
    """

    x: Tensor | None
    a: Tensor | None
    ht: Tensor | None
    bs: list[Tensor]
    scale: float
    ranks: int
    dtype: torch.dtype
    books: Books
    wants_x: bool
    wants_dropped: bool
    wants_a: bool
    wants_b: list[bool]
    task: int

    @property
    def thin(self) -> bool:
        """Whether the gradient of A x is wanted."""
        return self.wants_x or self.wants_dropped or self.wants_a

    def wide(self, number: int) -> Tensor:
        """A B (rank, out) that lies tall, laid out wide.

        On a CPU the product of a few rows of such a matrix with gradients takes four to eight times
        as long, on some machines where the result lies wide and on others where it does not.
        """
        book = self.books.seconds[number]
        wide = None if book is None else book[0].wide(self.task, book[1])
        return self.bs[number].contiguous() if wide is None else wide


#: Those of x, of x with entries dropped, of A, and of every B.
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None, list[Tensor | None]]


def read_thin(a: Tensor, rows: Tensor) -> Tensor:
    """``a @ rows.mT``, (ranks, n), for rows (n, in).

    A product of few rows of a matrix that lies tall, with a transposed one, takes up to twelve
    times as long as the same product transposed.
    """
    return (rows @ a.mT).mT if lies_tall(a) else a @ rows.mT


def can_add(cores: torch.dtype, output: torch.dtype) -> bool:
    """Whether an update that is computed in the dtype of the cores can be added in place."""
    return cores is output or (cores is torch.float32 and output in NARROW)


def add_updates(
    rows: Tensor,
    parts: Iterable[Part],
    thins: Sequence[Tensor],
    bs: Sequence[Tensor],
    scale: float,
) -> None:
    """Add the update of a layer to its output (n, out) in place, from x A as (n, rank)."""
    for span, part, second in parts:
        place = rows if span is None else rows[:, span[0] : span[1]]
        add_product(place, thins[part], bs[second], scale)


def add_product(place: Tensor, one: Tensor, two: Tensor, scale: float) -> None:
    """Add ``scale * one @ two`` in place; the sum is rounded once where ``place`` is narrower."""
    if one.dtype is place.dtype:
        place.addmm_(one, two, alpha=scale)
    else:
        place.add_(one @ two, alpha=scale)


def gradients(known: Known, given: list[Given], dh: Tensor | None, *, drops: bool) -> Gradients:
    """Find them, each product in the dtype that it is meant in, whatever autocast says.

    ``dh`` is the gradient of A x, where that was used beside the updates; ``drops`` says that A met
    an x of which entries had been dropped.
    """
    kind = (dh if dh is not None else given[0].grad).device.type
    if autocast_state(kind) is None:
        return _gradients(known, given, dh, drops=drops)
    with torch.autocast(kind, enabled=False):
        return _gradients(known, given, dh, drops=drops)


def _gradients(known: Known, given: list[Given], dh: Tensor | None, *, drops: bool) -> Gradients:
    if dh is not None or torch.is_grad_enabled() or is_batched(given[0].grad):
        return find_differentiable(known, given, dh, drops=drops)
    return find(known, given, drops=drops)


def find(known: Known, given: list[Given], *, drops: bool) -> Gradients:
    """The gradients with as few operations and as little traffic as there can be.

    All that reads one gradient is done while it is in the cache.
    """
    dx: Tensor | None = None
    dropped: Tensor | None = None
    da: Tensor | None = None
    dbs: list[Tensor | None] = [None] * len(known.wants_b)
    scale = known.scale
    thin = _Thin(known, given[0]) if known.thin else None
    for one in given:
        _find_thin(known, one, dbs, thin)
        if known.wants_x:
            grad, weight = one.grad, one.weight
            weight = weight if weight.dtype is grad.dtype else weight.to(grad.dtype)
            dx = grad @ weight if dx is None else dx.addmm_(grad, weight)
    if thin is not None:
        dht = thin.filled()
        if known.a is not None and drops:
            dropped = _add(None, dht.mT, known.a, scale)
        elif known.a is not None and dx is not None:
            add_product(dx, dht.mT, known.a, scale)
        if known.wants_a and known.x is not None:
            x = known.x if known.x.ndim == 2 else known.x.reshape(-1, known.x.shape[-1])
            x = x if x.dtype is known.dtype else x.to(known.dtype)
            first = known.books.first
            if first is None:
                da = _add(None, dht, x, scale)
            else:
                first[0].add(known.task, first[1], dht, x, scale)
    return dx, dropped, da, dbs


def _find_thin(known: Known, given: Given, dbs: list[Tensor | None], thin: _Thin | None) -> None:
    """Of one layer: the gradients of its B, and what it adds to that of A x."""
    for (_, start, stop, n), part in _parts(given, known.dtype):
        if known.wants_b[n] and known.ht is not None:
            ht, book = known.ht[start:stop], known.books.seconds[n]
            if book is None:
                dbs[n] = _add(dbs[n], ht, part, known.scale)
            else:
                book[0].add(known.task, book[1], ht, part, known.scale)
        if thin is not None:
            b = known.bs[n]
            thin.add(start, stop, known.wide(n) if lies_tall(b) and not b.is_cuda else b, part)


def _parts(given: Given, dtype: torch.dtype) -> Iterator[tuple[Piece, Tensor]]:
    """Each piece with the gradient of its rows."""
    grad = given.grad.to(dtype)
    for piece in given.pieces:
        yield piece, grad if piece.rows is None else grad[:, piece.rows[0] : piece.rows[1]]


class _Thin:
    """The gradient of A x without the scale, (ranks, n): each range is written where it belongs."""

    def __init__(self, known: Known, first: Given) -> None:
        ranks, n, device = known.ranks, first.grad.shape[0], first.grad.device
        self.whole = torch.empty(ranks, n, dtype=known.dtype, device=device)
        self.done: dict[int, int] = {}

    def add(self, start: int, stop: int, b: Tensor, grad: Tensor) -> None:
        """Add what one piece gives, by its B."""
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


def _add(held: Tensor | None, one: Tensor, two: Tensor, scale: float) -> Tensor:
    """Add ``scale * one @ two`` to a gradient, if there is one."""
    if held is not None:
        return held.addmm_(one, two, alpha=scale)
    made = torch.empty(one.shape[0], two.shape[1], dtype=one.dtype, device=one.device)
    return made.addmm_(one, two, beta=0, alpha=scale)


def find_differentiable(
    known: Known, given: list[Given], dh: Tensor | None, *, drops: bool
) -> Gradients:
    """The same by operations that autograd and its transforms know, for a second derivative."""
    thin: dict[int, Tensor] = {}
    dbs: list[Tensor | None] = [None] * len(known.wants_b)
    for one in given:
        for (_, start, stop, n), part in _parts(one, known.dtype):
            if known.thin:
                more = known.scale * (known.bs[n] @ part.mT)
                thin[start] = thin[start] + more if start in thin else more
            if known.wants_b[n] and known.ht is not None:
                more = known.scale * (known.ht[start:stop] @ part)
                held = dbs[n]
                dbs[n] = more if held is None else held + more
    dx: Tensor | None = None
    dropped: Tensor | None = None
    da: Tensor | None = None
    if known.thin:
        dht = _assembled(known.ranks, thin, dh)
        if known.a is not None:
            update = dht.mT @ known.a
            dx, dropped = (None, update) if drops else (update, None)
            for grad, weight, _ in given:
                more = grad @ weight.to(grad.dtype)
                dx = more if dx is None else dx + more
        if known.x is not None:
            da = dht @ known.x.reshape(-1, known.x.shape[-1]).to(known.dtype)
    return dx, dropped, da, dbs


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
