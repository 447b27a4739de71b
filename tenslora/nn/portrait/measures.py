"""Norms and singular values of stacked updates, without making a matrix (out, in) where that helps.

Multiplying by an orthonormal basis changes neither a norm nor a singular value, so W = b a is
measured on (out, k) and (in, k). Sites are compared by inner products; what is below 1e-7 of the
largest value there is rounding, and given as zero.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tenslora.nn.portrait.values import Array, Piece, Stack, triangle
from tenslora.spec import slot_size

__all__ = ["head_norms", "mode_values", "norm", "overlap", "weight_values"]

_ROUNDING = 1e-7
#: So many columns of all sites together are compared by two matrix products.
_THIN = 4096
#: So many numbers of dense updates are held at a time.
_BLOCK = 1 << 24


def norm(piece: Piece) -> float:
    """The Frobenius norm of an update."""
    return float(np.linalg.norm(piece.left))


def head_norms(piece: Piece, heads: int) -> Array:
    """The norms of the rows of an update that belong to each head, which lie one after another."""
    return np.asarray(np.linalg.norm(piece.left.reshape(heads, -1), axis=1))


def weight_values(stack: Stack) -> Array:
    """The singular values of each weight, falling along each row: as many as the cut allows."""
    kept = stack.bound.cut_rank
    found = np.zeros((len(stack.pieces), kept))
    for row, piece in zip(found, stack.pieces, strict=True):
        values = np.linalg.svd(piece.left, compute_uv=False)[:kept]
        row[: len(values)] = values
    return found


def mode_values(stack: Stack) -> dict[str, Array]:
    """The singular values of all updates of a shape, unfolded along each index of the target."""
    network, sizes = stack.bound.network, stack.bound.sizes
    found = _site_values(stack)
    for indices, parts in (
        (network.output, [piece.left for piece in stack.apart]),
        (network.input, [piece.right for piece in stack.apart]),
    ):
        side = _join(parts, slot_size(indices, sizes))
        tensor = side.reshape(*(sizes[index] for index in indices), -1)
        for axis, index in enumerate(indices):
            matrix = np.moveaxis(tensor, axis, 0).reshape(sizes[index], -1)
            found[index] = _singular(matrix)
    return {index: found[index] for index in network.target.indices}


def overlap(stack: Stack) -> Array:
    """The inner products of the updates of a stack, (places, places)."""
    pieces, network, sizes = stack.apart, stack.bound.network, stack.bound.sizes
    rows, width = (slot_size(side, sizes) for side in (network.output, network.input))
    columns = [piece.b.shape[1] for piece in pieces]
    if sum(columns) <= _THIN:
        b = _join([piece.b for piece in pieces], rows, keep=True)
        a = _join([piece.a.T for piece in pieces], width, keep=True)
        starts = np.cumsum([0, *columns])[:-1]
        products = (b.T @ b) * (a.T @ a)
        return np.asarray(np.add.reduceat(np.add.reduceat(products, starts, 0), starts, 1))
    step = max(1, _BLOCK // (len(pieces) * width))
    found = np.zeros((len(pieces), len(pieces)))
    for start in range(0, rows, step):
        dense = np.zeros((len(pieces), step, width))
        for held, piece in zip(dense, pieces, strict=True):
            part = piece.b[start : start + step] @ piece.a
            held[: part.shape[0], : part.shape[1]] = part
        flat = dense.reshape(len(pieces), -1)
        found += flat @ flat.T
    return found


def _site_values(stack: Stack) -> dict[str, Array]:
    """The singular values along each site index, from the inner products of the updates."""
    sites, sizes = stack.bound.network.sites, stack.bound.sizes
    products, found = overlap(stack) if sites else np.zeros((0, 0)), {}
    for site in sites:
        number = np.array([piece.place[site] for piece in stack.apart])
        rest = [tuple(n for s, n in piece.place.items() if s != site) for piece in stack.apart]
        same = np.array([[one == other for other in rest] for one in rest])
        gram = np.zeros((sizes[site], sizes[site]))
        np.add.at(gram, (number[:, None], number[None, :]), products * same)
        values = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0.0, None))[::-1]
        found[site] = np.where(values > _ROUNDING * max(values[0], 1e-300), values, 0.0)
    return found


def _join(parts: Iterable[Array], rows: int, *, keep: bool = False) -> Array:
    """Lay matrices side by side, filled up to ``rows``; folded to a square where they get wide."""
    held: list[Array] = []
    for part in parts:
        held.append(np.pad(part, ((0, rows - part.shape[0]), (0, 0))))
        if not keep and sum(one.shape[1] for one in held) > 2 * rows:
            held = [triangle(np.hstack(held).T).T]
    return np.hstack(held)


def _singular(matrix: Array) -> Array:
    """As many values as rows."""
    if matrix.shape[1] > matrix.shape[0]:
        matrix = triangle(matrix.T).T
    values = np.linalg.svd(matrix, compute_uv=False)
    return np.asarray(np.pad(values, (0, matrix.shape[0] - len(values))))
