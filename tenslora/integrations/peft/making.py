"""The banks of a new adapter, with their first values."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from tenslora.init import draw, parse_rule
from tenslora.integrations.peft.config import TensLoraConfig
from tenslora.nn.attaching import make_banks
from tenslora.nn.bank import Bank
from tenslora.nn.design import Design
from tenslora.nn.wrappers import start_wrapper

__all__ = ["new_banks", "set_layout"]


def new_banks(
    model: nn.Module, design: Design, name: str, config: TensLoraConfig
) -> dict[str, Bank]:
    """Make the bank of each shape group; without ``init_weights`` no core of it is zero."""
    keep = config.save_frozen
    banks = make_banks(
        model,
        design,
        name,
        seed=config.seed,
        keep_frozen=keep,
        plan=config.plan,
        recompute=config.recompute,
    )
    if not config.init_weights:
        for group in design.groups:
            bank, key = banks[group.name], design.key(group)
            _draw_zeros(bank, config.seed, f"{key}/{name}")
            start_wrapper(model, bank, config.seed, key)
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


def set_layout(config: TensLoraConfig, design: Design) -> None:
    """Say in the configuration how the weights stand."""
    transposed = any(site.transposed for site in design.sites)
    if config.fan_in_fan_out and not transposed:
        what = "fan_in_fan_out is set to True but the target module is `torch.nn.Linear`. "
        warnings.warn(what + "Setting fan_in_fan_out to False.", stacklevel=3)
    config.fan_in_fan_out = transposed
