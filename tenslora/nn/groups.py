"""Layers that read one input: what they share, and how their updates are run together.

That two layers get the same tensor is never taken for granted. The group says which layers may; in
each call the tensor itself is compared, and so is everything else that has to be the same: its
version, autocast, the backward pass and the checkpointed segment that the call belongs to.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tenslora.nn.context import Call, SharedInput
from tenslora.nn.grid import input_key
from tenslora.nn.halves import Halves
from tenslora.nn.ledger import Ledger
from tenslora.nn.product import Add, Books, Deposit, Piece, Read, add_in_place
from tenslora.nn.spans import collide

if TYPE_CHECKING:
    from tenslora.nn.bank import Bank
    from tenslora.nn.site import Site

__all__ = ["Group", "Member", "find_members"]


class Reading:
    """What the layers of a group share about one x: the thin product, and every B."""

    __slots__ = ("bs", "deposit", "group", "ht", "key", "x")

    def __init__(
        self,
        group: object,
        x: Tensor,
        key: Hashable,
        a: Tensor,
        bs: tuple[Tensor, ...],
        books: Books,
        scale: float,
    ) -> None:
        self.group, self.x, self.key, self.bs = group, x, key, bs
        self.deposit = Deposit()
        if torch.is_grad_enabled():
            self.ht: Tensor = Read.apply(x, a, scale, self.deposit, books, *bs)
        else:
            self.ht = a @ x.reshape(-1, x.shape[-1]).mT


class Group:
    """The layers that may read one input, over all banks of an adapter.

    Attributes
    ----------
    parts : for each bank the number of its group in the bank's layout, and which of its B belong
        here.
    scale : of the updates.
    """

    def __init__(self, parts: Mapping[Bank, tuple[int, tuple[int, ...]]], scale: float) -> None:
        self.parts = dict(parts)
        self.scale = scale

    def read(self, x: Tensor, hoisted: Mapping[Bank, Any], key: Hashable = None) -> Reading:
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
        return Reading(self, x, key, a, tuple(bs), entries, self.scale)


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

    def run(self, x: Tensor, output: Tensor, weight: Tensor, calls: Mapping[Bank, Call]) -> Tensor:
        """Add the update to ``output``, in place; ``weight`` is (out, in)."""
        reading, pieces = self._reading(x, calls)
        out = output.detach()
        if not torch.is_grad_enabled():
            add_in_place(out, reading.ht, pieces, reading.bs, self.group.scale)
            return out
        added: Tensor = Add.apply(
            reading.ht, [out], [weight], pieces, self.group.scale, reading.deposit, reading.bs
        )
        return added

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
            known = self.group.read(x, context.hoisted, key)
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
        return Reading(self, x, None, a, bs, books, self.group.scale)


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
    known = {}
    for bank, number in parts.items():
        assert bank.layout is not None  # only such banks are in groups
        places = (place for place in bank.layout.places if place.group == number)
        known[bank] = number, tuple(dict.fromkeys(place.second for place in places))
    return Group(known, next(iter(parts)).bound.scale)


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
        ranks[bank], seconds[bank] = start, {second: count + n for n, second in enumerate(places)}
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
