"""Laws of rewriting: networks with the same W, or with the same set of W, and the maps of arrays.

Each law gives a :class:`Rewrite`: the network after it, the sizes after it, and what the cores are
after it. Those that keep the set of W and not the arrays say so, and give the way back as well.
:func:`simplify` applies all of them until nothing changes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tenslora.algebra.bonds import drop_unit_bonds, join_bonds
from tenslora.algebra.constants import eliminate, pairwise
from tenslora.algebra.edit import frozen_cores
from tenslora.algebra.groups import join_group, regrouped, split_group
from tenslora.algebra.merging import absorb, merge
from tenslora.algebra.step import Rewrite
from tenslora.spec import Network, complete_sizes

__all__ = [
    "Rewrite",
    "Simplified",
    "absorb",
    "drop_constants",
    "drop_unit_bonds",
    "join_bonds",
    "join_group",
    "merge",
    "simplify",
    "split_group",
]


@dataclass(frozen=True)
class Simplified:
    """What :func:`simplify` did, one law a line.

    Examples
    --------
    >>> import numpy as np
    >>> from tenslora.spec import parse
    >>> sizes = {"out": 5, "in": 6, "r": 2, "s": 2}
    >>> short = simplify(parse("W[out in] = B[out r] M[r s] A[s in]"), sizes)
    >>> print(short.after)
    W[out in] = B[out s] A[s in]
    >>> cores = {"B": np.ones((5, 2)), "M": np.ones((2, 2)), "A": np.ones((2, 6))}
    >>> {name: core.shape for name, core in short.forward(cores).items()}
    {'B': (5, 2), 'A': (2, 6)}
    """

    before: Network
    after: Network
    sizes: Mapping[str, int]
    steps: tuple[Rewrite, ...]

    def forward(self, cores: Mapping[str, Any]) -> dict[str, Any]:
        """Return cores of ``after`` with the W that ``cores`` of ``before`` give."""
        held = dict(cores)
        for step in self.steps:
            held = step.forward(held)
        return held

    def back(self, cores: Mapping[str, Any]) -> dict[str, Any]:
        """Return cores of ``before`` with the W that ``cores`` of ``after`` give."""
        held = dict(cores)
        for step in reversed(self.steps):
            held = step.back(held)
        return held

    def __str__(self) -> str:
        return "\n".join([str(self.before), *map(str, self.steps)])


def drop_constants(network: Network, sizes: Mapping[str, int]) -> Rewrite | None:
    """Remove ``eye`` and ``ones`` as far as they can be (:func:`eliminate`).

    Law: sum over x of ``eye[x s]`` f(x) is f(s), and a factor of 1 is none. The arrays stay. An
    ``eye`` between groups goes as a whole where a group of bonds stands side by side everywhere
    (:func:`~tenslora.algebra.groups.regrouped`), and pair by pair where the sizes are equal.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out (r s)] eye[(r s) (t u)] A[(t u) in]")
    >>> print(drop_constants(n, {"out": 9, "in": 9, "r": 2, "s": 3, "t": 3, "u": 2}))
    constants: W[out in] = B[out (t u)] A[(t u) in]
    >>> n = parse("W[out in] = B[r out s] eye[(r s) (t u)] A[t in u]")
    >>> print(drop_constants(n, {"out": 9, "in": 9, "r": 2, "s": 3, "t": 2, "u": 3}))
    constants: W[out in] = B[t out u] A[t in u]
    """

    def alike(one: str, two: str) -> bool:
        return one in sizes and sizes[one] == sizes.get(two)

    free = network.target.indices
    terms = (pairwise(regrouped(term, free), alike) for term in network.terms)
    after = eliminate(Network(network.target, tuple(terms)))
    if after == network:
        return None
    left = {i: sizes[i] for i in after.indices if i in sizes}
    return Rewrite("constants", network, after, left, dict, dict)


def simplify(
    network: Network, sizes: Mapping[str, int], frozen: Collection[str] = ()
) -> Simplified:
    """Apply every law until nothing changes.

    The set of W is the same, and no law adds a parameter.

    Parameters
    ----------
    network : the equation.
    sizes : the size of every index.
    frozen : cores that are not trained; they are neither merged nor absorbed.

    Raises
    ------
    SizeError
        E202 for a size that is missing, and others of sizes that do not fit the equation.
    SpecError
        E120 for a frozen core that is not there.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = b[out] B[out r] M[r s] A[s in] eye[s t] C[t u] ones[u]")
    >>> print(simplify(n, {"out": 9, "in": 9, "r": 2, "s": 2, "t": 2, "u": 1}))
    W[out in] = b[out] B[out r] M[r s] A[s in] eye[s t] C[t u] ones[u]
    constants: W[out in] = b[out] B[out r] M[r t] A[t in] C[t u] ones[u]
    unit bond u: W[out in] = b[out] B[out r] M[r t] A[t in] C[t]
    absorb b into B: W[out in] = B[out r] M[r t] A[t in] C[t]
    absorb C into M: W[out in] = B[out r] M[r t] A[t in]
    merge B and M over r: W[out in] = B[out t] A[t in]
    """
    steps: list[Rewrite] = []
    known: Mapping[str, int] = complete_sizes(network, sizes)
    frozen, held = frozen_cores(network, frozen), network
    while (step := _next(held, known, frozen)) is not None:
        steps.append(step)
        held, known = step.after, step.sizes
    return Simplified(network, held, known, tuple(steps))


def _next(network: Network, sizes: Mapping[str, int], frozen: Collection[str]) -> Rewrite | None:
    return (
        drop_constants(network, sizes)
        or drop_unit_bonds(network, sizes)
        or join_bonds(network, sizes)
        or absorb(network, sizes, frozen)
        or merge(network, sizes, frozen)
    )
