"""A tuner whose cores stand in banks: what PEFT does to its layers is done to the banks too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from tenslora.integrations.peft.housing import forget
from tenslora.integrations.peft.layers import TensLoraLinear
from tenslora.integrations.peft.mixed import adapter_names_passed
from tenslora.integrations.peft.shared import Shared
from tenslora.nn.bank import Bank

__all__ = ["BankTuner"]

_HALF = (torch.float16, torch.bfloat16)


class BankTuner(BaseTuner):
    """Activates, freezes, casts, merges and deletes adapters: layers and banks together.

    PEFT does each of these layer by layer, and knows of no cores that several layers read.
    """

    @property
    def shared(self) -> Shared:
        """The state behind the layers."""
        found = self.__dict__.get("_shared")
        if found is None:
            found = self.__dict__["_shared"] = Shared()
        return found

    @shared.setter
    def shared(self, value: Shared) -> None:
        self.__dict__["_shared"] = value

    def _cores(self, names: Sequence[str] | None = None) -> Iterator[nn.Parameter]:
        for name, banks in self.shared.adapters.items():
            if names is None or name in names:
                for bank in banks.values():
                    yield from bank.parameters()

    def _layers(self) -> list[TensLoraLinear]:
        return [m for m in self.model.modules() if isinstance(m, TensLoraLinear)]

    def _follow(self) -> None:
        """Let forwards hoist what the layers are going to use."""
        layers = self._layers()
        off = not layers or all(layer.disable_adapters or layer.merged for layer in layers)
        known = self.shared.adapters
        self.shared.default_active = (
            frozenset() if off else frozenset(self.active_adapters) & known.keys()
        )

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Make these adapters active; they are trained unless ``inference_mode``."""
        super().set_adapter(adapter_name, inference_mode=inference_mode)
        for name, banks in self.shared.adapters.items():
            required = name in self.active_adapters and not inference_mode
            for bank in banks.values():
                bank.requires_grad_(required)
        self._follow()

    def set_requires_grad(
        self, adapter_names: str | Sequence[str], requires_grad: bool = True
    ) -> None:
        """Train these adapters, or do not."""
        super().set_requires_grad(adapter_names, requires_grad)
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        for parameter in self._cores(names):
            parameter.requires_grad_(requires_grad)

    def _enable_adapter_layers(self, enabled: bool = True) -> None:
        super()._enable_adapter_layers(enabled)
        for parameter in self._cores():
            parameter.requires_grad_(False)
        if enabled:
            for parameter in self._cores(self.active_adapters):
                parameter.requires_grad_(True)
        self._follow()

    def delete_adapter(self, adapter_name: str) -> None:
        """Take an adapter off; another one becomes active where it was."""
        layers = self._layers()
        self.shared.check_unmerged(adapter_name)  # peft 0.20 does not ask
        follows = adapter_name in self.active_adapters
        follows &= not any(layer.disable_adapters for layer in layers)
        super().delete_adapter(adapter_name)
        self._forget(adapter_name)
        for parameter in self._cores(self.active_adapters) if follows else ():
            parameter.requires_grad_(True)

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        """Keep cores in float32, or give them the dtype of the base."""
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype)
        for bank in self.shared.adapters[adapter_name].values():
            weight = self._weight_of(bank)
            dtype = getattr(weight, "dtype", torch.float32)
            if autocast_adapter_dtype and bank.dtype in _HALF:
                bank.to(torch.float32)
            elif not autocast_adapter_dtype and dtype.is_floating_point:
                bank.to(dtype)

    def _weight_of(self, bank: Bank) -> Any:
        layer: Any = self.model.get_submodule(bank.sites[0].path)
        layer = layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer
        return getattr(layer, "weight", None)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        names = kwargs.pop("adapter_names", None)
        if names is None:
            yield
            return
        with adapter_names_passed(self, names, kwargs.get("num_beams")):
            yield

    def merge_adapter(
        self, adapter_names: list[str] | None = None, safe_merge: bool = False
    ) -> None:
        """Merge into the weights; with ``safe_merge`` all of them, or none.

        Raises
        ------
        AttachError
            E520 for a router; E521 for DoRA and another adapter of one layer; E512 where a merged
            weight is not finite.
        """
        self._check_mergeable(adapter_names)
        with self.shared.merging():
            if safe_merge:
                self._check_finite(adapter_names)
            super().merge_adapter(adapter_names=adapter_names, safe_merge=safe_merge)
        self._follow()

    def unmerge_adapter(self) -> None:
        """Put the weights of before back, bit for bit."""
        super().unmerge_adapter()
        self._follow()

    def _unload_and_optionally_merge(
        self,
        merge: bool = True,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
    ) -> Any:
        if merge:
            self._check_mergeable(adapter_names)
        with self.shared.merging():
            if merge and safe_merge:
                self._check_finite(adapter_names)
            model = super()._unload_and_optionally_merge(
                merge=merge,
                progressbar=progressbar,
                safe_merge=safe_merge,
                adapter_names=adapter_names,
            )
        for name in list(self.shared.adapters):
            self._forget(name)
        return model

    def _check_mergeable(self, adapter_names: list[str] | None) -> None:
        """Refuse what no layer's weight can hold before the first one is changed."""
        for layer in self._layers():
            layer.check_mergeable(adapter_names)

    def _check_finite(self, adapter_names: list[str] | None) -> None:
        for layer in self._layers():
            for name in layer.active_adapters if adapter_names is None else adapter_names:
                if name in layer.tenslora_places and name not in layer.merged_adapters:
                    layer.check_finite(name)

    def _forget(self, adapter_name: str) -> None:
        forget(self, adapter_name)
        self._follow()
