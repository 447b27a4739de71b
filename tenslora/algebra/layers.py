"""Where the nodes of an order stand: in layers, with few crossings and room for every line."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["Layers", "make_layers"]

_SWEEPS = 16


@dataclass
class Layers:
    """Nodes in layers, and lines from layer to layer.

    Attributes
    ----------
    rows : the nodes of each layer, in order. Numbers from ``count`` on are stops: places where a
        line passes a layer between its ends.
    lines : for each edge its nodes and stops, one a layer, from the upper end to the lower.
    """

    count: int
    rows: list[list[int]]
    lines: dict[tuple[int, int], list[int]]
    above: dict[int, list[int]] = field(default_factory=dict)
    below: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in (node for row in self.rows for node in row):
            self.above[node], self.below[node] = [], []
        for stops in self.lines.values():
            for one, two in itertools.pairwise(stops):
                self.below[one].append(two)
                self.above[two].append(one)

    def crossings(self) -> int:
        """Return how often lines cross, where each goes straight from layer to layer."""
        total = 0
        for upper, lower in zip(self.rows, self.rows[1:], strict=False):
            at = {node: n for n, node in enumerate(lower)}
            ends = [sorted(at[end] for end in self.below[node]) for node in upper]
            flat = [end for group in ends for end in group]
            total += sum(a > b for n, a in enumerate(flat) for b in flat[n + 1 :])
            # two lines from one node do not cross: they were sorted
        return total

    def untangle(self) -> None:
        """Order each layer by the middle of its neighbours, to and fro; keep the best."""
        best, least = [list(row) for row in self.rows], self.crossings()
        for sweep in range(_SWEEPS):
            down = sweep % 2 == 0
            near = self.above if down else self.below
            for n in range(1, len(self.rows)) if down else range(len(self.rows) - 2, -1, -1):
                other = self.rows[n - 1 if down else n + 1]
                at = {node: k for k, node in enumerate(other)}
                own = {node: k for k, node in enumerate(self.rows[n])}
                means = {x: _mean([at[y] for y in near[x]], own[x]) for x in own}
                self.rows[n].sort(key=lambda x: (means[x], own[x]))
            crossings = self.crossings()
            if crossings < least:
                best, least = [list(row) for row in self.rows], crossings
        self.rows = best

    def middles(self, lengths: Sequence[float], gap: float, lane: float) -> dict[int, float]:
        """Return where the middle of each node and stop stands along its layer, from 0.

        Each is as near to the middle of its neighbours as the others leave room.

        Parameters
        ----------
        lengths : of each node along the layer; a stop takes ``lane``.
        gap : between one and the next.
        """
        size = {x: lengths[x] if x < self.count else lane for row in self.rows for x in row}
        found: dict[int, float] = {}
        for row in self.rows:
            found.update(
                zip(row, _apart([0.0] * len(row), [size[x] for x in row], gap), strict=True)
            )
        for sweep in range(_SWEEPS):
            for row in self.rows if sweep % 2 == 0 else self.rows[::-1]:
                near = [[*self.above[x], *self.below[x]] for x in row]
                wanted = [
                    _mean([found[y] for y in ends], found[x])
                    for x, ends in zip(row, near, strict=True)
                ]
                placed = _apart(wanted, [size[x] for x in row], gap)
                found.update(zip(row, placed, strict=True))
        least = min((found[x] - size[x] / 2 for x in found), default=0.0)
        return {x: middle - least for x, middle in found.items()}


def make_layers(count: int, edges: Iterable[tuple[int, int]]) -> Layers:
    """Put the nodes ``0 .. count - 1`` into layers, each as high as those above it allow.

    Parameters
    ----------
    edges : ``(upper, lower)``, without a cycle.

    Examples
    --------
    >>> layers = make_layers(3, [(0, 1), (1, 2), (0, 2)])
    >>> layers.rows, layers.lines[0, 2]
    ([[0], [1, 3], [2]], [0, 3, 2])
    """
    edges = list(edges)
    depth = [0] * count
    for _ in range(count):
        for upper, lower in edges:
            depth[lower] = max(depth[lower], depth[upper] + 1)
    rows: list[list[int]] = [[] for _ in range(max(depth, default=-1) + 1)]
    for node in range(count):
        rows[depth[node]].append(node)
    lines, new = {}, count
    for upper, lower in edges:
        stops = [upper]
        for layer in range(depth[upper] + 1, depth[lower]):
            rows[layer].append(new)
            stops.append(new)
            new += 1
        lines[upper, lower] = [*stops, lower]
    layers = Layers(count, rows, lines)
    layers.untangle()
    return layers


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _apart(wanted: Sequence[float], lengths: Sequence[float], gap: float) -> list[float]:
    """Return the middles nearest to ``wanted`` (least squares) that keep order and distance.

    >>> _apart([0.0, 0.0, 10.0], [2.0, 2.0, 2.0], 1.0)
    [-1.5, 1.5, 10.0]
    """
    offsets, at = [], 0.0
    for n, length in enumerate(lengths):
        at += (lengths[n - 1] / 2 + gap + length / 2) if n else 0.0
        offsets.append(at)
    blocks: list[tuple[float, int]] = []  # sum and number of what moves together
    for want, offset in zip(wanted, offsets, strict=True):
        total, number = want - offset, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / number:
            before = blocks.pop()
            total, number = total + before[0], number + before[1]
        blocks.append((total, number))
    shifts = [total / number for total, number in blocks for _ in range(number)]
    return [shift + offset for shift, offset in zip(shifts, offsets, strict=True)]
