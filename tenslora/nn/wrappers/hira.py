"""HiRA around any family: the update is multiplied with the weight, entry by entry.

W' = W0 + W0 * W (Huang et al. 2025, ICLR).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from tenslora.nn.bank import Bank
from tenslora.nn.context import Call
from tenslora.nn.wrappers.base import Runner, dense_update, matrix

__all__ = ["Hira"]


class Hira(Runner):
    """Adds x (W0 * W)^T to the output."""

    def start(self, model: nn.Module, bank: Bank, seed: int, key: str) -> None:
        """It trains nothing of its own."""

    def change(
        self, bank: Bank, number: int, x: Tensor, output: Tensor, module: Any, call: Call
    ) -> Tensor:
        """Return (W0 * W) x."""
        site = bank.weights[number]
        rows = bank.read(x, call).rows[:, : site.in_features]
        update = dense_update(bank, number, call.hoisted).to(rows.device)
        weight = matrix(module, site).to(update.dtype) * update
        return functional.linear(rows, weight).reshape(*output.shape)

    def check_mergeable(self, bank: Bank) -> None:
        """It has a new weight."""

    def new_weight(self, bank: Bank, number: int, weight: Tensor, update: Tensor) -> Tensor:
        """Return W0 + W0 * W."""
        return weight + weight * update
