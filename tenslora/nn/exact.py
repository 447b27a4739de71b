"""Updates as they are added to weights: computed in float64, and rounded once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from tenslora.nn.bank import Bank
from tenslora.nn.finite import greatest
from tenslora.nn.halves import Halves
from tenslora.nn.site import Site
from tenslora.nn.spans import view
from tenslora.nn.wrappers import Runner, runner_of

__all__ = ["ExactBank", "Piece", "cannot_overflow", "merged_weight"]

#: So many entries of a weight are merged at a time. On a CPU they stay in the cache.
_ENTRIES = {"cpu": 2**18}
_ENTRIES_ELSEWHERE = 2**24


class ExactBank:
    """A bank whose updates are computed for merging: in float64 where the device has it."""

    def __init__(self, bank: Bank, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.bank, self._like = bank, torch.empty(0, dtype=dtype, device=device)
        self._last: tuple[int, Tensor] | None = None
        self._most: float | None = None
        self._buffer = self._like
        with _no_autocast(device):
            cores = {name: core.detach().to(self._like) for name, core in bank.cores().items()}
            self._hoisted = bank.hoist(cores)

    @property
    def runner(self) -> Runner | None:
        """What runs the wrapper that the bank stands in, if it does."""
        return runner_of(self.bank)

    def update(self, number: int) -> Tensor:
        """Return scale * W (out, in) of one site."""
        if self._last is None or self._last[0] != number:
            with _no_autocast(self._like.device):
                made = self.bank.bound.scale * self.bank.dense(number, self._hoisted, self._like)
            self._last = number, made
        return self._last[1]

    def greatest(self, number: int) -> float:
        """What no entry of the update of one site is beyond; infinite or NaN where one may be.

        Of x A B that is the rank times the greatest of A times the greatest of B, of all sites
        where that is finite.
        """
        held = self._hoisted
        if not isinstance(held, Halves):
            return greatest(self.update(number))
        if self._most is None:
            self._most = self._beyond(held.a, held.b)
        if math.isfinite(self._most):
            return self._most
        a, b = held.of(number)
        return self._beyond([a], [b])

    def _beyond(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
        return abs(self.bank.bound.scale) * b[0].shape[0] * greatest(*a) * greatest(*b)

    def add_to(self, value: Tensor, number: int, source: Tensor | None = None) -> None:
        """Add scale * W to the rows and columns of a weight that a site covers, rounding once.

        Some rows are done at a time, in a buffer that is kept for the next site.

        Parameters
        ----------
        value : what is written, in the layout of the module.
        number : of the site.
        source : what the update is added to, if it is not ``value``.
        """
        site = self.bank.sites[number]
        place = _place(value, site)
        old = place if source is None else _place(source, site)
        count, each = place.shape[:2]
        columns = math.prod(place.shape[2:])
        many = max(1, _ENTRIES.get(value.device.type, _ENTRIES_ELSEWHERE) // (each * columns))
        buffer = self._room((min(many, count), *place.shape[1:]), value.device)
        with _no_autocast(value.device):
            add = self._adder(number, value.device, count * each, columns)
            for start in range(0, count, many):
                part = buffer[: count - start].copy_(old[start : start + many])
                add(part.view(-1, columns), start * each)
                place[start : start + many].copy_(part)

    def _room(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """A tensor without values; the last one with others, if it was large enough."""
        entries = math.prod(shape)
        if self._buffer.numel() < entries or self._buffer.device != device:
            self._buffer = self._like.new_empty(entries, device=device)
        return self._buffer[:entries].view(shape)

    def _adder(
        self, number: int, device: torch.device, rows: int, columns: int
    ) -> Callable[[Tensor, int], object]:
        """A function that adds to some rows of the weight, from a given one on."""
        transposed, scale = self.bank.sites[number].transposed, self.bank.bound.scale
        if not isinstance(self._hoisted, Halves):
            update = self.update(number).to(device)
            update = update.mT if transposed else update
            return lambda part, start: part.add_(update[start : start + len(part)])
        a, b = (half.to(device) for half in self._hoisted.of(number))
        first, second = (a, b) if transposed else (b, a)
        left, right = first[:, :rows].mT, second[:, :columns]
        return lambda part, start: part.addmm_(left[start : start + len(part)], right, alpha=scale)

    def put_wrapped(self, value: Tensor, number: int, runner: Runner) -> None:
        """Write the rows and columns of a weight that a wrapper makes of it, rounding once."""
        site, update = self.bank.sites[number], self.update(number)
        matrix = value.mT if site.transposed else value
        place = view(view(matrix, 1, site.columns), 0, site.rows)
        with _no_autocast(value.device):
            weight = place.reshape(update.shape).to(update)
            made = runner.new_weight(self.bank, number, weight, update)
        place.copy_(made.reshape(place.shape))


#: A site: its bank, and its number there.
Piece = tuple[ExactBank, int]


def merged_weight(weight: Tensor, pieces: Sequence[Piece], value: Tensor | None = None) -> Tensor:
    """A new tensor: a weight, in the layout of its module, with the updates of its sites.

    A weight that one site covers is read once and written once. ``value`` is a tensor without
    values to write to.
    """
    value = torch.empty_like(weight, requires_grad=False) if value is None else value
    (exact, number), *_ = pieces
    site = exact.bank.sites[number]
    if site.rows is None and site.columns is None and exact.runner is None:
        exact.add_to(value, number, weight)
        return value
    value.copy_(weight)
    for exact, number in pieces:
        if exact.runner is None:
            exact.add_to(value, number)
        else:
            exact.put_wrapped(value, number, exact.runner)
    return value


def cannot_overflow(pieces: Iterable[Piece], dtype: torch.dtype) -> bool:
    """Whether no finite weight of this dtype becomes infinite or NaN by its updates.

    So it is where less than half of the last place of the greatest number is added. That is seen on
    A and B alone; ``False`` says nothing.
    """
    info = torch.finfo(dtype)
    return all(
        exact.runner is None and exact.greatest(number) < info.max * info.eps / 8
        for exact, number in pieces
    )


def _place(value: Tensor, site: Site) -> Tensor:
    """The part of a weight that a site covers: blocks, rows in a block, columns."""
    rows, columns = site.rows, site.columns
    if site.transposed:
        rows, columns = columns, rows
    found = view(view(value, 1, columns), 0, rows)
    return found if rows is not None and len(rows) == 4 else found.unsqueeze(1)


@contextmanager
def _no_autocast(device: torch.device) -> Iterator[None]:
    with torch.autocast(device.type, enabled=False):
        yield
