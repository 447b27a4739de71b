"""The tuner: PEFT's calls, answered by the banks of :mod:`tenslora.nn`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from peft.config import PeftConfig
from peft.tuners.tuners_utils import (
    BaseTuner,
    BaseTunerLayer,
    _maybe_include_all_linear_layers,
    check_target_module_exists,
)
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from peft.utils.integrations import init_empty_weights
from torch import Tensor, nn

from tenslora.integrations.peft.checking import check_file, check_state
from tenslora.integrations.peft.configs import Configs
from tenslora.integrations.peft.housing import (
    check_house,
    check_name,
    check_new,
    enter,
    forget,
    join,
    left_as_it_was,
)
from tenslora.integrations.peft.layers import Place, TensLoraLinear
from tenslora.integrations.peft.making import new_banks, set_layout
from tenslora.integrations.peft.mixed import adapter_names_passed
from tenslora.integrations.peft.placing import no_match, place, site_map, unwrapped
from tenslora.integrations.peft.shared import Shared
from tenslora.nn.bank import Bank
from tenslora.nn.hooks import Piece

__all__ = ["TensLoraModel"]

_HALF = (torch.float16, torch.bfloat16)


class TensLoraModel(BaseTuner):
    """The tuner of one model. Each core stands on it once, layers look them up.

    A bank is ``tuner.tenslora_<out>x<in>[adapter]``: PEFT's own code then finds the name of the
    adapter where it looks for it, and a checkpoint holds ``base_model.tenslora_768x768.A``.
    """

    #: PEFT would refuse every configuration where it is true; see `check_house`.
    uses_shared_state = False
    prefix = "tenslora_"
    tuner_layer_cls = TensLoraLinear
    target_module_mapping: Any = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    def __init__(
        self, model: nn.Module, peft_config: Any, adapter_name: str, **options: Any
    ) -> None:
        known = getattr(model, "peft_config", None)
        known = None if known is None else dict(known)
        bare = isinstance(peft_config, PeftConfig)  # a PeftModel gives them by name
        try:
            check_house(peft_config if bare else peft_config[adapter_name], bare=bare)
            given = peft_config if bare else Configs(peft_config)
            super().__init__(model, given, adapter_name, **options)
        except BaseException:
            if bare:
                left_as_it_was(model, known)
            raise

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model, with its hooks: peft 0.20 would call its ``forward`` past them."""
        return self.model(*args, **kwargs)

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
        join(self, model, config)
        check_new(self, adapter_name)
        banks = self._design(model, adapter_name, config, low_cpu_mem_usage)
        others = [(p, p.requires_grad) for p in self._cores()]
        known, self.targeted_module_names = self.targeted_module_names, []  # peft 0.20 adds to them
        enter(self, adapter_name, banks, config)
        try:
            options = {"low_cpu_mem_usage": low_cpu_mem_usage, **more}
            super().inject_adapter(model, adapter_name, autocast_adapter_dtype, **options)
        except BaseException as error:
            self.targeted_module_names = known
            self._forget(adapter_name)
            if not banks and isinstance(error, ValueError):
                with unwrapped(model, TensLoraLinear):
                    raise no_match(error, config, model) from error
            raise
        self.targeted_module_names = list(dict.fromkeys([*known, *self.targeted_module_names]))
        for parameter, required in others:
            parameter.requires_grad_(required)

    def _design(
        self, model: nn.Module, adapter_name: str, config: Any, empty: bool
    ) -> dict[str, Bank]:
        """Find the sites and make the banks; none where nothing is targeted."""
        with unwrapped(model, TensLoraLinear):
            config = self._prepare_adapter_config(config, self.get_model_config(model))
            config = _maybe_include_all_linear_layers(config, model)
            design = place(config, model)
            if design is None:
                return {}
            check_name(self, adapter_name, design)
            check_file(config, model, design)
            with init_empty_weights() if empty else nullcontext():
                banks = new_banks(model, design, adapter_name, config)
            config.places = frozenset(site.path for site in design.sites)
            config.resolved = site_map(model, design)
            set_layout(config, design)
        return banks

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
            layer = target
        else:
            layer = TensLoraLinear(target, self.shared)
            layer._active_adapter = adapter_name
        if peft_config.bank == "first_layer":
            for bank in self.shared.adapters[adapter_name].values():
                if bank.sites[0].path == current_key:
                    layer.take_in(adapter_name, bank)
        layer.update_layer(adapter_name, found, inference_mode=peft_config.inference_mode)
        if layer is not target:
            self._replace_module(parent, target_name, layer, target)

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Refuse a state dict that is not this adapter's; peft 0.20 does not ask."""
        found = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        layer = next((m for m in model.modules() if isinstance(m, TensLoraLinear)), None)
        if layer is not None:
            check_state(model, layer.shared.adapters.get(adapter_name, {}).values(), found)
        return found

    def _forget(self, adapter_name: str) -> None:
        forget(self, adapter_name)
        self._follow()

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
        for layer in self._layers():
            layer.check_unmerged(adapter_name)  # peft 0.20 does not ask
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
        for layer in self._layers():
            for name in layer.active_adapters if adapter_names is None else adapter_names:
                if name in layer.tenslora_places and name not in layer.merged_adapters:
                    layer.check_finite(name)
