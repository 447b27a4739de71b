"""The tuner: an adapter is put on a model, with the banks of :mod:`tenslora.nn`."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from peft.config import PeftConfig
from peft.tuners.tuners_utils import (
    _maybe_include_all_linear_layers,
    check_target_module_exists,
)
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from peft.utils.integrations import init_empty_weights
from torch import Tensor, nn

from tenslora.integrations.peft.banktuner import BankTuner
from tenslora.integrations.peft.checking import check_loading, check_state
from tenslora.integrations.peft.configs import Configs
from tenslora.integrations.peft.housing import (
    check_bare,
    check_house,
    check_name,
    check_new,
    enter,
    join,
    left_as_it_was,
)
from tenslora.integrations.peft.layers import TensLoraLinear
from tenslora.integrations.peft.loading import find_loading
from tenslora.integrations.peft.making import new_banks, set_layout
from tenslora.integrations.peft.place import Place
from tenslora.integrations.peft.placing import check_saved, no_match, place, site_map, unwrapped
from tenslora.nn.bank import Bank
from tenslora.nn.hooks import Piece

__all__ = ["TensLoraModel"]


class TensLoraModel(BankTuner):
    """The tuner of one model. Each core stands on it once, layers look them up.

    A bank is ``tuner.tenslora_<out>x<in>[adapter]``: PEFT's own code then finds the name of the
    adapter where it looks for it, and a checkpoint holds ``base_model.tenslora_768x768.A``.

    Examples
    --------
    >>> import peft, torch, tenslora as tl
    >>> config = tl.TensLoraConfig(family="lora", ranks=2, target_modules=["0", "1"])
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    >>> model = peft.get_peft_model(model, config)
    >>> type(model.base_model).__name__
    'TensLoraModel'
    >>> sorted(name for name, p in model.named_parameters() if p.requires_grad)
    ['base_model.tenslora_8x8.default.A', 'base_model.tenslora_8x8.default.B']
    """

    #: PEFT would refuse every configuration where it is true; see `check_house`.
    uses_shared_state = False
    #: Leave ``adapter_model.bin`` to PEFT, which unpickles it; by default it is refused.
    reads_pickles = False
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
        check_bare(model)
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
            named = config.target_modules
            config = self._prepare_adapter_config(config, self.get_model_config(model))
            config = _maybe_include_all_linear_layers(config, model)
            design = place(config, model, named)
            if design is None:
                return {}
            check_name(self, adapter_name, design)
            check_saved(config, model)
            loading = find_loading(adapter_name)
            if loading is not None:
                check_loading(loading, config, model, design, pickles=self.reads_pickles)
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
        found.join(self.shared.teams[adapter_name], layer.base_layer)
        if peft_config.bank == "first_layer":
            for bank in self.shared.adapters[adapter_name].values():
                if bank.weights[0].path == current_key:
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

    def _pieces(self, adapter_name: str, path: str) -> list[Piece]:
        pieces: list[Piece] = [
            (site.rows, bank, number)
            for bank in self.shared.adapters[adapter_name].values()
            for number, site in enumerate(bank.weights)
            if site.path == path
        ]
        return sorted(pieces, key=lambda piece: piece[0] or ())
