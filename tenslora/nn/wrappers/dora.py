"""DoRA around any family: the length of each row of the weight is trained, and its direction.

W' = m (W0 + W) / |W0 + W|, row by row (Liu et al. 2024, arXiv 2402.09353). The norm is a constant
in the gradients, as their section 4.3 and PEFT have it. Dropout drops entries of the input of W.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tenslora.nn.bank import Bank
from tenslora.nn.context import Call
from tenslora.nn.shards import whole
from tenslora.nn.site import Site
from tenslora.nn.spans import put, take
from tenslora.nn.starting import weight_of
from tenslora.nn.wrappers.base import Runner, dense_update, matrix

if TYPE_CHECKING:
    from tenslora.nn.adapter import Adapter
    from tenslora.nn.targets import Linear

__all__ = ["Dora", "row_lengths"]


class Dora(Runner):
    """Scales the rows of W0 + W to the lengths ``magnitude[weight, out]``."""

    whole_rows = True
    alone = True

    def start(self, model: nn.Module, bank: Bank, seed: int, key: str) -> None:
        """Let the lengths be those of the start, at which the model is as W alone has it."""
        magnitude = bank.tensors()["magnitude"]
        magnitude.fill_(1.0)
        for number, site in enumerate(bank.weights):
            weight = weight_of(model, site).to(magnitude.device)
            magnitude[number, : site.out_features] = _norms(bank, number, weight)

    def change(
        self, bank: Bank, number: int, x: Tensor, output: Tensor, module: Any, call: Call
    ) -> Tensor:
        """Return (s - 1) W0 x + s W x, with s = m / |W0 + W|."""
        site = bank.weights[number]
        with torch.no_grad():
            norms = _norms(bank, number, matrix(module, site), call)
        scale = bank.tensors()["magnitude"][number, : site.out_features].to(output.device) / norms
        base = output if module.bias is None else output - take(module.bias, 0, site.rows)
        update = bank.update(number, x, call).reshape(*output.shape)
        return (scale - 1) * base + scale * bank.bound.scale * update

    def check_mergeable(self, bank: Bank) -> None:
        """It has a new weight."""

    def new_weight(self, bank: Bank, number: int, weight: Tensor, update: Tensor) -> Tensor:
        """Return m (W0 + W) / |W0 + W|."""
        whole = weight + update
        norms = torch.linalg.vector_norm(whole.detach(), dim=1, keepdim=True)
        lengths = bank.tensors()["magnitude"][number, : whole.shape[0]].to(whole)
        return lengths[:, None] / norms * whole


def row_lengths(adapter: Adapter, linears: Mapping[str, Linear]) -> dict[str, Tensor]:
    """The lengths that the rows of each target module are scaled to, by its path.

    Rows that the adapter does not cover have those of the model's weight.

    Raises
    ------
    AttachError
        E519 where such rows have no values.
    """
    found: dict[str, Tensor] = {}
    covered: dict[str, Tensor] = {}
    sites: dict[str, Site] = {}
    for bank in adapter.banks.values():
        magnitude = whole(bank.tensors()["magnitude"].detach()).cpu()
        for number, site in enumerate(bank.weights):
            if site.path not in found:
                out, sites[site.path] = linears[site.path].out_features, site
                found[site.path] = torch.zeros(out, dtype=torch.float64)
                covered[site.path] = torch.zeros(out, dtype=torch.bool)
            lengths = magnitude[number, : site.out_features].double()
            put(found[site.path], 0, site.rows, lengths)
            put(covered[site.path], 0, site.rows, torch.ones_like(lengths, dtype=torch.bool))
    for path, known in covered.items():
        if not known.all():
            before = _lengths_before(adapter, linears[path], sites[path])
            found[path] = torch.where(known, found[path], before)
    return found


def _lengths_before(adapter: Adapter, linear: Linear, site: Site) -> Tensor:
    weight = weight_of(adapter.model, replace(site, rows=None, out_features=linear.out_features))
    return torch.linalg.vector_norm(weight.to("cpu", torch.float64), dim=1)


def _norms(bank: Bank, number: int, weight: Tensor, call: Call | None = None) -> Tensor:
    """The length of each row of W0 + W, in the dtype of the cores."""
    update = dense_update(bank, number, None if call is None else call.hoisted).to(weight.device)
    whole = weight.detach().to(update.dtype) + update
    return torch.linalg.vector_norm(whole, dim=1)
