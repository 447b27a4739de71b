"""One law of rewriting, applied once: the networks, the sizes, and the arrays both ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tenslora.spec import Network

__all__ = ["Arrays", "Cores", "Rewrite"]

#: An array of numpy for each core.
Cores = Mapping[str, Any]

#: A map of arrays.
Arrays = Callable[[Cores], dict[str, Any]]


@dataclass(frozen=True)
class Rewrite:
    """One law applied once.

    Attributes
    ----------
    law : its name.
    before, after : the networks.
    sizes : the sizes after it, where sizes were given.
    forward : from cores of ``before`` to cores of ``after`` with the same W.
    back : from cores of ``after`` to cores of ``before`` with the same W.

    Examples
    --------
    >>> import numpy as np
    >>> from tenslora.algebra.rewrite import absorb
    >>> from tenslora.spec import parse
    >>> step = absorb(parse("W[out in] = b[out] B[out r] A[r in]"), {"out": 2, "in": 3, "r": 1})
    >>> print(step)
    absorb b into B: W[out in] = B[out r] A[r in]
    >>> cores = {"b": np.array([1.0, 2.0]), "B": np.ones((2, 1)), "A": np.ones((1, 3))}
    >>> step.forward(cores)["B"]
    array([[1.],
           [2.]])
    """

    law: str
    before: Network
    after: Network
    sizes: Mapping[str, int]
    forward: Callable[[Mapping[str, Any]], dict[str, Any]] = field(repr=False)
    back: Callable[[Mapping[str, Any]], dict[str, Any]] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.law}: {self.after}"
