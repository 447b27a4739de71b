"""Which decomposition an equation is: a tree of cores, a ring, CP, or none of these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from tenslora.spec import Network

__all__ = ["Shape", "find_shape"]


@dataclass(frozen=True)
class Node:
    """A core of a shape: the target's indices and the bonds that it carries."""

    name: str
    open: tuple[str, ...]
    bonds: tuple[str, ...]


@dataclass(frozen=True)
class Shape:
    """A product of trained cores in which every index of the target stands on one core.

    Attributes
    ----------
    kind : ``"matrix"`` (one core), ``"tucker"`` (a core in the middle, and one around it for each
        of its bonds), ``"train"``, ``"tree"``, ``"ring"`` or ``"cp"``.
    nodes : the cores, in the order of the equation; of a train or a ring from one to the next. The
        first of a Tucker or a tree is its root.
    batch : the sites that stand on every core: each value has a decomposition of its own.
    tied : the sites that stand on no core.
    """

    kind: str
    nodes: tuple[Node, ...]
    batch: tuple[str, ...]
    tied: tuple[str, ...]


def find_shape(network: Network, frozen: Collection[str] = ()) -> Shape | None:
    """Recognise a shape; ``None`` where there is none that a decomposition is known for.

    >>> from tenslora.spec import parse
    >>> s = find_shape(parse("W[layer out in] = U[layer in a] V[layer out b] G[layer a b]"))
    >>> s.kind, s.batch, [node.name for node in s.nodes]
    ('tucker', ('layer',), ['G', 'U', 'V'])
    >>> find_shape(parse("W[layer out in] = B[out r] d[layer r] A[r in]")).kind
    'cp'
    """
    if len(network.terms) > 1 or frozen:
        return None
    cores = network.terms[0].cores
    if any(core.is_constant for core in cores) or len(cores) != len(network.cores):
        return None
    counts = Counter(i for core in cores for i in core.indices)
    target = network.target.indices
    batch = tuple(i for i in target if counts[i] == len(cores) and i in network.sites)
    if len(cores) == 1:
        batch = ()
    if any(counts[i] > 1 and i not in batch for i in target):
        return None
    nodes = tuple(
        Node(
            core.name,
            tuple(i for i in core.indices if i in target and i not in batch),
            tuple(i for i in core.indices if i not in target),
        )
        for core in cores
    )
    found = _classify(nodes, counts)
    if found is None:
        return None
    kind, ordered = found
    return Shape(kind, ordered, batch, tuple(i for i in target if not counts[i]))


def _classify(nodes: tuple[Node, ...], counts: Counter[str]) -> tuple[str, tuple[Node, ...]] | None:
    if len(nodes) == 1:
        return "matrix", nodes
    bonds = {bond for node in nodes for bond in node.bonds}
    if len(nodes) > 2 and all(set(node.bonds) == bonds for node in nodes):
        return ("cp", nodes) if all(node.open for node in nodes) else None
    if any(counts[bond] != 2 for bond in bonds):
        return None
    neighbours = {
        node.name: [
            other for other in nodes if other is not node and {*other.bonds} & {*node.bonds}
        ]
        for node in nodes
    }
    edges = sum(map(len, neighbours.values())) // 2
    if len(_reached(nodes[0], neighbours)) < len(nodes):
        return None
    if edges == len(nodes) - 1:
        return _tree(nodes, neighbours)
    if all(len(found) == 2 for found in neighbours.values()) and all(n.open for n in nodes):
        return "ring", tuple(_reached(nodes[0], neighbours))
    return None


def _tree(
    nodes: tuple[Node, ...], neighbours: dict[str, list[Node]]
) -> tuple[str, tuple[Node, ...]]:
    middle = max(nodes, key=lambda node: len(neighbours[node.name]))
    degree = len(neighbours[middle.name])
    if degree == len(nodes) - 1 and degree > 1 and all(n.open for n in nodes if n is not middle):
        return "tucker", (middle, *(node for node in nodes if node is not middle))
    if degree <= 2:
        ends = [node for node in nodes if len(neighbours[node.name]) == 1]
        return "train", tuple(_reached(ends[0], neighbours))
    return "tree", (middle, *(node for node in nodes if node is not middle))


def _reached(start: Node, neighbours: dict[str, list[Node]]) -> list[Node]:
    """Walk from a node as deep as it goes, and return the nodes in that order."""
    found, waiting = [start], list(reversed(neighbours[start.name]))
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.append(node)
            waiting += [n for n in neighbours[node.name] if n not in found]
    return found
