"""PyTorch: plain operations, for eager mode, autocast and ``torch.compile`` alike."""

from __future__ import annotations

from typing import Any

import torch

from tenslora.backends.base import Backend

__all__ = ["BACKEND"]


def _permute(a: Any, *axes: int) -> Any:
    return a.permute(axes)


def _options(like: Any) -> dict[str, Any]:
    return {} if like is None else {"dtype": like.dtype, "device": like.device}


def _eye(like: Any, size: int, axes: int) -> Any:
    matrix = made = torch.eye(size, **_options(like))
    for n in range(axes - 2):
        made = made.unsqueeze(-1) * matrix.reshape(size, *([1] * (n + 1)), size)
    return made


def _ones(like: Any, *shape: int) -> Any:
    return torch.ones(shape, **_options(like))


def _broadcast(a: Any, *shape: int) -> Any:
    return a.expand(shape)


def _unbind(a: Any) -> Any:
    return a.unbind(0)


def _concat(arrays: Any, axis: int) -> Any:
    return torch.cat(arrays, axis)


BACKEND = Backend("torch", _permute, _eye, _ones, _broadcast, _unbind, torch.stack, _concat)
