"""JAX."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from tenslora.backends.base import Backend

__all__ = ["BACKEND"]


def _permute(a: Any, *axes: int) -> Any:
    return jnp.transpose(a, axes)


def _eye(like: Any, size: int, axes: int) -> Any:
    at = (jnp.arange(size),) * axes
    return jnp.zeros((size,) * axes, dtype=None if like is None else like.dtype).at[at].set(1)


def _ones(like: Any, *shape: int) -> Any:
    return jnp.ones(shape, dtype=None if like is None else like.dtype)


def _broadcast(a: Any, *shape: int) -> Any:
    return jnp.broadcast_to(a, shape)


def _unbind(a: Any) -> Any:
    return tuple(a[n] for n in range(a.shape[0]))


def _concat(arrays: Any, axis: int) -> Any:
    return jnp.concatenate(arrays, axis)


BACKEND = Backend("jax", _permute, _eye, _ones, _broadcast, _unbind, jnp.stack, _concat)
