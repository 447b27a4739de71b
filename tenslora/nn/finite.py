"""Numbers that are finite, and how large they are."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from tenslora.errors import StateError

__all__ = ["check_finite", "greatest", "is_finite", "widened"]


def greatest(*tensors: Tensor) -> float:
    """The greatest magnitude; a NaN is the least and the greatest of all.

    >>> greatest(torch.tensor([1.0, -3.0]), torch.tensor([2.0]))
    3.0
    >>> greatest(torch.tensor([2.0]).to(torch.float8_e4m3fn))
    2.0
    """
    found = [bound for t in tensors if t.numel() for bound in torch.aminmax(widened(t.detach()))]
    return float(torch.stack(found).abs().amax()) if found else 0.0


def widened(tensor: Tensor) -> Tensor:
    """The numbers in a type that torch can compute with: of eight bits it only stores them."""
    narrow = tensor.is_floating_point() and tensor.element_size() == 1
    return tensor.to(torch.float32) if narrow else tensor


def is_finite(tensor: Tensor) -> bool:
    """Whether every number is finite, in one pass.

    >>> is_finite(torch.tensor([1.0, float("nan")]))
    False
    """
    return math.isfinite(greatest(tensor))


def check_finite(where: str | Path, name: str, tensor: Tensor) -> None:
    """Refuse a tensor of a checkpoint that has numbers that are not finite.

    Raises
    ------
    StateError
        E613.
    """
    if not is_finite(tensor):
        what = f"{where}: {name} has numbers that are not finite"
        raise StateError("E613", what, advice="Training diverged: take an earlier checkpoint.")
