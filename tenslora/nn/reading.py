"""What the layers of a group share about one x: the thin product, and every B."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tenslora.nn.gradients import Books, can_add, read_thin
from tenslora.nn.product import Again, Deposit, Notes, Read

if TYPE_CHECKING:
    from tenslora.nn.bank import Bank
    from tenslora.nn.halves import Halves
    from tenslora.nn.ledger import Ledger
    from tenslora.nn.norms import Normed

__all__ = ["Factors", "Group", "Reading", "read"]

#: Up to so many rows of x an update is added by plain operations: a function with a backward of its
#: own then takes longer than what it saves.
FEW = 32

#: Up to so many rows of x the product is best made as it is wanted, (n, rank).
_WIDE = 8


class Factors(NamedTuple):
    """The A of some layers, one below the other, the rank of each, every B, and their books.

    Without books the products are made by plain operations.
    """

    a: Tensor
    widths: Sequence[int]
    bs: Sequence[Tensor]
    books: Books | None


class Reading:
    """The thin product of one x, and every B.

    The product is ``thins``, (n, rank) for each A, in ``dtype``. Where updates are not added by
    plain operations it is ``ht`` (ranks, n) too, whose gradients go through ``deposit``.
    """

    __slots__ = ("bs", "deposit", "dtype", "group", "ht", "key", "thins", "training", "x")

    def __init__(
        self,
        group: object,
        x: Tensor,
        key: Hashable,
        bs: Sequence[Tensor],
        dtype: torch.dtype,
        training: bool,
    ) -> None:
        self.group, self.x, self.key, self.bs, self.training = group, x, key, bs, training
        self.dtype = dtype
        self.thins: Sequence[Tensor] = ()
        self.ht: Tensor | None = None
        self.deposit: Deposit | None = None


def read(
    group: object,
    x: Tensor,
    key: Hashable,
    factors: Factors,
    scale: float,
    dropout: float,
    training: bool,
    again: Again | None = None,
) -> Reading:
    """Make the thin product of x (..., in), of which entries are dropped with a probability."""
    a, widths, bs, books = factors
    dtype = a.dtype
    made = Reading(group, x, key, bs, dtype, training)
    if x.dtype is not dtype and x.element_size() >= a.element_size():
        x = x.to(dtype)  # under autocast
    rows = x
    if dropout or books is None:
        rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
    if dropout:
        rows = functional.dropout(rows, dropout, training=True)
    if books is not None:
        made.deposit = Deposit()
        dropped = rows if dropout else None
        made.ht = Read.apply(x, dropped, a, Notes(scale, made.deposit, books, again), *bs)
        thin = made.ht.detach().mT
    else:
        rows = rows if rows.dtype is dtype else rows.to(dtype)
        few = rows.shape[0] <= _WIDE
        thin = functional.linear(rows, a) if few else read_thin(a, rows).mT
    made.thins = (thin,) if len(widths) == 1 else thin.split_with_sizes(widths, 1)
    return made


class Group:
    """The layers that may read one input, over all banks of an adapter.

    Attributes
    ----------
    parts : for each bank the number of its group in the bank's layout, and which of its B belong
        here.
    scale : of the updates.
    widths : the ranks of each A.
    whole : whether each layer is covered by one matrix, so that few rows may be added to it by
        plain operations.
    """

    def __init__(
        self, parts: Mapping[Bank, tuple[int, tuple[int, ...]]], scale: float, widths: Sequence[int]
    ) -> None:
        self.parts, self._banks = dict(parts), tuple(parts)
        self.scale = scale
        self.widths = list(widths)
        self.whole = True

    def dropout(self) -> float | None:
        """With which probability entries of x are dropped now; ``None`` where banks differ."""
        first, *others = self._banks
        found = first.dropout if first.drops else 0.0
        for bank in others:
            if found != (bank.dropout if bank.drops else 0.0):
                return None
        return found

    def dtype_for(self, x: Tensor, hoisted: Mapping[Bank, Any]) -> torch.dtype | None:
        """In which dtype x is read; ``None`` where the update cannot be added in place."""
        halves: Any = None
        for bank in self._banks:
            halves = hoisted.get(bank)
            if halves is None or halves.device != x.device or not can_add(halves.dtype, x.dtype):
                return None
        found: torch.dtype = halves.dtype
        return found

    def read(
        self,
        x: Tensor,
        hoisted: Mapping[Bank, Any],
        key: Hashable,
        dtype: torch.dtype,
        dropout: float,
        normed: Normed | None,
    ) -> Reading:
        """Make the thin product of x for every layer of the group, in a dtype.

        ``normed`` is what the last normalisation gave.
        """
        noted, again = self.notes(x, dtype), None
        if noted and self._banks[0].recompute:
            again = Again(None if normed is None else normed.source_of(x))
        factors = self.factors(hoisted, dtype, noted)
        return read(self, x, key, factors, self.scale, dropout, self._banks[0].training, again)

    def notes(self, x: Tensor, dtype: torch.dtype) -> bool:
        """Whether the function is used, and not plain operations.

        Those take less time for few rows of x, but keep more.
        """
        if not torch.is_grad_enabled():
            return False
        short = x.dtype is dtype and x.numel() <= FEW * x.shape[-1]
        return self._banks[0].recompute or not (self.whole and short)

    def factors(self, hoisted: Mapping[Bank, Any], dtype: torch.dtype, noted: bool) -> Factors:
        """A and B of every layer; ``noted`` with the books of their gradients."""
        pieces: list[Tensor] = []
        bs: list[Tensor] = []
        books: list[tuple[Ledger, int] | None] = []
        first: tuple[Ledger, int] | None = None
        for bank, (number, seconds) in self.parts.items():
            halves: Halves = hoisted[bank]
            a, b, firsts, ledger = halves.matrices(dtype, held=noted)
            pieces.append(a[number])
            bs += [b[second] for second in seconds]
            if noted:
                books += [None if ledger is None else (ledger, second) for second in seconds]
                first = None if firsts is None else (firsts, halves.layout.at[number])
        alone = len(pieces) == 1
        entries = Books(first if alone else None, tuple(books)) if noted else None
        return Factors(pieces[0] if alone else torch.cat(pieces), self.widths, bs, entries)
