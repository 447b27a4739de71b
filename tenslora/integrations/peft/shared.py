"""What all layers of one tuner share: the banks, and the contexts of forwards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from tenslora.nn.bank import Bank
from tenslora.nn.context import OVERRIDES, Contexts
from tenslora.nn.groups import Member
from tenslora.nn.hooks import ForwardEnd, ForwardStart, remove_hooks
from tenslora.nn.merge import ExactBank

__all__ = ["Shared"]


class Shared:
    """The state behind the layers of one tuner. A plain object, so that no layer registers it.

    The banks stand as modules on the tuner; here they are found by adapter and shape. A deep copy
    of the model copies both together.
    """

    def __init__(self) -> None:
        self.contexts = Contexts()
        self.adapters: dict[str, dict[str, Bank]] = {}
        self.members: dict[str, dict[str, Member]] = {}
        self.running: frozenset[str] = frozenset()
        self._exact: dict[Bank, ExactBank] | None = None
        self._start, self._end = ForwardStart(self), ForwardEnd(self)  # type: ignore[arg-type]

    def active_names(self) -> frozenset[str]:
        """The adapters whose hoisted parts a forward of the model makes."""
        return OVERRIDES.get().get(self, self.running)

    def banks(self) -> Mapping[str, Iterable[Bank]]:
        """The banks of every adapter."""
        return {name: groups.values() for name, groups in self.adapters.items()}

    def install(self, model: nn.Module) -> None:
        """Open and close a context around each forward of the model."""
        model.register_forward_pre_hook(self._start)
        model.register_forward_hook(self._end, always_call=True)

    def uninstall(self, model: nn.Module) -> None:
        """Undo :meth:`install`."""
        remove_hooks(model, [self._start, self._end])

    @contextmanager
    def override(self, names: Collection[str]) -> Iterator[None]:
        """Run these adapters inside a ``with`` block, in this thread or task."""
        token = OVERRIDES.set({**OVERRIDES.get(), self: frozenset(names)})
        try:
            yield
        finally:
            OVERRIDES.reset(token)

    @contextmanager
    def merging(self) -> Iterator[None]:
        """Compute what does not depend on the layer once, for all layers that merge in a block."""
        before, self._exact = self._exact, {} if self._exact is None else self._exact
        try:
            yield
        finally:
            self._exact = before

    def exact(self, bank: Bank, device: torch.device) -> ExactBank:
        """The bank as it is merged."""
        if self._exact is None:
            return ExactBank(bank, device)
        if bank not in self._exact:
            self._exact[bank] = ExactBank(bank, device)
        return self._exact[bank]
