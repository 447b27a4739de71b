"""A router around any family with a site index of experts: a gate weighs them for each token.

y = W0 x + sum over e of softmax(gate x)[e] W[e] x, a soft mixture as in MoLoRA (Zadouri et al.
2023, arXiv 2309.05444). The gate starts as ``torch.nn.Linear`` does: equal gates would give equal
experts equal gradients for ever.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tenslora.errors import AttachError
from tenslora.init import draw, parse_rule
from tenslora.nn.autograd import autocast_state
from tenslora.nn.bank import Bank
from tenslora.nn.context import Call
from tenslora.nn.wrappers.base import Runner
from tenslora.spec import parse

__all__ = ["Router"]

_GATE = parse("G[weight expert in] = gate[weight expert in]")
_START = parse_rule("kaiming(2.2360679775)")


class Router(Runner):
    """Runs every expert of a weight, and adds them up by ``softmax(gate[weight] x)``."""

    reads_weight = False

    def start(self, model: nn.Module, bank: Bank, seed: int, key: str) -> None:
        """Draw the gate, uniform within 1 / sqrt(in)."""
        gate = bank.tensors()["gate"]
        sizes = dict(zip(("weight", "expert", "in"), gate.shape, strict=True))
        gate.copy_(torch.from_numpy(draw(_START, _GATE.cores["gate"], _GATE, sizes, seed, key)))

    def change(
        self, bank: Bank, number: int, x: Tensor, output: Tensor, module: Any, call: Call
    ) -> Tensor:
        """Return the experts' updates, weighed."""
        gate = bank.tensors()["gate"][number, :, : x.shape[-1]].to(x.device)
        rows = x.reshape(-1, x.shape[-1])
        if autocast_state(x.device.type) is None:
            rows = rows.to(gate.dtype)
        weights = functional.linear(rows, gate).softmax(-1)
        experts = gate.shape[0]
        total: Tensor | None = None
        for expert in range(experts):
            update = bank.update(number * experts + expert, x, call)
            part = weights[:, expert : expert + 1] * update
            total = part if total is None else total + part
        assert total is not None  # an index has one value or more
        return bank.bound.scale * total.reshape(*output.shape)

    def new_weight(self, bank: Bank, number: int, weight: Tensor, update: Tensor) -> Tensor:
        """Refuse, as :meth:`check_mergeable` does."""
        self.check_mergeable(bank)
        return weight

    def check_mergeable(self, bank: Bank) -> None:
        """Refuse: the weight depends on the token.

        Raises
        ------
        AttachError
            E520.
        """
        what = f"{bank.wrapper} has no weight of its own: its gate depends on the token"
        advice = "Run the adapter beside the model, and save it with adapter.save."
        raise AttachError("E520", what, advice=advice)
