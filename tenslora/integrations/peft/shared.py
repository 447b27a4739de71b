"""What all layers of one tuner share: the banks, and the contexts of forwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from tenslora.errors import AttachError
from tenslora.nn.bank import Bank
from tenslora.nn.exact import ExactBank
from tenslora.nn.groups import Member
from tenslora.nn.norms import NormHook, norms_of
from tenslora.nn.reading import Group
from tenslora.nn.switch import Switch
from tenslora.nn.team import Team

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
        self.teams: dict[str, dict[Group, Team]] = {}
        self.configs: dict[str, Any] = {}
        self.norm_hook = NormHook(self)
        self.on_tuner: set[str] = set()  # of the adapters, those whose banks stand there
        self.merged: set[tuple[str, str]] = set()  # adapters, and the modules they are merged into
        # a handle finds the hooks of a copy in the copy
        self._ends: list[RemovableHandle] = []
        self._norms: list[RemovableHandle] = []
        self._exact: dict[Bank, ExactBank] | None = None

    def banks(self) -> Mapping[str, Iterable[Bank]]:
        """The banks of every adapter."""
        return {name: groups.values() for name, groups in self.adapters.items()}

    def stand(self, root: nn.Module) -> None:
        """Watch the forwards of a model and, for adapters that recompute, its normalisations."""
        if self._start not in root._forward_pre_hooks.values():
            self._ends = [
                root.register_forward_pre_hook(self._start),
                root.register_forward_hook(self._end, always_call=True),
            ]
        for module in norms_of(root) if self._recomputes() else ():
            if self.norm_hook not in module._forward_hooks.values():
                self._norms.append(module.register_forward_hook(self.norm_hook))

    def _recomputes(self) -> bool:
        return any(bank.recompute for banks in self.banks().values() for bank in banks)

    def check_unmerged(self, adapter_name: str) -> None:
        """Refuse to delete an adapter that is merged into any layer.

        Raises
        ------
        AttachError
            E511.
        """
        if any(name == adapter_name for name, _ in self.merged):
            what = f"Cannot delete adapter(s) {[adapter_name]} while they are merged. "
            raise AttachError("E511", f"{what}Please unmerge them first.")

    def drop(self, adapter_name: str) -> None:
        """Forget an adapter; with the last one go the hooks."""
        self.adapters.pop(adapter_name, None)
        self.members.pop(adapter_name, None)
        self.teams.pop(adapter_name, None)
        self.configs.pop(adapter_name, None)
        self.on_tuner.discard(adapter_name)
        self.default_active -= {adapter_name}
        self.merged = {pair for pair in self.merged if pair[0] != adapter_name}
        if not self._recomputes():
            _remove(self._norms)
        if not self.adapters:
            _remove(self._ends)

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


def _remove(handles: list[RemovableHandle]) -> None:
    while handles:
        handles.pop().remove()
