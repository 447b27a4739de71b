"""The state of an optimiser whose parameters are cut down: carried over, or begun anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tenslora.decompose import Cut
from tenslora.errors import FitError
from tenslora.nn import Adapter

__all__ = ["Swap", "carried_states", "put_states"]

#: Entries of an optimiser's state that are sums of gradients, and those of squares of gradients.
_SUMS = frozenset({"exp_avg", "grad_avg", "momentum_buffer"})
_SQUARES = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum"})

#: An old parameter, the one in its place, how it was cut, and the core's name.
Swap = tuple[nn.Parameter, nn.Parameter, Cut, str]


def carried_states(
    adapter: Adapter, optimizer: torch.optim.Optimizer, swaps: list[Swap], state: str
) -> dict[nn.Parameter, dict[str, Any]]:
    """The state of each new parameter, before anything is changed."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [name for before, _, _, name in swaps if id(before) not in held]
    if missing:
        what = f"the optimizer trains no core {missing[0]!r} of adapter {adapter.name!r}"
        raise FitError("E906", what, advice="Give the one that was made of adapter.parameters().")
    found: dict[nn.Parameter, dict[str, Any]] = {}
    for before, after, cutting, name in swaps:
        known = optimizer.state.get(before, {})
        if state == "carry" and known:
            found[after] = {
                key: _carry(key, value, before, cutting, name) for key, value in known.items()
            }
    return found


def _carry(key: str, value: Any, before: nn.Parameter, cutting: Cut, name: str) -> Any:
    if not isinstance(value, Tensor) or (value.ndim == 0 and before.ndim > 0):
        return value
    if value.shape != before.shape or key not in _SUMS | _SQUARES:
        what = f"the optimizer keeps {key!r} of shape {tuple(value.shape)} for core {name!r}"
        raise FitError("E906", what, advice='That cannot be carried over: state="reset".')
    made = cutting.carried(
        name, value.detach().to("cpu", torch.float64).numpy(), squared=key in _SQUARES
    )
    return torch.from_numpy(made).to(value)


def put_states(
    optimizer: torch.optim.Optimizer,
    swaps: list[Swap],
    moved: Mapping[nn.Parameter, dict[str, Any]],
) -> None:
    """Put the new parameters and their state where the old ones are."""
    places = {id(before): after for before, after, *_ in swaps}
    for group in optimizer.param_groups:
        group["params"][:] = [places.get(id(p), p) for p in group["params"]]
    for before, *_ in swaps:
        optimizer.state.pop(before, None)
    for parameter, kept in moved.items():
        optimizer.state[parameter] = kept
