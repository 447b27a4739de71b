"""A component as a row: neighbours joined by straight wires, other bonds by rails above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tenslora.draw.legs import LEG, Prong, half_width, hang, sites_prong, spread
from tenslora.draw.parts import Parts, Tie
from tenslora.draw.scene import Box, Dot, Sheet
from tenslora.draw.style import Style
from tenslora.draw.tree import hang_down, stem

__all__ = ["draw_row", "offsets", "ride", "riders_room"]

_GAP = 5  # columns between neighbours at least
_CLEAR = 2  # columns between the words of neighbours


@dataclass
class _Rail:
    """A wire above the row: the places that it joins, and the sides at which it leaves."""

    tie: Tie
    places: list[int]
    exits: str = ""

    def key(self, count: int) -> tuple[int, int]:
        low = -1 if "w" in self.exits else self.places[0]
        high = count if "e" in self.exits else self.places[-1]
        return low, high


@dataclass
class _Cell:
    """One core of the row."""

    core: int
    west: list[Tie] = field(default_factory=list)
    east: list[Tie] = field(default_factory=list)
    up: list[Prong] = field(default_factory=list)
    down: list[Prong] = field(default_factory=list)
    trees: Mapping[str, Sheet] = field(default_factory=dict)
    x: int = 0

    @property
    def half_height(self) -> int:
        return max(1, len(self.west), len(self.east))


def offsets(count: int) -> list[int]:
    """Return the lines of parallel wires around an axis.

    >>> offsets(1), offsets(2), offsets(3)
    ([0], [-1, 1], [-2, 0, 2])
    """
    return [2 * n - count + 1 for n in range(count)]


def draw_row(
    parts: Parts,
    order: Sequence[int],
    style: Style,
    trees: Mapping[int, Mapping[str, Sheet]] | None = None,
) -> Sheet:
    """Draw a component with its cores from left to right in ``order``, around line 0.

    Parameters
    ----------
    trees : for each core what hangs from it, by the bond that leads there.
    """
    trees = trees or {}
    cells = [_Cell(core, trees=trees.get(core, {})) for core in _with_riders(parts, order)]
    rails = _sort_wires(parts, cells)
    _fill_sides(parts, cells, rails)
    sheet = Sheet()
    boxes = _place(parts, cells, style, sheet)
    _join_neighbours(parts, cells, boxes, style, sheet)
    ports = _hang_all(cells, boxes, sheet, _lanes(rails, len(cells)))
    _draw_rails(rails, ports, boxes, sheet, len(cells))
    return sheet


def _with_riders(parts: Parts, order: Sequence[int]) -> list[int]:
    """Give a place in the row to the riders of bonds that are no straight wires."""
    found = list(order)
    while True:
        place = {core: n for n, core in enumerate(found)}
        far = [
            (tie, rider)
            for tie in parts.inside(order)
            for rider in tie.riders
            if rider not in place and abs(place[tie.ends[0]] - place[tie.ends[-1]]) > 1
        ]
        if not far:
            return found
        tie, rider = far[0]
        found.insert(1 + min(place[core] for core in tie.ends), rider)


def _sort_wires(parts: Parts, cells: list[_Cell]) -> list[_Rail]:
    """Give straight wires to the cells, and return the others as rails."""
    place = {cell.core: n for n, cell in enumerate(cells)}
    rails = []
    for tie in parts.inside(place):
        if not place.keys() >= set(tie.ends):
            continue  # it leads to what hangs below
        at = sorted(place[core] for core in (*tie.ends, *tie.riders) if core in place)
        if len(at) == 2 and at[1] - at[0] == 1:
            cells[at[0]].east.append(tie)
            cells[at[1]].west.append(tie)
        else:
            rails.append(_Rail(tie, at))
    for tie in parts.ties:
        at = sorted(place[core] for core in tie.ends if core in place)
        if tie.role == "bond" or not at:
            continue
        side, end = ("w", 0) if tie.role == "input" else ("e", len(cells) - 1)
        if end in at:
            (cells[end].west if side == "w" else cells[end].east).append(tie)
        inner = [n for n in at if n != end]
        if inner and not tie.is_plain:
            rails.append(_Rail(tie, inner, side))
        elif inner:
            prongs = cells[inner[0]].down if tie.role == "input" else cells[inner[0]].up
            prongs.append(Prong((tie.index,), "leg"))
    for left, right in pairwise(cells):
        left.east.sort(key=lambda tie: not tie.riders)
        right.west = [tie for tie in left.east if tie in right.west]
    return rails


def _fill_sides(parts: Parts, cells: list[_Cell], rails: list[_Rail]) -> None:
    """Order what goes up so that rails do not cross each other's stems where they need not."""
    for n, cell in enumerate(cells):
        left: list[tuple[int, str]] = []
        right: list[tuple[int, str]] = []
        through: list[tuple[int, str]] = []
        for rail in rails:
            if n not in rail.places:
                continue
            low, high = rail.key(len(cells))
            group = right if low == n else left if high == n else through
            group.append((high - low, rail.tie.index))
        stems = [
            *(Prong((index,), "stem") for _, index in sorted(left)),
            *cell.up,
            *(Prong((index,), "stem") for _, index in through),
            *(Prong((index,), "stem") for _, index in sorted(right, reverse=True)),
        ]
        cell.up = stems
        cell.down += sites_prong(parts.sites[cell.core])
        cell.down += [stem(index, tree) for index, tree in cell.trees.items()]


def _place(parts: Parts, cells: list[_Cell], style: Style, sheet: Sheet) -> list[Box]:
    boxes: list[Box] = []
    words = 0  # the column up to which words of the cells so far reach
    for cell in cells:
        up, down = spread(cell.up), spread(cell.down)
        half = half_width(parts.names[cell.core], up, down)
        if boxes:
            wide = max((len(tie.index) + 2 for tie in cell.west), default=0)
            riders = sum(riders_room(parts, tie) for tie in cell.west)
            wide += riders + 2 if riders else 0
            reach = max(-up.left, -down.left, 0)
            cell.x = max(boxes[-1].right + max(wide, _GAP) + half + 1, words + _CLEAR + reach + 1)
        boxes.append(style.box(parts.cores[cell.core], cell.x, 0, half, cell.half_height))
        words = max(words, cell.x + max(up.right, down.right, half))
    sheet.boxes += boxes
    return boxes


def riders_room(parts: Parts, tie: Tie) -> int:
    """Return the columns for the riders of a wire, each with what it carries."""
    return sum(_rider_width(parts, core) + 1 for core in tie.riders)


def _rider_width(parts: Parts, core: int) -> int:
    prongs = sites_prong(parts.sites[core])
    return max(2 * half_width(parts.names[core]) + 1, *(p.width for p in prongs), 0)


def ride(
    parts: Parts, tie: Tie, start: int, line: int, floor: int, style: Style, sheet: Sheet
) -> int:
    """Draw the riders of a wire on ``line`` from column ``start`` on, and return the next column.

    Parameters
    ----------
    floor : the line above which they have to be: the uppermost of the wires beside this one.
    """
    for core in tie.riders:
        width = _rider_width(parts, core)
        box = style.box(
            parts.cores[core], start + width // 2, floor - 3, half_width(parts.names[core]), 1
        )
        sheet.boxes.append(box)
        sheet.dots.append(Dot(tie.index, box.x, line))
        sheet.wire(tie.index, (box.x, line), (box.x, box.bottom))
        for prong in sites_prong(parts.sites[core]):
            hang(sheet, box, prong, 0, -1)
        start += width + 1
    return start


def _join_neighbours(
    parts: Parts, cells: list[_Cell], boxes: list[Box], style: Style, sheet: Sheet
) -> None:
    for left, right, cell in zip(boxes, boxes[1:], cells, strict=False):
        lines = offsets(len(cell.east))
        start = left.right + 3 + max((len(tie.index) for tie in cell.east), default=0)
        for tie, line in zip(cell.east, lines, strict=True):
            sheet.wire(tie.index, (left.right, line), (right.left, line))
            if tie.riders:
                sheet.word(tie.index, left.right + 2, line - 1, tie.index)
                start = ride(parts, tie, start, line, lines[0], style, sheet)
            else:
                middle = (left.right + right.left) // 2
                sheet.centred(tie.index, middle, line - 1, tie.index)
    for cell, box, side in ((cells[0], boxes[0], "w"), (cells[-1], boxes[-1], "e")):
        ties = cell.west if side == "w" else cell.east
        column = box.left if side == "w" else box.right
        for tie, line in zip(ties, offsets(len(ties)), strict=True):
            sheet.exit(tie.index, side, (column, line))


def _lanes(rails: list[_Rail], count: int) -> dict[str, int]:
    """Return the lane of each rail: the short ones below, none over another in its lane."""
    taken: list[list[tuple[int, int]]] = []
    found: dict[str, int] = {}
    for rail in sorted(rails, key=lambda r: (r.key(count)[1] - r.key(count)[0], r.tie.index)):
        low, high = rail.key(count)
        for lane, spans in enumerate([*taken, []]):
            if lane == len(taken):
                taken.append([])
            if all(high < a or b < low for a, b in spans):
                taken[lane].append((low, high))
                found[rail.tie.index] = lane
                break
    return found


def _hang_all(
    cells: list[_Cell], boxes: list[Box], sheet: Sheet, lanes: Mapping[str, int]
) -> dict[tuple[int, str], tuple[int, int]]:
    """Draw the legs; return for each place and rail its port and, under ``""``, the lowest lane."""
    top = sheet.bounds()[1]
    ceiling = top - 2 * len(set(lanes.values()))
    ports: dict[tuple[int, str], tuple[int, int]] = {}
    for n, (cell, box) in enumerate(zip(cells, boxes, strict=True)):
        end = min(box.top - LEG, ceiling - 1) if lanes else None
        down, up = spread(cell.down), spread(cell.up)
        hang_down(sheet, box, cell.down, down.ports, cell.trees)
        for prong, port in zip(cell.up, up.ports, strict=True):
            if prong.kind == "stem":
                lane = top - 2 - 2 * lanes[prong.indices[0]]
                ports[n, prong.indices[0]] = (box.x + port, lane)
            else:
                hang(sheet, box, prong, port, -1, end)
    return ports


def _draw_rails(
    rails: list[_Rail],
    ports: Mapping[tuple[int, str], tuple[int, int]],
    boxes: list[Box],
    sheet: Sheet,
    count: int,
) -> None:
    left, _, right, _ = sheet.bounds()
    for rail in rails:
        index = rail.tie.index
        stems = [(*ports[n, index], boxes[n].top) for n in rail.places]
        lane = stems[0][1]
        path = [(x, lane) for x, _, _ in stems]
        inner = stems[1:-1]
        if "w" in rail.exits:
            path, inner = [(left - 1, lane), *path], stems[:-1]
        else:
            path = [(stems[0][0], stems[0][2]), *path]
        if "e" in rail.exits:
            path, inner = [*path, (right + 1, lane)], stems[1:]
        else:
            path = [*path, (stems[-1][0], stems[-1][2])]
        sheet.wire(index, *path)
        for x, _, top in inner:
            sheet.wire(index, (x, top), (x, lane))
            sheet.dots.append(Dot(index, x, lane))
        for side in rail.exits:
            sheet.exit(index, side, path[0] if side == "w" else path[-1])
    for rail in rails:
        _name_rail(rail, ports, sheet)


def _name_rail(rail: _Rail, ports: Mapping[tuple[int, str], tuple[int, int]], sheet: Sheet) -> None:
    """Write the name above a rail, near its middle, where no other wire goes up."""
    if rail.exits:
        return  # the name stands where the wire ends
    index = rail.tie.index
    first, lane = ports[rail.places[0], index]
    last, _ = ports[rail.places[1], index]
    taken = {
        a[0]
        for wire in sheet.wires
        for a, b in zip(wire.points, wire.points[1:], strict=False)
        if a[0] == b[0] and min(a[1], b[1]) <= lane - 1 <= max(a[1], b[1])
    }
    middle = (first + last - len(index) + 1) // 2
    starts = sorted(range(first + 1, last - len(index) + 1), key=lambda x: (abs(x - middle), x))
    fits = (x for x in starts if not taken & set(range(x - 1, x + len(index) + 1)))
    sheet.word(index, next(fits, middle), lane - 1, index)
