"""Where everything is: one layout for every ink.

Rows are components joined by bonds, from the input at the left to the output at the right. A wire
of a feature leaves there, or up and down from a core between; the legs of sites hang down, dotted.
Where three or more ends of an index meet there is a dot, and a vector rides above its wire. Terms
are stacked with a plus.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tenslora.draw.colours import hues
from tenslora.draw.order import order_row
from tenslora.draw.parts import Parts, Tie, take_apart
from tenslora.draw.ring import draw_ring, find_ring
from tenslora.draw.row import draw_row, ride
from tenslora.draw.scene import Dot, Scene, Sheet
from tenslora.draw.star import draw_star, find_hub
from tenslora.draw.style import Style
from tenslora.draw.tree import draw_hanging, find_tree
from tenslora.spec import Network

__all__ = ["layout"]

_MARGIN = 3  # columns from the last core to the end of a leg


def layout(network: Network, *, frozen: Collection[str] = (), zero: Collection[str] = ()) -> Scene:
    """Return the picture of an equation.

    Parameters
    ----------
    network : the equation.
    frozen, zero : names of the cores that are not trained, and of those that start at zero.

    >>> from tenslora.spec import parse
    >>> scene = layout(parse("W[out in] = B[out r] A[r in]"), zero=["B"])
    >>> [(box.text, box.zero) for box in scene.boxes], len(scene.wires)
    ([('A', False), ('B', True)], 3)
    """
    style = Style(frozenset(frozen), frozenset(zero))
    sheets = [_term(take_apart(network, term), style) for term in network.terms]
    whole = Sheet()
    bottom = None
    middle = max((s.bounds()[2] - s.bounds()[0]) // 2 for s in sheets)
    for sheet in sheets:
        left, top, right, low = sheet.bounds()
        line = 0
        if bottom is not None:
            whole.word("+", middle, bottom + 2, None, "sign")
            line = bottom + 4
        whole.add(sheet.moved(middle - (right - left) // 2 - left, line - top))
        bottom = line + low - top
    return Scene.of(whole, str(network), hues(network))


def _term(parts: Parts, style: Style) -> Sheet:
    """Draw one term: its components below each other, and the features that join them."""
    sheets = [_component(parts, component, style) for component in parts.components]
    whole, exits, bottom = Sheet(), dict[tuple[str, str], list[tuple[int, int]]](), None
    middle = max(((s.bounds()[2] - s.bounds()[0]) // 2 for s in sheets), default=0)
    for sheet in sheets:
        left, top, right, low = sheet.bounds()
        line = 0 if bottom is None else bottom + 2
        moved = sheet.moved(middle - (right - left) // 2 - left, line - top)
        whole.add(moved)
        for key, points in moved.exits.items():
            exits.setdefault(key, []).extend(points)
        bottom = line + low - top
    left, _, right, _ = whole.bounds()
    ties = {tie.index: tie for tie in parts.ties}
    for side, edge in (("w", left), ("e", right)):
        leaving = [(ties[i], points) for (i, at), points in exits.items() if at == side]
        _leave(parts, leaving, edge, -1 if side == "w" else 1, style, whole)
    return whole


def _component(parts: Parts, component: Sequence[int], style: Style) -> Sheet:
    hub = find_hub(parts, component)
    if hub is not None:
        return draw_star(parts, hub, style)
    ring = find_ring(parts, component)
    if ring is not None:
        return draw_ring(parts, ring, style)
    tree = find_tree(parts, component)
    if tree is not None:
        trees = {core: draw_hanging(parts, tree.below, core, style) for core in tree.row}
        return draw_row(parts, tree.row, style, trees)
    return draw_row(parts, order_row(parts, component), style)


def _leave(
    parts: Parts,
    leaving: Sequence[tuple[Tie, list[tuple[int, int]]]],
    edge: int,
    way: int,
    style: Style,
    sheet: Sheet,
) -> None:
    """Draw the ends of the features at one side: joined by a dot, with their riders, named."""
    lines = {tie.index: sorted(points, key=lambda p: (p[1], p[0])) for tie, points in leaving}
    joined = [tie for tie, points in leaving if len(points) > 1]
    bus = {tie.index: edge + way * (2 + 2 * n) for n, tie in enumerate(joined)}
    start = edge + way * (2 * len(joined) + (1 if joined else 0))
    floor = min((y for points in lines.values() for _, y in points), default=0)
    ends: list[tuple[Tie, int]] = []
    stop = start + way * _MARGIN
    taken = {points[0][1] for points in lines.values() if len(points) == 1}
    for tie, _ in leaving:
        points = lines[tie.index]
        line = points[0][1]
        if tie.index in bus:
            line = _bus_line(points, taken | {y for ps in lines.values() for _, y in ps})
            taken.add(line)
            for x, y in points:
                sheet.wire(tie.index, (x, y), (bus[tie.index], y), (bus[tie.index], line))
            sheet.dots.append(Dot(tie.index, bus[tie.index], line))
        ends.append((tie, line))
    riding = [(tie, line) for tie, line in ends if tie.riders]
    for tie, line in riding:
        stop = _ride_outside(parts, tie, (stop, line, floor), way, style, sheet)
    for tie, line in ends:
        x = bus.get(tie.index, lines[tie.index][0][0])
        sheet.wire(tie.index, (x, line), (stop, line))
        column = stop + 2 if way > 0 else stop - 1 - len(tie.index)
        sheet.word(tie.index, column, line, tie.index)


def _bus_line(points: Sequence[tuple[int, int]], taken: Collection[int]) -> int:
    """Return the line on which joined wires go on: between them, where no other wire is."""
    first, last = points[0][1], points[-1][1]
    middle = (first + last) // 2
    near = sorted(range(first - 1, last + 2), key=lambda y: (abs(y - middle), y))
    far = range(last + 2, last + 3 + len(taken))
    free: int = next(y for y in (*near, *far) if y not in taken)
    return free


def _ride_outside(
    parts: Parts,
    tie: Tie,
    at: tuple[int, int, int],
    way: int,
    style: Style,
    sheet: Sheet,
) -> int:
    """Draw the riders of a leg beyond the cores and return the column where they end."""
    start, line, floor = at
    if way > 0:
        return ride(parts, tie, start, line, floor, style, sheet) + 1
    trial = Sheet()
    width = ride(parts, tie, 0, line, floor, style, trial)
    sheet.add(trial.moved(start - width + 1, 0))
    return start - width - 1
