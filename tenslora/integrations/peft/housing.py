"""Where the banks of an adapter stand: on the tuner, or each on the first layer that it covers.

``transformers`` keeps no tuner beside a model: ``model.add_adapter`` and ``model.load_adapter``
take adapters whose numbers stand on layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft.config import PeftConfig
from torch import nn

from tenslora.errors import AttachError
from tenslora.integrations.peft.configs import Configs
from tenslora.integrations.peft.layers import TensLoraLinear
from tenslora.integrations.peft.shared import Shared
from tenslora.nn.bank import Bank
from tenslora.nn.design import Design
from tenslora.nn.groups import find_members
from tenslora.nn.hooks import SiteHook
from tenslora.nn.registry import Registry
from tenslora.nn.registry import check_name as check_word

__all__ = [
    "check_bare",
    "check_house",
    "check_name",
    "check_new",
    "enter",
    "forget",
    "join",
    "left_as_it_was",
]


def check_house(config: Any, *, bare: bool) -> None:
    """Refuse a bank on the tuner where nobody keeps the tuner.

    Raises
    ------
    AttachError
        E536.
    """
    if bare and config.bank == "tuner":
        what = "model.add_adapter and load_adapter keep no tuner, on which this adapter has its "
        what += "cores"
        advice = (
            "Use peft.get_peft_model or PeftModel.from_pretrained; or put the cores on a layer: "
            "TensLoraConfig(..., bank='first_layer'), and `tenslora export ADAPTER OUT --to "
            "first_layer` for a checkpoint."
        )
        raise AttachError("E536", what, advice=advice)


def left_as_it_was(model: nn.Module, known: Mapping[str, PeftConfig] | None) -> None:
    """Undo what PEFT and transformers write on a model before they look at an adapter."""
    held = model.__dict__.get("peft_config")
    if known is not None and held is not None:
        held.clear()
        held.update(known)
    elif known is None:
        model.__dict__.pop("peft_config", None)
        if model.__dict__.get("_hf_peft_config_loaded"):
            model._hf_peft_config_loaded = False  # type: ignore[assignment]


def check_bare(model: nn.Module) -> None:
    """Refuse a model on which adapters of :func:`tenslora.attach` stand.

    Raises
    ------
    AttachError
        E534.
    """
    held = [module for module in model.modules() if isinstance(module, Registry)]
    for module in model.modules():  # attached to a model around this one
        hooks = [hook for hook in module._forward_hooks.values() if isinstance(hook, SiteHook)]
        held += [hook.registry for hook in hooks if isinstance(hook.registry, Registry)]
    held = [registry for registry in held if registry.entries]
    if held:
        names = ", ".join(map(repr, held[0].entries))
        what = f"the model has adapters of tenslora.attach: {names}"
        advice = "detach() them first; or attach this family too, and leave out PEFT."
        raise AttachError("E534", what, advice=advice)


def join(tuner: Any, model: nn.Module, config: Any) -> None:
    """Share the state of the layers that are there already.

    Raises
    ------
    AttachError
        E534 where their cores stand on another tuner.
    """
    layers = [m for m in model.modules() if isinstance(m, TensLoraLinear)]
    others = {
        id(layer.shared): layer.shared for layer in layers if layer.shared is not tuner.shared
    }
    if not others:
        return
    (found, *more) = others.values()
    if more or found.on_tuner or tuner.shared.adapters or config.bank == "tuner":
        what = "the model has adapters of another tuner of tenslora, which owns their cores"
        advice = "Use add_adapter on the PeftModel that you have, or unload() it first."
        raise AttachError("E534", what, advice=advice)
    tuner.shared = found


def check_new(tuner: Any, adapter_name: str) -> None:
    """Refuse an adapter in the place of another one, or with what is no name.

    Raises
    ------
    AttachError
        E508.
    """
    check_word(adapter_name, None)
    if adapter_name in tuner.shared.adapters:
        if isinstance(tuner.peft_config, Configs):
            tuner.peft_config.keep(adapter_name, tuner.shared.configs[adapter_name])
        what = f"the model has an adapter {adapter_name!r} already"
        raise AttachError("E508", what, advice="Choose another name, or delete_adapter it first.")


def check_name(tuner: Any, adapter_name: str, design: Design) -> None:
    """PEFT tells adapters in a state dict by their names: a core may not have one of them.

    Raises
    ------
    AttachError
        E535.
    """
    banks = [bank for groups in tuner.shared.adapters.values() for bank in groups.values()]
    cores = {name for bank in banks for name in bank.tensors()}
    new = {name for group in design.groups for name in design.shapes(group)}
    taken = {adapter_name} & (cores | new)
    taken |= set(tuner.peft_config) & new
    if taken:
        what = f"{taken.pop()!r} is the name of an adapter and of a core"
        raise AttachError("E535", what, advice="Give the adapter another name.")


def enter(tuner: Any, adapter_name: str, banks: dict[str, Bank], config: Any) -> None:
    """Make the banks known; those on layers are put there as the layers are made."""
    shared: Shared = tuner.shared
    if config.bank == "tuner":
        shared.on_tuner.add(adapter_name)
        for group, bank in banks.items():
            name = f"{tuner.prefix}{group}"
            if name not in tuner._modules:
                tuner.add_module(name, nn.ModuleDict())
            tuner._modules[name][adapter_name] = bank
    shared.adapters[adapter_name], shared.configs[adapter_name] = banks, config
    shared.members[adapter_name] = find_members(banks.values())
    shared.teams[adapter_name] = {}
    shared.stand(tuner.model)


def forget(tuner: Any, adapter_name: str) -> None:
    """Take the banks of an adapter away."""
    shared: Shared = tuner.shared
    for group in shared.adapters.get(adapter_name, {}):
        name = f"{tuner.prefix}{group}"
        if adapter_name in shared.on_tuner and adapter_name in tuner._modules.get(name, ()):
            del tuner._modules[name][adapter_name]
            if not tuner._modules[name]:
                del tuner._modules[name]
    for layer in tuner.model.modules():
        if isinstance(layer, TensLoraLinear):
            layer.put_out(adapter_name)
    shared.drop(adapter_name)
