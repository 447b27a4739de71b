"""Layers that read one input: what they share, and how their updates are run together.

That two layers get the same tensor is never taken for granted. The group says which layers may; in
each call the tensor itself is compared, and so is everything else that has to be the same: its
version, autocast, the backward pass and the checkpointed segment that the call belongs to.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tenslora.nn.autograd import autocast_state, moment_of, saved_tensor_frame
from tenslora.nn.context import Call, SharedInput
from tenslora.nn.gradients import NARROW, Books, Piece, add_updates, can_add
from tenslora.nn.grid import input_key
from tenslora.nn.product import Add, Again, Work
from tenslora.nn.reading import Factors, Group, Reading, read
from tenslora.nn.spans import collide

if TYPE_CHECKING:
    from tenslora.nn.bank import Bank
    from tenslora.nn.context import ForwardContext
    from tenslora.nn.site import Site

__all__ = ["Member", "find_members"]


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
        ends = list(itertools.accumulate(group.widths, initial=0))
        self.parts = tuple((p.rows, ends.index(p.start), p.second) for p in pieces)
        starts = sorted({p.start for p in own})
        self._own_parts = tuple((p.rows, starts.index(p.start), p.second) for p in own)
        # without the factor 1 an operation has less to do
        self._alpha: dict[str, Any] = {} if group.scale == 1 else {"alpha": group.scale}

    def fits(self, x: Tensor, output: Tensor, weight: Tensor) -> bool:
        """Whether the update can be added to the output: by its dtype and device."""
        bank = self.first
        cast, out = autocast_state(x.device.type), output.dtype
        if self.group.dropout() is None:
            return False
        if cast is None:
            right = x.dtype is out and weight.dtype is out and can_add(bank.dtype, out)
        else:
            others = x.dtype, weight.dtype, bank.dtype
            right = out is cast and all(t is torch.float32 or t in NARROW for t in others)
        return right and x.device == output.device == weight.device == bank.device

    def run_quiet(
        self, x: Tensor, output: Tensor, weight: Tensor, context: ForwardContext
    ) -> Tensor | None:
        """As :meth:`run`, in plain eager mode; ``None`` where more has to be asked."""
        reading = context.readings.get(self.first)
        if (
            reading is None
            or reading.x is not x
            or reading.key != moment_of(x)
            or reading.group is not self.group
            or reading.training is not self.first.training
        ):
            reading = self._read_quietly(x, context)
            if reading is None:
                return None
            context.readings[self.first] = reading
        return self._added(reading, output, weight)

    def _read_quietly(self, x: Tensor, context: ForwardContext) -> Reading | None:
        group = self.group
        dropout = group.dropout()
        if dropout is None or x.is_inference():
            return None
        hoisted: Mapping[Bank, Any] = context.hoisted  # halves: a group has no other banks
        dtype = group.dtype_for(x, hoisted)
        if dtype is None:
            return None
        return group.read(x, hoisted, moment_of(x), dtype, dropout, context.normed)

    def _added(
        self, reading: Reading, output: Tensor, weight: Tensor, *, own: bool = False
    ) -> Tensor:
        """The output with the update, in place where that is best."""
        thins, bs = reading.thins, reading.bs
        parts = self._own_parts if own else self.parts
        deposit = reading.deposit
        if deposit is not None:
            pieces, scale = self.own if own else self.pieces, self.group.scale
            work = Work(output.detach(), weight, pieces, parts, scale, deposit, thins, bs)
            added: Tensor = Add.apply(reading.ht, work)
            return added
        flat = output if output.ndim == 2 else output.view(-1, output.shape[-1])
        if torch.is_grad_enabled():
            ((_, part, second),) = parts
            out = torch.addmm(flat, thins[part], bs[second], **self._alpha)
            return out if output.ndim == 2 else out.view(output.shape)
        add_updates(flat, parts, thins, bs, self.group.scale)
        return output

    def run(self, x: Tensor, output: Tensor, weight: Tensor, calls: Mapping[Bank, Call]) -> Tensor:
        """Add the update to ``output``, in place; ``weight`` is (out, in)."""
        cast = autocast_state(x.device.type)
        dtype = cast or self.first.dtype
        weight = weight if cast is None else as_run(output, weight)
        call = calls[self.sites[0][0]]
        context = call.context
        key = None
        if context is not None:
            key = SharedInput.key_of(x, call.moment, self.first.training)
        if key is None or context is None:
            return self._added(self._alone(x, calls, dtype), output, weight, own=True)
        known = context.readings.get(self.first)
        if known is None or known.group is not self.group or known.x is not x or known.key != key:
            dropout = self.group.dropout() or 0.0
            known = self.group.read(x, context.hoisted, key, dtype, dropout, context.normed)
            context.readings[self.first] = known
        return self._added(known, output, weight)

    def _alone(self, x: Tensor, calls: Mapping[Bank, Call], dtype: torch.dtype) -> Reading:
        """Read x for this layer alone: nothing may be shared, or the hoisted part is its own."""
        hoisted: dict[Bank, Any] = {}
        for bank, call in calls.items():
            hoisted[bank] = bank.hoist() if call.hoisted is None else call.hoisted
        firsts = [hoisted[bank].of(site)[0].to(dtype) for bank, site in self.firsts]
        bs = tuple(hoisted[bank].of(site)[1].to(dtype) for bank, site in self.sites)
        noted = self.group.notes(x, dtype)
        a = firsts[0] if len(firsts) == 1 else torch.cat(firsts)
        books = Books(None, (None,) * len(bs)) if noted else None
        factors = Factors(a, [first.shape[0] for first in firsts], bs, books)
        dropout = self.group.dropout() or 0.0
        again = Again(None) if self.first.recompute else None
        return read(self, x, None, factors, self.group.scale, dropout, self.first.training, again)


def as_run(output: Tensor, weight: Tensor) -> Tensor:
    """The weight as a layer has cast it under autocast, where the graph has kept that."""
    node = output.grad_fn
    if weight.dtype is output.dtype or saved_tensor_frame() is not None:
        return weight
    for _ in range(2):  # the product, or a view of it
        found: Tensor | None = getattr(node, "_saved_mat2", None)
        if found is not None:
            fits = found.dtype is output.dtype and found.mT.shape == weight.shape
            return found.mT if fits else weight
        node = node.next_functions[0][0] if node is not None and node.next_functions else None
    return weight


def find_members(banks: Iterable[Bank]) -> dict[str, Member]:
    """The layers that can be run with an update in place, by path.

    Those are covered whole, or by ranges of rows, and their banks have a normal form
    and stand in no wrapper.
    """
    keys: dict[tuple[object, ...], dict[Bank, int]] = {}
    sites: dict[str, list[tuple[Site, Bank, int]]] = {}
    for bank in banks:
        bank.prepare()
        if bank.wrapper is not None:
            continue
        for number, site in enumerate(bank.sites):
            sites.setdefault(site.path, []).append((site, bank, number))
            if bank.layout is not None:
                keys.setdefault(_key(site, bank), {}).setdefault(
                    bank, bank.layout.places[number].group
                )
    groups = {key: _group(parts) for key, parts in keys.items()}
    found = {}
    for path, held in sites.items():
        if _fits(held):
            site, bank, _ = held[0]
            group = groups[_key(site, bank)]
            group.whole = group.whole and len(held) == 1 and site.rows is None
            found[path] = _member(group, held)
    return found


def _key(site: Site, bank: Bank) -> tuple[object, ...]:
    """Equal for sites whose updates may be made of one thin product."""
    return *input_key(site), site.in_features, bank.bound.scale


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
