"""What every picture has to satisfy, said without the code that draws it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from tenslora.draw import Scene
from tenslora.spec import Network

Cell = tuple[int, int]


def cells(a: Cell, b: Cell) -> list[Cell]:
    """Every cell of the rectangle between two corners."""
    (x1, y1), (x2, y2) = a, b
    return [
        (x, y)
        for x in range(min(x1, x2), max(x1, x2) + 1)
        for y in range(min(y1, y2), max(y1, y2) + 1)
    ]


def faults(scene: Scene, network: Network) -> list[str]:
    """What is wrong with a picture: things that overlap, and ends of indices that are missing."""
    area = {
        cell: box
        for box in scene.boxes
        for cell in cells((box.left, box.top), (box.right, box.bottom))
    }
    words = {(w.x + n, w.y): w.text for w in scene.labels for n in range(len(w.text))}
    inside = all(0 <= x < scene.width and 0 <= y < scene.height for x, y in (*area, *words))
    return [
        *_overlaps(scene, area, words),
        *(fault for wire in scene.wires for fault in _wire(wire, area, words)),
        *_together(scene),
        *_ends(scene, network, area),
        *([] if inside else ["something is outside"]),
    ]


def _overlaps(scene, area, words):
    """Boxes and words that lie on each other: they have fewer cells together than one by one."""
    sizes = [(b.right - b.left + 1) * (b.bottom - b.top + 1) for b in scene.boxes]
    if len(area) != sum(sizes):
        yield "boxes overlap"
    if len(words) != sum(len(label.text) for label in scene.labels):
        yield "words overlap"
    yield from (f"the words {words[cell]!r} are on a box" for cell in words if cell in area)


def _wire(wire, area, words):
    ends = (wire.points[0], wire.points[-1])
    for cell in (cell for a, b in pairwise(wire.points) for cell in cells(a, b)):
        if cell in words:
            yield f"wire {wire.index} goes through {words[cell]!r}"
        if cell in area and cell not in ends:
            yield f"wire {wire.index} goes through box {area[cell].text}"


def _together(scene):
    """Wires of two indices on one line, and dots on the wire of another index."""
    owner: dict[tuple[Cell, Cell], str] = {}
    on: dict[Cell, set[str]] = {}
    for wire in scene.wires:
        for a, b in pairwise(wire.points):
            way = cells(a, b)
            for piece in pairwise(way):
                if owner.setdefault(piece, wire.index) != wire.index:
                    yield f"wires {owner[piece]} and {wire.index} run on each other"
            for cell in way:
                on.setdefault(cell, set()).add(wire.index)
    for dot in scene.dots:
        if on.get((dot.x, dot.y)) != {dot.index}:
            yield f"the dot of {dot.index} is on another wire"


def _ends(scene, network, area):
    there = Counter(
        (area[point].text, wire.index)
        for wire in scene.wires
        for point in (wire.points[0], wire.points[-1])
        if point in area
    )
    wanted = Counter((c.name, i) for term in network.terms for c in term.cores for i in c.indices)
    if there != wanted:
        yield f"missing {dict(wanted - there)}, too many {dict(there - wanted)}"


@pytest.fixture(scope="session")
def faults_of():
    return faults
