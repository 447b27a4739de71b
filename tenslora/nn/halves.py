"""The normal form of a bank: A and B of every site, and how A is shared out to groups of sites."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tenslora.nn.ledger import Hold, Ledger, lies_tall

__all__ = ["Halves", "Layout", "Matrices", "Place", "make_layout"]


class Place(NamedTuple):
    """Where a site finds its matrices.

    ``group`` of the layout; the rows ``start`` to ``stop`` of that group's A; the number ``second``
    of its B.
    """

    group: int
    start: int
    stop: int
    second: int


@dataclass(frozen=True)
class Layout:
    """How the A of all sites are laid out, one matrix for the sites that read one input.

    Attributes
    ----------
    rank : of one A.
    places : of each site.
    rows : for each group the numbers of the A that its matrix holds, one below the other.
    first, second : how many A and how many B there are; 0 where all sites share one.
    blocks : how many A each matrix holds where those of all groups are cut from one, one below the
        other; empty where they are not.
    at : which of these matrices each group has.
    """

    rank: int
    places: tuple[Place, ...]
    rows: tuple[tuple[int, ...], ...]
    first: int
    second: int
    blocks: tuple[int, ...]
    at: tuple[int, ...]

    def blocks_of(self, a: Tensor) -> tuple[Tensor, ...]:
        """The matrices that A (sites, rank, in) is cut to: views, unless several A lie tall."""
        if len(self.blocks) == 1:
            return (a.reshape(-1, a.shape[-1]),)
        if len(set(self.blocks)) == 1:
            return a.reshape(len(self.blocks), -1, a.shape[-1]).unbind(0)
        return a.reshape(-1, a.shape[-1]).split([self.rank * count for count in self.blocks])

    def share_out(self, a: Tensor) -> tuple[Tensor, ...]:
        """The matrix of each group, (rows, in), from A (sites, rank, in)."""
        if self.blocks:
            found = self.blocks_of(a)
            return tuple(found[number] for number in self.at)
        pieces = a.unbind(0)
        return tuple(
            pieces[row[0]] if len(row) == 1 else torch.cat([pieces[n] for n in row])
            for row in self.rows
        )


def make_layout(
    rank: int,
    positions: Sequence[Mapping[str, int]],
    sizes: Mapping[str, int],
    first: Sequence[str],
    second: Sequence[str],
    groups: Sequence[Sequence[int]],
) -> Layout:
    """Lay out the matrices of a bank.

    Parameters
    ----------
    rank : of A and B.
    positions : of each site on each site index.
    sizes : of the site indices.
    first, second : the site indices that A and B carry, in order.
    groups : the sites that read one input, each site in one group.

    Examples
    --------
    >>> sites = [{"layer": n // 2, "proj": n % 2} for n in range(4)]
    >>> sizes = {"layer": 2, "proj": 2}
    >>> layout = make_layout(4, sites, sizes, ["layer"], ["layer", "proj"], [(0, 1), (2, 3)])
    >>> layout.rows, layout.places[3]
    (((0,), (1,)), Place(group=1, start=0, stop=4, second=3))
    """
    rows, places = [], dict[int, Place]()
    for number, members in enumerate(groups):
        row = tuple(dict.fromkeys(_flat(positions[n], sizes, first) for n in members))
        rows.append(row)
        for n in members:
            start = rank * row.index(_flat(positions[n], sizes, first))
            places[n] = Place(number, start, start + rank, _flat(positions[n], sizes, second))
    firsts = math.prod(sizes[s] for s in first) if first else 0
    seconds = math.prod(sizes[s] for s in second) if second else 0
    every = tuple(places[n] for n in range(len(positions)))
    different = sorted(set(rows))
    blocks: tuple[int, ...] = ()
    at: tuple[int, ...] = ()
    if [n for row in different for n in row] == list(range(max(1, firsts))):
        blocks, at = tuple(map(len, different)), tuple(map(different.index, rows))
    return Layout(rank, every, tuple(rows), firsts, seconds, blocks, at)


def _flat(position: Mapping[str, int], sizes: Mapping[str, int], names: Sequence[str]) -> int:
    number = 0
    for name in names:
        number = number * sizes[name] + position[name]
    return number


class Matrices(NamedTuple):
    """A and B in one dtype.

    ``a`` holds the matrix (rows, in) of each group, ``b`` the matrices (rank, out). Their gradients
    are added up in ``firsts`` and ``seconds``; ``None`` where autograd does it.
    """

    a: tuple[Tensor, ...]
    b: tuple[Tensor, ...]
    firsts: Ledger | None = None
    seconds: Ledger | None = None


class Halves:
    """A and B of one forward, taken apart once: ``W[site] = B.mT @ A``, not scaled.

    Attributes
    ----------
    a : the matrix (rows, in) of each group.
    b : the matrices (rank, out).
    dtype, device : of all of them.
    """

    __slots__ = ("_made", "_plain", "_whole", "a", "b", "device", "dtype", "layout")

    def __init__(self, layout: Layout, a: Tensor, b: Tensor) -> None:
        self.layout, self._whole = layout, (a, b)
        self.dtype, self.device = a.dtype, a.device
        self.a, self.b = self._apart(a, b)
        self._plain = Matrices(self.a, self.b)
        self._made: dict[Hashable, Matrices] = {}

    def matrices(self, dtype: torch.dtype, *, held: bool) -> Matrices:
        """Return A and B in a dtype; ``held`` gives them ledgers for their gradients.

        They are made once. The call must not stand in a transform, nor in a part without gradients
        of a forward with them.
        """
        if dtype is self.dtype and not held:
            return self._plain
        key = dtype, held, torch.is_inference_mode_enabled()
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = self._make(dtype) if held else self._cast(dtype)
        return found

    def of(self, site: int) -> tuple[Tensor, Tensor]:
        """A (rank, in) and B (rank, out) of one site."""
        place = self.layout.places[site]
        a = self.a[place.group]
        if a.shape[0] != self.layout.rank:
            a = a[place.start : place.stop]
        return a, self.b[place.second]

    def forget(self) -> None:
        """Let go of what was copied."""
        self._made.clear()

    def tensors(self) -> Iterator[Tensor]:
        """Yield every A and every B."""
        yield from self.a
        yield from self.b

    def _apart(self, a: Tensor, b: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        # indexing would write a full gradient for each site
        return self.layout.share_out(a), b.unbind(0) if self.layout.second else (b,)

    def _cast(self, dtype: torch.dtype) -> Matrices:
        a, b = self._whole
        return Matrices(*self._apart(a.to(dtype), b.to(dtype)))

    def _make(self, dtype: torch.dtype) -> Matrices:
        layout, (a, b) = self.layout, self._whole
        firsts: Ledger | None = None
        seconds: Ledger | None = None
        if a.requires_grad and layout.blocks:
            firsts = Ledger(a, layout.blocks_of)
            a = Hold.apply(a, firsts, dtype)
        if b.requires_grad:
            seconds = Ledger(b, _unbind if layout.second else _alone)
            b = Hold.apply(b, seconds, dtype)
            if lies_tall(b) and not b.is_cuda:
                seconds.tall = b.detach()
        return Matrices(*self._apart(a.to(dtype), b.to(dtype)), firsts, seconds)


def _unbind(whole: Tensor) -> tuple[Tensor, ...]:
    return whole.unbind(0)


def _alone(whole: Tensor) -> tuple[Tensor, ...]:
    return (whole,)
