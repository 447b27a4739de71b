"""What every wrapper answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from tenslora.nn.bank import Bank, Hoisted
from tenslora.nn.context import Call
from tenslora.nn.site import Site
from tenslora.nn.spans import take

__all__ = ["Runner", "dense_update", "matrix"]


class Runner(ABC):
    """How a wrapper runs around any family.

    Attributes
    ----------
    reads_weight : whether it needs the values of the model's weights.
    whole_rows : whether it needs whole rows of them.
    alone : whether the output it changes has to be that of the layer itself, without the update of
        another adapter.

    Examples
    --------
    >>> from tenslora.nn.wrappers import RUNNERS
    >>> {name: (run.reads_weight, run.whole_rows, run.alone) for name, run in RUNNERS.items()}
    {'dora': (True, True, True), 'hira': (True, False, False), 'router': (False, False, False)}
    """

    reads_weight = True
    whole_rows = False
    alone = False

    @abstractmethod
    def start(self, model: nn.Module, bank: Bank, seed: int, key: str) -> None:
        """Give the bank's own tensors of the wrapper their first values."""

    @abstractmethod
    def change(
        self, bank: Bank, number: int, x: Tensor, output: Tensor, module: Any, call: Call
    ) -> Tensor:
        """Return what one call adds to the output of a weight.

        Parameters
        ----------
        number : of the weight in the bank.
        x : (..., in), the columns of the weight alone.
        output : (..., out), the rows of the weight alone.
        module : the layer.
        """

    @abstractmethod
    def check_mergeable(self, bank: Bank) -> None:
        """Refuse where the model cannot run with a new weight instead.

        Raises
        ------
        AttachError
            E520.
        """

    @abstractmethod
    def new_weight(self, bank: Bank, number: int, weight: Tensor, update: Tensor) -> Tensor:
        """Return the weight (out, in) that the model runs with, from the base's and scale * W."""


def matrix(module: Any, site: Site) -> Tensor:
    """The part of a layer's weight that a site covers, (out, in)."""
    weight: Tensor = module.weight.mT if site.transposed else module.weight
    return take(take(weight, 0, site.rows), 1, site.columns)


def dense_update(bank: Bank, number: int, hoisted: Hoisted | None) -> Tensor:
    """Return scale * W (out, in) of one weight, in the dtype of the cores, differentiable."""
    like = next(iter(bank.cores().values()))
    with torch.autocast(like.device.type, enabled=False):
        made = bank.hoist() if hoisted is None else hoisted
        return bank.bound.scale * bank.dense(number, made, like)
