"""Layers that read one input: what they share, and how their updates are run together.

That two layers get the same tensor is never taken for granted. The group says which layers may; in
each call the tensor itself is compared, and so is everything else that has to be the same: its
version, autocast, the backward pass and the checkpointed segment that the call belongs to.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tenslora.nn.context import Call, SharedInput
from tenslora.nn.grid import input_key
from tenslora.nn.halves import Halves
from tenslora.nn.ledger import Ledger
from tenslora.nn.product import Add, Books, Deposit, Piece, Read
from tenslora.nn.spans import collide

if TYPE_CHECKING:
    from tenslora.nn.bank import Bank
    from tenslora.nn.context import ForwardContext
    from tenslora.nn.site import Site

__all__ = ["Group", "Member", "find_members"]


#: Up to so many rows of x an update is added by plain operations: a function with a backward of its
#: own then takes longer than what it saves.
FEW = 32


class Reading:
    """What the layers of a group share about one x: the thin product, and every B.

    The product is ``ht`` (ranks, n), or for few rows ``thin``, parts of (n, ranks) by the rank at
    which they begin.
    """

    __slots__ = ("_turned", "bs", "deposit", "group", "ht", "key", "thin", "x")

    def __init__(
        self,
        group: Group | Member,
        x: Tensor,
        key: Hashable,
        a: Tensor,
        bs: tuple[Tensor, ...],
        books: Books,
        parts: Sequence[int] | None = None,
    ) -> None:
        self.group, self.x, self.key, self.bs = group, x, key, bs
        self.thin: dict[int, Tensor] = {}
        self._turned: dict[int, Tensor] = {}
        if parts is not None:
            ht, start = a @ x.view(-1, x.shape[-1]).mT, 0
            for rows in (ht,) if len(parts) == 1 else ht.split(parts):
                self.thin[start] = rows.mT
                start += rows.shape[0]
            return
        self.deposit = Deposit()
        if torch.is_grad_enabled():
            self.ht: Tensor = Read.apply(x, a, group.scale, self.deposit, books, *bs)
        else:
            self.ht = a @ x.reshape(-1, x.shape[-1]).mT

    def turned(self, start: int, stop: int) -> Tensor:
        """Some ranks of the thin product, (n, ranks)."""
        found = self.thin.get(start)
        if found is None:
            found = self._turned.get(start)
        if found is None:
            found = self._turned[start] = self.ht[start:stop].mT
        return found


class Group:
    """The layers that may read one input, over all banks of an adapter.

    Attributes
    ----------
    parts : for each bank the number of its group in the bank's layout, and which of its B belong
        here.
    scale : of the updates.
    widths : the ranks of each A.
    """

    def __init__(
        self, parts: Mapping[Bank, tuple[int, tuple[int, ...]]], scale: float, widths: Sequence[int]
    ) -> None:
        self.parts = dict(parts)
        self.scale = scale
        self.widths = list(widths)

    def read(
        self, x: Tensor, hoisted: Mapping[Bank, Any], key: Hashable = None, *, few: bool = False
    ) -> Reading:
        """Make the thin product of x for every layer of the group."""
        pieces, bs, books = [], [], []
        first: tuple[Ledger, int] | None = None
        for bank, (number, seconds) in self.parts.items():
            factors: Halves = hoisted[bank]
            pieces.append(factors.a[number])
            bs += [factors.b[second] for second in seconds]
            books += [factors.second(second) for second in seconds]
            first = factors.first(number)
        alone = len(pieces) == 1
        a = pieces[0] if alone else torch.cat(pieces)
        entries = Books(first if alone else None, tuple(books))
        return Reading(self, x, key, a, tuple(bs), entries, self.widths if few else None)


class Member:
    """One whole linear layer of a group, and its matrices.

    ``pieces`` count ranks and B as the group does, ``own`` as if the layer were alone: then the A
    of ``firsts`` lie one below the other, and there is a B for each of ``sites``.
    """

    def __init__(
        self,
        group: Group,
        pieces: tuple[Piece, ...],
        own: tuple[Piece, ...],
        firsts: tuple[tuple[Bank, int], ...],
        sites: tuple[tuple[Bank, int], ...],
    ) -> None:
        self.group, self.pieces, self.own = group, pieces, own
        self.firsts, self.sites = firsts, sites
        self.first = next(iter(group.parts))
        self.banks = tuple(group.parts)
        self.scale = group.scale
        self.whole = len(pieces) == 1 and pieces[0].rows is None

    def run_quiet(
        self, x: Tensor, output: Tensor, weight: Tensor, context: ForwardContext
    ) -> Tensor | None:
        """As :meth:`run`, in plain eager mode; ``None`` where more has to be asked."""
        if x.is_inference():
            return None
        version = x._version
        reading = context.readings.get(self.first)
        if (
            reading is None
            or reading.x is not x
            or reading.key != version
            or reading.group is not self.group
        ):
            hoisted: Mapping[Bank, Any] = context.hoisted  # halves: a group has no other banks
            for bank in self.banks:
                a = hoisted[bank].a[0] if bank in hoisted else None
                if a is None or a.dtype != x.dtype or a.device != x.device:
                    return None
            reading = self.group.read(x, hoisted, version, few=self._few(x))
            context.readings[self.first] = reading
        if reading.thin and not self.whole:
            return None
        return self._added(reading, self.pieces, output, weight)

    def _few(self, x: Tensor) -> bool:
        return self.whole and x.numel() <= FEW * x.shape[-1] and x.is_contiguous()

    def _added(
        self, reading: Reading, pieces: tuple[Piece, ...], output: Tensor, weight: Tensor
    ) -> Tensor:
        """The output with the update, in place where that is best."""
        grad, scale, width = torch.is_grad_enabled(), self.group.scale, output.shape[-1]
        if grad and not reading.thin:
            added: Tensor = Add.apply(
                reading.ht, [output.detach()], [weight], pieces, scale, reading.deposit, reading.bs
            )
            return added
        flat = output if output.ndim == 2 else output.view(-1, width)
        if grad:
            _, start, _, second = pieces[0]
            out = torch.addmm(flat, reading.thin[start], reading.bs[second], alpha=scale)
            return out if output.ndim == 2 else out.view(output.shape)
        for rows, start, stop, second in pieces:
            place = flat if rows is None else flat[:, rows[0] : rows[1]]
            place.addmm_(reading.turned(start, stop), reading.bs[second], alpha=scale)
        return output

    def run(self, x: Tensor, output: Tensor, weight: Tensor, calls: Mapping[Bank, Call]) -> Tensor:
        """Add the update to ``output``, in place; ``weight`` is (out, in)."""
        reading, pieces = self._reading(x, calls)
        if reading.thin and not self.whole:
            reading, pieces = self._alone(x, calls), self.own
        return self._added(reading, pieces, output, weight)

    def _reading(self, x: Tensor, calls: Mapping[Bank, Call]) -> tuple[Reading, tuple[Piece, ...]]:
        call = calls[self.sites[0][0]]
        context = call.context
        key = None
        if context is not None:
            key = SharedInput.key_of(x, call.moment, self.first.training)
        if key is None or context is None:
            return self._alone(x, calls), self.own
        known = context.readings.get(self.first)
        if known is None or known.group is not self.group or known.x is not x or known.key != key:
            known = self.group.read(x, context.hoisted, key, few=self._few(x))
            context.readings[self.first] = known
        return known, self.pieces

    def _alone(self, x: Tensor, calls: Mapping[Bank, Call]) -> Reading:
        """Read x for this layer alone: nothing may be shared, or the hoisted part is its own."""
        hoisted: dict[Bank, Any] = {}
        for bank, call in calls.items():
            hoisted[bank] = bank.hoist() if call.hoisted is None else call.hoisted
        firsts = [hoisted[bank].of(site)[0] for bank, site in self.firsts]
        a = firsts[0] if len(firsts) == 1 else torch.cat(firsts)
        bs = tuple(hoisted[bank].of(site)[1] for bank, site in self.sites)
        books = Books(None, (None,) * len(bs))
        parts = [first.shape[0] for first in firsts] if self._few(x) else None
        return Reading(self, x, None, a, bs, books, parts)


def find_members(banks: Iterable[Bank]) -> dict[str, Member]:
    """The layers that can be run with an update in place, by path.

    Those are covered whole, or by ranges of rows, and their banks have a normal form.
    """
    keys: dict[tuple[object, ...], dict[Bank, int]] = {}
    sites: dict[str, list[tuple[Site, Bank, int]]] = {}
    for bank in banks:
        bank.prepare()
        for number, site in enumerate(bank.sites):
            sites.setdefault(site.path, []).append((site, bank, number))
            if bank.layout is not None:
                key = *input_key(site), bank.bound.scale
                keys.setdefault(key, {}).setdefault(bank, bank.layout.places[number].group)
    groups = {key: _group(parts) for key, parts in keys.items()}
    found = {}
    for path, held in sites.items():
        if _fits(held):
            site, bank, _ = held[0]
            found[path] = _member(groups[(*input_key(site), bank.bound.scale)], held)
    return found


def _group(parts: Mapping[Bank, int]) -> Group:
    known, widths = {}, []
    for bank, number in parts.items():
        assert bank.layout is not None  # only such banks are in groups
        places = (place for place in bank.layout.places if place.group == number)
        known[bank] = number, tuple(dict.fromkeys(place.second for place in places))
        widths += [bank.layout.rank] * len(bank.layout.rows[number])
    return Group(known, next(iter(parts)).bound.scale, widths)


def _fits(held: list[tuple[Site, Bank, int]]) -> bool:
    """Whether the updates of a layer can be added in place."""
    rows = [site.rows for site, _, _ in held]
    return (
        all(bank.layout is not None and bank.covers(number) for _, bank, number in held)
        and all(site.columns is None for site, _, _ in held)
        and all(row is None or len(row) == 2 for row in rows)
        and len({bank.bound.scale for _, bank, _ in held}) == 1
        and not any(collide(a, b) for n, a in enumerate(rows) for b in rows[:n])
    )


def _member(group: Group, held: list[tuple[Site, Bank, int]]) -> Member:
    """Count ranks and B through the banks of the group, in their order."""
    ranks, seconds = {}, {}
    start = count = 0
    for bank, (number, places) in group.parts.items():
        ranks[bank], seconds[bank] = (start, {second: count + n for n, second in enumerate(places)})
        layout = bank.layout
        assert layout is not None  # only such banks are in groups
        start += layout.rank * len(layout.rows[number])
        count += len(places)
    pieces, own = [], []
    alone: dict[
        tuple[Bank, int], tuple[int, int]
    ] = {}  # where A begins, and the site to ask for it
    end = 0
    for n, (site, bank, number) in enumerate(held):
        assert bank.layout is not None  # as above
        rows = None if site.rows is None else (site.rows[0], site.rows[1])
        place, rank = bank.layout.places[number], bank.layout.rank
        if (bank, place.start) not in alone:
            alone[bank, place.start] = end, number
            end += rank
        begin, first = ranks[bank], alone[bank, place.start][0]
        second = seconds[bank][place.second]
        pieces.append(Piece(rows, begin + place.start, begin + place.stop, second))
        own.append(Piece(rows, first, first + rank, n))
    firsts = tuple((bank, number) for (bank, _), (_, number) in alone.items())
    seconds_alone = tuple((bank, number) for _, bank, number in held)
    return Member(group, tuple(pieces), tuple(own), firsts, seconds_alone)
