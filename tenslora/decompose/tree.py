"""Nested singular value decompositions: the cores of a tree from its leaves to its root.

For a train this is TT-SVD (Oseledets 2011), for a Tucker the sequentially truncated HOSVD
(Vannieuwenhoven et al. 2012), for a binary tree the hierarchical SVD (Grasedyck 2010): the squared
error is at most the sum, over the bonds, of what the best cut at each bond loses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tenslora.decompose.contraction import Array, Operand
from tenslora.decompose.shape import Node, Shape

__all__ = ["Tree", "make_tree", "nested_svd"]


@dataclass(frozen=True)
class Tree:
    """A tree with a root: for each node its children and the bonds to its parent.

    Attributes
    ----------
    order : the nodes, children before their parents; the root is the last.
    children : the names of each node's children.
    edges : the bonds between a node and its parent; none at the root.
    """

    order: tuple[Node, ...]
    children: Mapping[str, tuple[str, ...]]
    edges: Mapping[str, tuple[str, ...]]

    def rank(self, name: str, sizes: Mapping[str, int]) -> int:
        """The size of the joint bond between a node and its parent."""
        return math.prod(sizes[bond] for bond in self.edges[name])


def make_tree(shape: Shape) -> Tree:
    """Hang a shape up at its root: the last core of a train, else the first node."""
    root = shape.nodes[-1 if shape.kind == "train" else 0]
    order, edges = [root], {root.name: tuple[str, ...]()}
    children: dict[str, tuple[str, ...]] = {}
    for node in order:  # grows while it is read
        below = [n for n in shape.nodes if n.name not in edges and {*n.bonds} & {*node.bonds}]
        children[node.name] = tuple(n.name for n in below)
        for child in below:
            edges[child.name] = tuple(bond for bond in child.bonds if bond in node.bonds)
        order += below
    return Tree(tuple(reversed(order)), children, edges)


def nested_svd(
    tree: Tree, tensor: Operand, sizes: Mapping[str, int], tolerance: float | None = None
) -> tuple[dict[str, Operand], dict[str, Array]]:
    """Decompose a tensor along a tree.

    Parameters
    ----------
    tree : the cores.
    tensor : the array, and the open index that each axis is.
    sizes : the size of each index; a bond larger than what it can carry is filled with zeros.
    tolerance : choose the ranks instead: the error may be this part of the tensor's norm.

    Returns
    -------
    dict
        The cores, with the indices of their axes. All but the root have orthonormal columns.
    dict
        The singular values at the bonds between each node and its parent.
    """
    array, held = tensor
    allowed = 0.0
    if tolerance is not None:
        allowed = (tolerance * float(np.linalg.norm(array))) ** 2 / max(1, len(tree.order) - 1)
    labels: list[tuple[str, ...]] = [(index,) for index in held]
    cores: dict[str, Operand] = {}
    spectra: dict[str, Array] = {}
    for node in tree.order[:-1]:
        rows: list[tuple[str, ...]] = [(index,) for index in node.open]
        rows += [tree.edges[child] for child in tree.children[node.name]]
        array, labels = _to_front(array, labels, rows)
        lead, rest = array.shape[: len(rows)], array.shape[len(rows) :]
        matrix = array.reshape(math.prod(lead), -1)
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        rank = tree.rank(node.name, sizes) if tolerance is None else _rank(s, allowed)
        kept = min(rank, len(s))
        basis = np.zeros((len(matrix), rank))
        basis[:, :kept] = u[:, :kept]
        array = np.zeros((rank, matrix.shape[1]))
        array[:kept] = s[:kept, None] * vt[:kept]
        array = array.reshape(rank, *rest)
        edge = tree.edges[node.name]
        cores[node.name] = _apart(basis.reshape(*lead, rank), [*rows, edge], sizes)
        labels, spectra[node.name] = [edge, *labels[len(rows) :]], s
    root = tree.order[-1].name
    cores[root] = _apart(array, labels, sizes)
    return cores, spectra


def _rank(values: Array, allowed: float) -> int:
    """The smallest rank that leaves out at most this energy."""
    tails = np.concatenate([np.cumsum(values[::-1] ** 2)[::-1], [0.0]])
    return max(1, int(np.argmax(tails <= allowed)))


def _to_front(
    array: Array, labels: Sequence[tuple[str, ...]], first: Sequence[tuple[str, ...]]
) -> tuple[Array, list[tuple[str, ...]]]:
    order = [labels.index(label) for label in first]
    order += [n for n in range(len(labels)) if n not in order]
    return array.transpose(order), [labels[n] for n in order]


def _apart(array: Array, labels: Sequence[tuple[str, ...]], sizes: Mapping[str, int]) -> Operand:
    """Take axes of several bonds apart."""
    if any(len(label) > 1 for label in labels):
        lengths = zip(labels, array.shape, strict=True)
        array = array.reshape([sizes[i] if len(of) > 1 else n for of, n in lengths for i in of])
    return array, tuple(i for label in labels for i in label)
