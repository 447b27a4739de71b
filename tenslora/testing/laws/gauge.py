"""Law 10: a matrix and its inverse on a bond change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tenslora.backends import executable, get
from tenslora.family import Bound
from tenslora.testing.oracle import dense, numbers
from tenslora.testing.report import agree

__all__ = ["law_gauge"]


def law_gauge(bound: Bound, *, seed: int = 0) -> None:
    """Law 10: W stays when one end of a bond is multiplied by Q and the other by its inverse.

    It is asked of every bond with two ends in slots of their own, in two cores that stand in one
    place each. Q is a triangle of whole numbers with ones on its diagonal; so is its inverse.

    Parameters
    ----------
    bound : a family with sizes.
    seed : of the values and of Q.

    Examples
    --------
    >>> import tenslora as tl
    >>> lora = tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"})
    >>> law_gauge(lora.bind({"out": 3, "in": 4}, r=2))
    """
    cores = numbers(bound.network, bound.sizes, seed)
    expected = dense(bound.network, cores, bound.sizes)
    run = executable(bound.plan(), get("numpy"))
    generator = np.random.default_rng((seed, 6))
    for bond, ends in _two_ended(bound):
        size = bound.sizes[bond]
        q = np.tril(generator.integers(-1, 2, (size, size)), -1) + np.eye(size)
        moved: dict[str, Any] = dict(cores)
        for (name, axis), matrix in zip(ends, (q, np.rint(np.linalg.inv(q)).T), strict=True):
            moved[name] = np.moveaxis(np.tensordot(moved[name], matrix, (axis, 0)), -1, axis)
        agree("10", bound, f"W with Q on {bond}", run.delta(moved, np.zeros(1)), expected)


def _two_ended(bound: Bound) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """Each bond that joins two cores alone, with the cores and their axes."""
    places = [core for term in bound.network.terms for core in term.cores]
    names = [core.name for core in places]
    for bond in bound.network.bonds:
        held = [core for core in places if bond in core.indices]
        plain = all((bond,) in core.slots and not core.is_constant for core in held)
        if len(held) == 2 and plain and all(names.count(core.name) == 1 for core in held):
            yield bond, [(core.name, core.slots.index((bond,))) for core in held]
