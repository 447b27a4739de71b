"""numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from tenslora.backends.base import Backend

__all__ = ["BACKEND"]


def _permute(a: Any, *axes: int) -> Any:
    return np.transpose(a, axes)


def _eye(like: Any, size: int, axes: int) -> Any:
    made = np.zeros((size,) * axes, dtype=None if like is None else like.dtype)
    made[(np.arange(size),) * axes] = 1
    return made


def _ones(like: Any, *shape: int) -> Any:
    return np.ones(shape, dtype=None if like is None else like.dtype)


def _broadcast(a: Any, *shape: int) -> Any:
    return np.broadcast_to(a, shape)


def _concat(arrays: Any, axis: int) -> Any:
    return np.concatenate(arrays, axis)


BACKEND = Backend("numpy", _permute, _eye, _ones, _broadcast, tuple, np.stack, _concat)
