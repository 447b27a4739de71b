"""The updates of an adapter as thin matrices, in float64: what everything here is measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tenslora.family import Bound
from tenslora.nn.factors import Factors, site_factors
from tenslora.nn.site import Site

if TYPE_CHECKING:
    from tenslora.nn.adapter import Adapter

__all__ = ["Array", "Piece", "Stack", "stacks_of", "triangle"]

Array = NDArray[np.float64]


def triangle(matrix: Array) -> Array:
    """The R of Q R: it has the inner products of the matrix's columns."""
    return np.asarray(np.linalg.qr(matrix, mode="r"))


@dataclass(frozen=True, eq=False)
class Piece:
    """The update of one weight, W = b a, with its place in the site indices of the equation."""

    site: Site
    place: Mapping[str, int]
    factors: Factors

    @property
    def b(self) -> Array:
        """The matrix on the side of the output, (out, r)."""
        return np.asarray(self.factors.b.numpy())

    @property
    def a(self) -> Array:
        """The matrix on the side of the input, (r, in)."""
        return np.asarray(self.factors.a.numpy())

    @cached_property
    def left(self) -> Array:
        """W in an orthonormal basis of its inputs, (out, k): rows have the norms of W's rows."""
        return self.b @ triangle(self.a.T).T

    @cached_property
    def right(self) -> Array:
        """W transposed, in an orthonormal basis of its outputs, (in, k)."""
        return self.a.T @ triangle(self.b).T

    @property
    def key(self) -> tuple[object, ...]:
        """What tells the weight from others, in any adapter of the model."""
        return self.site.path, self.site.rows, self.site.columns


@dataclass(frozen=True, eq=False)
class Stack:
    """The updates of one shape group, and its equation with every size."""

    name: str
    bound: Bound
    pieces: tuple[Piece, ...]

    @property
    def apart(self) -> tuple[Piece, ...]:
        """One piece for each place in the site indices: tied weights share one."""
        found = {tuple(piece.place.values()): piece for piece in self.pieces}
        return tuple(found.values())


def stacks_of(adapter: Adapter) -> tuple[Stack, ...]:
    """Return the updates of an adapter, one stack for each bank."""
    return tuple(
        Stack(
            name,
            bank.bound,
            tuple(map(Piece, bank.sites, bank.grid.positions, site_factors(bank))),
        )
        for name, bank in adapter.banks.items()
    )
