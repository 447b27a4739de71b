"""The callables that torch runs around forwards. Plain objects: a deep copy of a model copies them.

A hook on a target module adds ``scale * update`` to its output; two hooks on the root open and
close the context of a forward. The module tree does not change.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tenslora.nn.context import Call
from tenslora.nn.spans import Span, spread, take

if TYPE_CHECKING:
    from tenslora.nn.bank import Bank
    from tenslora.nn.registry import Registry

__all__ = ["ForwardEnd", "ForwardStart", "Piece", "SiteHook", "remove_hooks"]

#: The rows of a module (``None``: all), the bank, the number of the site in it.
Piece = tuple[Span | None, "Bank", int]


class SiteHook:
    """Adds an adapter's update to the output of one target module.

    ``pieces`` holds, in the order of their rows, the sites that lie in the module.
    """

    def __init__(self, registry: Registry, path: str, pieces: list[Piece]) -> None:
        self.registry = registry
        self.path = path
        self.pieces = pieces

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor
    ) -> Tensor | None:
        """Return the output with the update, ``None`` (unchanged) where the adapter is off."""
        x = args[0] if args else next(iter(kwargs.values()))
        return self.apply(x, output, self.registry.active_names())

    def apply(self, x: Tensor, output: Tensor, active: Container[str]) -> Tensor | None:
        """Return ``output`` with the update for x (..., in), where ``active`` holds the adapter."""
        updates = []
        for rows, bank, site in self.pieces:
            call = self.registry.contexts.enter(self.path, bank, bank.adapter in active)
            if call is None:
                return None
            updates.append((rows, bank.bound.scale, self._update(bank, site, x, call)))
        if len(updates) == 1 and updates[0][0] is None:
            _, scale, update = updates[0]
            return _add(output, update, scale)
        return _add_rows(output, updates)

    @staticmethod
    def _update(bank: Bank, site: int, x: Tensor, call: Call) -> Tensor:
        x = take(x, -1, bank.sites[site].columns)
        update = bank.update(site, x, call)
        return update.reshape(*x.shape[:-1], update.shape[-1])


def _add(output: Tensor, update: Tensor, scale: float) -> Tensor:
    """Add in the wider of the two dtypes, and round once to the output's."""
    return torch.add(output, update, alpha=scale).to(output.dtype)


def _add_rows(output: Tensor, updates: list[tuple[Span | None, float, Tensor]]) -> Tensor:
    scales = {scale for _, scale, _ in updates}
    ranges = [rows for rows, _, _ in updates if rows is not None and len(rows) == 2]
    if len(ranges) < len(updates) or any(a[1] > b[0] for a, b in itertools.pairwise(ranges)):
        scaled = ((rows, scale * update) for rows, scale, update in updates)
        return _add(output, spread(output.shape[-1], scaled), 1.0)
    ends = [0, *(stop for _, stop in ranges)]
    whole = all(start == end for (start, _), end in zip(ranges, ends, strict=False))
    if whole and ends[-1] == output.shape[-1] and len(scales) == 1:
        return _add(output, torch.cat([update for _, _, update in updates], -1), scales.pop())
    pieces, end = [], 0
    for (start, stop), (_, scale, update) in zip(ranges, updates, strict=True):
        pieces.append(output[..., end:start])
        pieces.append(_add(output[..., start:stop], update, scale))
        end = stop
    return torch.cat([*pieces, output[..., end:]], -1)


class ForwardStart:
    """Runs before the root's forward."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Open the context of this forward."""
        registry = self.registry
        registry.contexts.open(registry.active_names(), registry.banks())


class ForwardEnd:
    """Runs after the root's forward, also when it raised."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Close it."""
        self.registry.contexts.close()


def remove_hooks(module: nn.Module, hooks: list[Any]) -> None:
    """Take ``hooks`` off ``module``, found by identity, so that it works in a deep copy too."""
    for table in (module._forward_hooks, module._forward_pre_hooks):
        for key, hook in list(table.items()):
            if any(hook is mine for mine in hooks):
                del table[key]
                for name in _SIDE_TABLES:
                    getattr(module, name, {}).pop(key, None)


_SIDE_TABLES = (
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
)
