"""Decompositions that give cores at once: HOOI, the ring's SVD, CP by eigenvectors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from tenslora.decompose.contraction import Array, Operand
from tenslora.decompose.shape import Node, Shape
from tenslora.decompose.tree import make_tree, nested_svd

__all__ = ["eigenvectors", "hooi", "ring_svd"]


def hooi(
    shape: Shape, tensor: Operand, sizes: Mapping[str, int], sweeps: int
) -> dict[str, Operand]:
    """Tucker by orthogonal iteration (De Lathauwer et al. 2000), from a truncated HOSVD.

    tensorly does the iteration. Ranks above what a mode can carry are filled with zeros.
    """
    import tensorly
    from tensorly.decomposition import partial_tucker

    root, *leaves = shape.nodes
    capped = _capped(shape, sizes)
    start, _ = nested_svd(make_tree(shape), tensor, capped)
    array = _grouped(shape, tensor, sizes)
    # One axis a leaf, then the root's own; the core has its axes in the same order.
    factors = [start[leaf.name][0].reshape(-1, _rank(leaf, capped)) for leaf in leaves]
    with tensorly.backend_context("numpy", local_threadsafe=True):
        (core, found), _ = partial_tucker(
            array,
            rank=[_rank(leaf, capped) for leaf in leaves],
            modes=list(range(len(leaves))),
            n_iter_max=sweeps,
            init=(_core_of(array, factors), factors),
            tol=1e-12,
        )
    cores = {}
    for leaf, factor in zip(leaves, found, strict=True):
        wide = np.zeros((len(factor), _rank(leaf, sizes)))
        wide[:, : factor.shape[1]] = factor
        indices = (*leaf.open, *leaf.bonds)
        cores[leaf.name] = wide.reshape([sizes[i] for i in indices]), indices
    whole = np.zeros([*(_rank(leaf, sizes) for leaf in leaves), core.shape[-1]])
    whole[tuple(slice(n) for n in core.shape)] = core
    indices = (*(i for leaf in leaves for i in leaf.bonds), *root.open)
    cores[root.name] = whole.reshape([sizes[i] for i in indices]), indices
    return cores


def _core_of(array: Array, factors: Sequence[Array]) -> Array:
    for factor in factors:  # the first axis goes, and comes back as the last
        array = np.moveaxis(np.tensordot(factor.T, array, (1, 0)), 0, -1)
    return np.moveaxis(array, 0, -1)


def _capped(shape: Shape, sizes: Mapping[str, int]) -> dict[str, int]:
    """Lower each joint rank to what its leaf, or the rest of the core, can carry."""
    root, *leaves = shape.nodes
    ranks = {leaf.name: _rank(leaf, sizes) for leaf in leaves}
    own = math.prod(sizes[i] for i in root.open)
    while True:
        lower = {
            leaf.name: min(
                ranks[leaf.name],
                math.prod(sizes[i] for i in leaf.open),
                own * math.prod(r for name, r in ranks.items() if name != leaf.name),
            )
            for leaf in leaves
        }
        if lower == ranks:
            break
        ranks = lower
    return {**sizes, **{bond: n for leaf in leaves for bond, n in _spread(leaf, ranks[leaf.name])}}


def _spread(leaf: Node, rank: int) -> list[tuple[str, int]]:
    """Give a joint rank to the first of a leaf's bonds."""
    return [(bond, rank if n == 0 else 1) for n, bond in enumerate(leaf.bonds)]


def _rank(node: Node, sizes: Mapping[str, int]) -> int:
    return math.prod(sizes[bond] for bond in node.bonds)


def _grouped(shape: Shape, tensor: Operand, sizes: Mapping[str, int]) -> Array:
    """One axis for what each core carries; for a Tucker the root's is the last."""
    array, held = tensor
    nodes = shape.nodes
    if shape.kind == "tucker":
        nodes = (*nodes[1:], nodes[0])
    array = array.transpose([held.index(i) for node in nodes for i in node.open])
    return array.reshape([math.prod(sizes[i] for i in node.open) for node in nodes])


def ring_svd(shape: Shape, tensor: Operand, sizes: Mapping[str, int]) -> dict[str, Operand] | None:
    """Cores of a ring by tensorly's TR-SVD (Zhao et al. 2016), a start for an iteration.

    ``None`` where no core can carry the product of its two ranks, as the method wants of the first.
    """
    import tensorly
    from tensorly.decomposition import tensor_ring

    nodes = shape.nodes
    array = _grouped(shape, tensor, sizes)
    after = [_joint(node, nodes[(n + 1) % len(nodes)]) for n, node in enumerate(nodes)]
    ranks = [math.prod(sizes[b] for b in bonds) for bonds in after]
    room = [min(n, array.size // n) >= ranks[k - 1] * ranks[k] for k, n in enumerate(array.shape)]
    if True not in room:
        return None
    order = [(room.index(True) + n) % len(nodes) for n in range(len(nodes))]
    with tensorly.backend_context("numpy", local_threadsafe=True):
        wanted = [ranks[order[0] - 1], *(ranks[n] for n in order)]
        found = tensor_ring(array.transpose(order), rank=wanted)
    cores = {}
    for n, factor in zip(order, found, strict=True):
        wide = np.zeros((ranks[n - 1], factor.shape[1], ranks[n]))
        wide[: factor.shape[0], :, : factor.shape[2]] = factor
        node, indices = nodes[n], (*after[n - 1], *nodes[n].open, *after[n])
        cores[node.name] = wide.reshape([sizes[i] for i in indices]), indices
    return cores


def _joint(node: Node, other: Node) -> tuple[str, ...]:
    return tuple(bond for bond in node.bonds if bond in other.bonds)


def eigenvectors(
    shape: Shape, tensor: Operand, sizes: Mapping[str, int], generator: np.random.Generator
) -> dict[str, Operand] | None:
    """CP from the eigenvectors of a pencil of slices (Leurgans et al. 1993): exact without noise.

    ``None`` where the rank is above what two groups of modes can carry.
    """
    array = _grouped(shape, tensor, sizes)
    rank = _rank(shape.nodes[0], sizes)
    groups = _split(array.shape, rank)
    if groups is None:
        return None
    rows, columns, rest = groups
    count = [math.prod(array.shape[n] for n in group) for group in groups]
    cube = array.transpose([*rows, *columns, *rest]).reshape(count)
    left = np.linalg.svd(cube.reshape(count[0], -1), full_matrices=False)[0][:, :rank]
    side = cube.transpose(1, 0, 2).reshape(count[1], -1)
    right = np.linalg.svd(side, full_matrices=False)[0][:, :rank]
    slices = np.einsum("ia,ijk,jb->kab", left, cube, right, optimize=True)
    first, second = np.tensordot(generator.standard_normal((2, count[2])), slices, (1, 0))
    values, vectors = np.linalg.eig(first @ np.linalg.pinv(second))
    vectors = np.where(values.imag < 0, vectors.imag, vectors.real)  # a pair gives both its parts
    tall = left @ vectors
    others = (np.linalg.pinv(tall) @ cube.reshape(count[0], -1)).reshape(rank, *count[1:])
    factors = {n: np.zeros((array.shape[n], rank)) for n in range(array.ndim)}
    for k in range(rank):
        lead = tall[:, k].reshape([array.shape[n] for n in rows])
        rear = others[k].reshape([array.shape[n] for n in (*columns, *rest)])
        for part, modes in ((lead, rows), (rear, (*columns, *rest))):
            for n, vector in zip(modes, _rank_one(part), strict=True):
                factors[n][:, k] = vector
    cores = {}
    for n, node in enumerate(shape.nodes):
        indices = (*node.open, *shape.nodes[0].bonds)
        cores[node.name] = factors[n].reshape([sizes[i] for i in indices]), indices
    return cores


def _split(shape: Sequence[int], rank: int) -> tuple[tuple[int, ...], ...] | None:
    """Choose three groups of modes: two that can carry the rank, of few modes, and the rest."""
    best, least = None, math.inf
    for choice in itertools.product(range(3), repeat=len(shape)):
        groups = tuple(tuple(n for n, c in enumerate(choice) if c == g) for g in range(3))
        counts = [math.prod(shape[n] for n in group) for group in groups]
        if not all(groups) or min(counts[:2]) < rank or counts[2] < 2:
            continue
        cost = counts[0] + counts[1] - 1e-6 * counts[2]
        if cost < least:
            best, least = groups, cost
    return best


def _rank_one(array: Array) -> list[Array]:
    """The leading vector of each mode, with the size on the first."""
    vectors = []
    for n in range(array.ndim):
        matrix = np.moveaxis(array, n, 0).reshape(array.shape[n], -1)
        vectors.append(np.linalg.svd(matrix, full_matrices=False)[0][:, 0])
    size = array
    for vector in vectors:
        size = np.tensordot(vector, size, (0, 0))
    vectors[0] = vectors[0] * float(size)
    return vectors
