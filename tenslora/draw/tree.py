"""A tree of cores: a row from the input to the output, and below it what hangs from the row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenslora.draw.legs import Prong, half_width, hang, sites_prong, spread
from tenslora.draw.parts import Parts, Tie
from tenslora.draw.scene import Box, Sheet
from tenslora.draw.style import Style

__all__ = ["Tree", "draw_hanging", "find_tree", "hang_down", "stem"]

_DROP = 3  # lines from a box to one that hangs from it

#: For each core the bonds that go down from it, and the core at the other end of each.
_Below = Mapping[int, Sequence[tuple[Tie, int]]]


@dataclass(frozen=True)
class Tree:
    """The cores of the row from the west to the east, and what is below each core."""

    row: tuple[int, ...]
    below: _Below


def find_tree(parts: Parts, component: Sequence[int]) -> Tree | None:
    """Return how a component is a tree with branches, or ``None``.

    It is one where nothing rides on a bond and every bond has two ends, where no two ways lead from
    a core to another, and where all inputs end in one core and all outputs in another. A chain is
    none: it is drawn as a row whatever hangs from its middle.
    """
    bonds = parts.inside(component)
    if len(bonds) != len(component) - 1 or any(len(t.ends) != 2 or t.riders for t in bonds):
        return None
    near: dict[int, list[tuple[Tie, int]]] = {core: [] for core in component}
    for tie in bonds:
        one, two = tie.ends
        near[one].append((tie, two))
        near[two].append((tie, one))
    west, east = ([c for c in component if parts.features(c, r)] for r in ("input", "output"))
    if len(west) != 1 or len(east) != 1 or west == east or max(map(len, near.values())) < 3:
        return None
    row = _path(near, west[0], east[0], None) or []
    below = {core: [(t, c) for t, c in near[core] if c not in row] for core in row}
    left = [(core, child) for core in row for _, child in below[core]]
    while left:
        parent, core = left.pop()
        below[core] = [(tie, child) for tie, child in near[core] if child != parent]
        left += [(core, child) for _, child in below[core]]
    return Tree(tuple(row), below)


def _path(near: _Below, start: int, stop: int, last: int | None) -> list[int] | None:
    if start == stop:
        return [stop]
    ways = (_path(near, c, stop, start) for _, c in near[start] if c != last)
    found = next((way for way in ways if way is not None), None)
    return None if found is None else [start, *found]


def draw_hanging(parts: Parts, below: _Below, core: int, style: Style) -> dict[str, Sheet]:
    """Return, for each bond that goes down from a core, what hangs from it.

    The upper border of the box that it leads to has its middle at column and line 0.
    """
    return {tie.index: _draw(parts, below, child, style) for tie, child in below.get(core, ())}


def _draw(parts: Parts, below: _Below, core: int, style: Style) -> Sheet:
    trees = draw_hanging(parts, below, core, style)
    prongs = [*sites_prong(parts.sites[core]), *(stem(i, tree) for i, tree in trees.items())]
    side = spread(prongs)
    sheet = Sheet()
    box = style.box(parts.cores[core], 0, 1, half_width(parts.names[core], side), 1)
    sheet.boxes.append(box)
    hang_down(sheet, box, prongs, side.ports, trees)
    return sheet


def stem(index: str, tree: Sheet) -> Prong:
    """Return a bond that goes down, with the room of what hangs from it."""
    left, _, right, _ = tree.bounds()
    return Prong((index,), "stem", 2 * max(-left, right, len(index) + 1) + 1)


def hang_down(
    sheet: Sheet,
    box: Box,
    prongs: Sequence[Prong],
    ports: Sequence[int],
    trees: Mapping[str, Sheet],
) -> None:
    """Draw what leaves a box downwards: legs, and trees below the words of the legs."""
    drop = max(_DROP, 1 + max((prong.depth for prong in prongs), default=0))
    for prong, port in zip(prongs, ports, strict=True):
        if prong.kind != "stem":
            hang(sheet, box, prong, port, 1)
            continue
        (index,) = prong.indices
        x, top = box.x + port, box.bottom + drop
        sheet.wire(index, (x, box.bottom), (x, top))
        sheet.word(index, x + 1, top - 1, index)
        sheet.add(trees[index].moved(x, top))
