"""Where an iteration begins: what a decomposition gives at once, or numbers drawn by a seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from tenslora.decompose.contraction import Array, Operand, contract
from tenslora.decompose.problem import Problem
from tenslora.decompose.shape import Shape
from tenslora.decompose.tree import make_tree, nested_svd

__all__ = ["along_tree", "decomposed", "drawn", "slices"]

#: From the sub-tensor of one batch value to its cores.
Method = Callable[[Operand], Mapping[str, Operand] | None]


def drawn(problem: Problem, seed: int, number: int) -> dict[str, Array]:
    """Draw every trained core: the same numbers for the same seed, core and number of the start."""
    cores = {}
    for name, shape in problem.shapes.items():
        digest = hashlib.sha256(f"{seed}|{name}|fit {number}".encode()).digest()
        key = int.from_bytes(digest[:16], "little")
        generator = np.random.Generator(np.random.Philox(key=key))
        core = problem.network.cores[name]
        bonds = math.prod(problem.sizes[i] for i in core.indices if i not in problem.indices)
        cores[name] = generator.standard_normal(shape) / math.sqrt(max(1, bonds))
    return cores


def decomposed(problem: Problem, shape: Shape, method: Method) -> dict[str, Array] | None:
    """Decompose the tensor of each batch value, and put the cores together (``None`` if not)."""
    arrays = {name: np.zeros(_full(problem, name)) for name in problem.shapes}
    for at, tensor in slices(problem, shape):
        found = method(tensor)
        if found is None:
            return None
        for name, (array, held) in found.items():
            indices = problem.network.cores[name].indices
            place = tuple(at[i] if i in at else slice(None) for i in indices)
            kept = [i for i in indices if i not in at]
            arrays[name][place] = array.transpose([held.index(i) for i in kept])
    return {name: array.reshape(problem.shapes[name]) for name, array in arrays.items()}


def _full(problem: Problem, name: str) -> tuple[int, ...]:
    return tuple(problem.sizes[i] for i in problem.network.cores[name].indices)


def slices(problem: Problem, shape: Shape) -> Iterator[tuple[dict[str, int], Operand]]:
    """For each value of the batch its sub-tensor, with the mean over the sites that are tied."""
    open_ = tuple(i for node in shape.nodes for i in node.open)
    count = math.prod(problem.sizes[i] for i in shape.tied)
    target = contract(
        [(problem.target, problem.indices)], [*shape.batch, *open_], problem.sizes
    ) / max(1, count)
    for at in np.ndindex(*(problem.sizes[i] for i in shape.batch)):
        yield dict(zip(shape.batch, at, strict=True)), (target[at], open_)


def along_tree(problem: Problem, shape: Shape) -> dict[str, Array]:
    """Cores of a tree by nested SVDs."""
    tree = make_tree(shape)
    cores = decomposed(problem, shape, lambda tensor: nested_svd(tree, tensor, problem.sizes)[0])
    assert cores is not None  # a tree has a decomposition at any ranks
    return cores
