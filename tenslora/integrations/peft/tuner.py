"""The tuner: PEFT's calls, answered by the banks of :mod:`tenslora.nn`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from peft.tuners.tuners_utils import (
    BaseTuner,
    BaseTunerLayer,
    _maybe_include_all_linear_layers,
    check_target_module_exists,
)
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from peft.utils.integrations import init_empty_weights
from torch import nn

from tenslora.errors import AttachError
from tenslora.init import draw, parse_rule
from tenslora.integrations.peft.config import TensLoraConfig
from tenslora.integrations.peft.layers import Place, TensLoraLinear
from tenslora.integrations.peft.mixed import adapter_names_passed
from tenslora.integrations.peft.placing import place, site_map, unwrapped
from tenslora.integrations.peft.shared import Shared
from tenslora.nn.attaching import make_banks
from tenslora.nn.bank import Bank
from tenslora.nn.design import Design
from tenslora.nn.groups import find_members
from tenslora.nn.hooks import Piece

__all__ = ["TensLoraModel"]

_HALF = (torch.float16, torch.bfloat16)


class TensLoraModel(BaseTuner):
    """The tuner of one model. Each core stands on it once, layers look them up.

    A bank is ``tuner.tenslora_<out>x<in>[adapter]``: PEFT's own code then finds the name of the
    adapter where it looks for it, and a checkpoint holds ``base_model.tenslora_768x768.A``.
    """

    uses_shared_state = True
    prefix = "tenslora_"
    tuner_layer_cls = TensLoraLinear
    target_module_mapping: Any = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    @property
    def shared(self) -> Shared:
        """The state behind the layers."""
        found = self.__dict__.get("_shared")
        if found is None:
            found = self.__dict__["_shared"] = Shared()
        return found

    def inject_adapter(  # type: ignore[override]
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        **more: Any,
    ) -> None:
        """Put an adapter on the model: everything is checked before anything changes.

        Raises
        ------
        TensloraError
            As :func:`tenslora.attach` says; the model is then as it was before.
        """
        config: Any = self.peft_config[adapter_name]
        self._check_second(model)
        with unwrapped(model, TensLoraLinear):
            config = self._prepare_adapter_config(config, self.get_model_config(model))
            config = _maybe_include_all_linear_layers(config, model)
            design = place(config, model)
            banks: dict[str, Bank] = {}
            if design is not None:
                self._check_name(adapter_name, design)
                with init_empty_weights() if low_cpu_mem_usage else nullcontext():
                    banks = _banks(model, design, adapter_name, config)
                config.places = frozenset(site.path for site in design.sites)
                config.resolved = site_map(model, design)
                _set_layout(config, design)
        others = [(p, p.requires_grad) for p in self._cores()]
        self._enter(adapter_name, banks)
        try:
            options = {"low_cpu_mem_usage": low_cpu_mem_usage, **more}
            super().inject_adapter(model, adapter_name, autocast_adapter_dtype, **options)
        except BaseException:
            self._forget(adapter_name)
            raise
        for parameter, required in others:
            parameter.requires_grad_(required)

    def _check_second(self, model: nn.Module) -> None:
        layers = [m for m in model.modules() if isinstance(m, TensLoraLinear)]
        if any(layer.shared is not self.shared for layer in layers):
            what = "the model has adapters of another tuner of tenslora, which owns their cores"
            advice = "Use add_adapter on the PeftModel that you have, or unload() it first."
            raise AttachError("E534", what, advice=advice)

    def _check_name(self, adapter_name: str, design: Design) -> None:
        """PEFT tells adapters in a state dict by their names: a core may not have one of them."""
        banks = [bank for groups in self.shared.adapters.values() for bank in groups.values()]
        cores = {name for bank in banks for name in bank.bound.network.cores}
        taken = {adapter_name} & (cores | set(design.family.network.cores))
        taken |= set(self.peft_config) & set(design.family.network.cores)
        if taken:
            what = f"{taken.pop()!r} is the name of an adapter and of a core"
            raise AttachError("E535", what, advice="Give the adapter another name.")

    def _enter(self, adapter_name: str, banks: dict[str, Bank]) -> None:
        if not self.shared.adapters:
            self.shared.install(self.model)
        for group, bank in banks.items():
            name = f"{self.prefix}{group}"
            if name not in self._modules:
                self.add_module(name, nn.ModuleDict())
            self._modules[name][adapter_name] = bank  # type: ignore[index,operator]
        self.shared.adapters[adapter_name] = banks
        self.shared.members[adapter_name] = find_members(banks.values())

    def _forget(self, adapter_name: str) -> None:
        for group in self.shared.adapters.pop(adapter_name, {}):
            self.shared.members.pop(adapter_name, None)
            held: Any = self._modules[f"{self.prefix}{group}"]
            if adapter_name in held:
                del held[adapter_name]
            if not held:
                del self._modules[f"{self.prefix}{group}"]
        if not self.shared.adapters:
            self.shared.uninstall(self.model)
        self._follow()

    @staticmethod
    def _check_target_module_exists(peft_config: Any, key: str) -> Any:
        if peft_config.places is not None and key in peft_config.places:
            return True
        found = check_target_module_exists(peft_config, key)
        return found if peft_config.places is None or not found else False

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        pieces = self._pieces(adapter_name, current_key)
        member = self.shared.members[adapter_name].get(current_key)
        found = Place(self.shared, current_key, pieces, member)
        if isinstance(target, TensLoraLinear):
            target.update_layer(adapter_name, found, inference_mode=peft_config.inference_mode)
            return
        layer = TensLoraLinear(target, self.shared)
        layer._active_adapter = adapter_name
        layer.update_layer(adapter_name, found, inference_mode=peft_config.inference_mode)
        self._replace_module(parent, target_name, layer, target)

    def _pieces(self, adapter_name: str, path: str) -> list[Piece]:
        pieces: list[Piece] = [
            (site.rows, bank, number)
            for bank in self.shared.adapters[adapter_name].values()
            for number, site in enumerate(bank.sites)
            if site.path == path
        ]
        return sorted(pieces, key=lambda piece: piece[0] or ())

    # what PEFT does to the layers is done to the banks too

    def _cores(self, names: Sequence[str] | None = None) -> Iterator[nn.Parameter]:
        for name, banks in self.shared.adapters.items():
            if names is None or name in names:
                for bank in banks.values():
                    yield from bank.parameters()

    def _follow(self) -> None:
        """Let forwards hoist what the layers are going to use."""
        layers = [m for m in self.model.modules() if isinstance(m, TensLoraLinear)]
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
        super().delete_adapter(adapter_name)
        self._forget(adapter_name)
        for parameter in self._cores(self.active_adapters):
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
        """Merge into the weights; with ``safe_merge`` all of them, or none."""
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

    def _check_finite(self, adapter_names: list[str] | None) -> None:
        for layer in self.model.modules():
            if isinstance(layer, TensLoraLinear):
                for name in layer.active_adapters if adapter_names is None else adapter_names:
                    if name in layer.tenslora_places and name not in layer.merged_adapters:
                        layer.merged_weight(name, safe=True)


def _banks(model: nn.Module, design: Design, name: str, config: TensLoraConfig) -> dict[str, Bank]:
    banks = make_banks(model, design, name, seed=config.seed, keep_frozen=config.save_frozen)
    if not config.init_weights:
        for group in design.groups:
            _draw_zeros(banks[group.name], config.seed, f"{design.key(group)}/{name}")
    return banks


def _draw_zeros(bank: Bank, seed: int, key: str) -> None:
    """Give cores that start at zero random values."""
    bound = bank.bound
    for name, core in bank.cores().items():
        if bound.family.init[name].is_zero and not core.is_meta:
            network = bound.network
            values = draw(
                parse_rule("xavier"), network.cores[name], network, bound.sizes, seed, key
            )
            with torch.no_grad():
                core.copy_(torch.from_numpy(values))


def _set_layout(config: TensLoraConfig, design: Design) -> None:
    transposed = any(site.transposed for site in design.sites)
    if config.fan_in_fan_out and not transposed:
        what = "fan_in_fan_out is set to True but the target module is `torch.nn.Linear`. "
        warnings.warn(what + "Setting fan_in_fan_out to False.", stacklevel=2)
    config.fan_in_fan_out = transposed
