"""What all layers of one tuner share: the banks, and the contexts of forwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from tenslora.nn.bank import Bank
from tenslora.nn.exact import ExactBank
from tenslora.nn.groups import Member
from tenslora.nn.norms import NormHook
from tenslora.nn.switch import Switch

__all__ = ["Shared"]


class Shared(Switch):
    """The state behind the layers of one tuner. A plain object, so that no layer registers it.

    The banks stand as modules on the tuner, or on layers; here they are found by adapter and shape.
    A deep copy of the model copies both together. Each layer says by itself which adapters it uses;
    those that are active here are the ones whose hoisted parts a forward makes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.adapters: dict[str, dict[str, Bank]] = {}
        self.members: dict[str, dict[str, Member]] = {}
        self.configs: dict[str, Any] = {}
        self.norm_hook = NormHook(self)
        self.on_tuner: set[str] = set()  # of the adapters, those whose banks stand there
        self._exact: dict[Bank, ExactBank] | None = None

    def banks(self) -> Mapping[str, Iterable[Bank]]:
        """The banks of every adapter."""
        return {name: groups.values() for name, groups in self.adapters.items()}

    def drop(self, adapter_name: str) -> None:
        """Forget an adapter."""
        self.adapters.pop(adapter_name, None)
        self.members.pop(adapter_name, None)
        self.configs.pop(adapter_name, None)
        self.on_tuner.discard(adapter_name)
        self.default_active -= {adapter_name}

    def heed(self, active: Iterable[str]) -> None:
        """Hoist what a layer uses from now on; every layer is told the same, one by one."""
        self.default_active = frozenset(active) & self.adapters.keys()

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
