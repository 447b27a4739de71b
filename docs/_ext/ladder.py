"""The order of the families as a picture with links: general at the left, special at the right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from tenslora.algebra import Lattice

_CHAR, _LINE, _PAD = 7.3, 17, 8  # a letter, a line, the room around a text
_GAP_X, _GAP_Y = 64, 12

_Class = tuple[str, ...]
_Box = tuple[float, float, float, float]  # left, top, width, height


def ladder_svg(lattice: Lattice, link: Callable[[str], str]) -> str:
    """Draw the free order as SVG; each name is a link.

    Parameters
    ----------
    link : the address of a family's page.
    """
    classes, covers = lattice.classes(), lattice.covers()
    columns = _columns(classes, covers)
    boxes = _boxes(columns)
    width = max(x + w for x, _, w, _ in boxes.values()) + _PAD
    height = max(y + h for _, y, _, h in boxes.values()) + _PAD
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="tl-ladder" width="{width:.0f}" '
            f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
            'aria-label="Which family is a special case of which">',
            *(_line(boxes[high], boxes[low], low, high) for low, high in covers),
            *(_draw(members, boxes[members], link) for column in columns for members in column),
            "</svg>",
        ]
    )


def _columns(
    classes: Sequence[_Class], covers: Sequence[tuple[_Class, _Class]]
) -> list[list[_Class]]:
    """Return the classes column by column; what is related to nothing stands last of all."""
    depth = dict.fromkeys(classes, 0)
    for _ in classes:
        for low, high in covers:
            depth[low] = max(depth[low], depth[high] + 1)
    columns: list[list[_Class]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for members in classes:
        columns[depth[members]].append(members)
    place = {members: float(n) for column in columns for n, members in enumerate(column)}
    near = {m: [b if a == m else a for a, b in covers if m in (a, b)] for m in classes}
    for turn in range(8):  # each time towards the middle of its neighbours: fewer crossings
        for column in columns if turn % 2 == 0 else columns[::-1]:
            for m in column:
                place[m] = sum(place[o] for o in near[m]) / len(near[m]) if near[m] else 1e6
            column.sort(key=lambda m: (place[m], m))
            step = len(max(columns, key=len)) / len(column)
            place.update({m: (n + 0.5) * step for n, m in enumerate(column)})
    return columns


def _boxes(columns: Sequence[Sequence[_Class]]) -> dict[_Class, _Box]:
    sizes = {
        m: (max(map(len, m)) * _CHAR + 2 * _PAD, len(m) * _LINE + 2 * _PAD - 4)
        for column in columns
        for m in column
    }
    heights = [sum(sizes[m][1] + _GAP_Y for m in column) - _GAP_Y for column in columns]
    boxes: dict[_Class, _Box] = {}
    left = float(_PAD)
    for column, total in zip(columns, heights, strict=True):
        top = _PAD + (max(heights) - total) / 2
        for members in column:
            boxes[members] = (left, top, *sizes[members])
            top += sizes[members][1] + _GAP_Y
        left += max(sizes[m][0] for m in column) + _GAP_X
    return boxes


def _line(one: _Box, two: _Box, low: _Class, high: _Class) -> str:
    x1, y1 = one[0] + one[2], one[1] + one[3] / 2
    x2, y2 = two[0], two[1] + two[3] / 2
    middle = (x1 + x2) / 2 if x2 - x1 < 2 * _GAP_X else x2 - _GAP_X / 2
    path = f"M{x1:.1f} {y1:.1f} C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    title = escape(f"{' = '.join(low)} is a special case of {' = '.join(high)}")
    return f'<path class="tl-rung" d="{path}"><title>{title}</title></path>'


def _draw(members: _Class, box: _Box, link: Callable[[str], str]) -> str:
    left, top, width, height = box
    texts = "".join(
        f'<a href="{escape(link(name), quote=True)}"><text x="{left + _PAD:.1f}" '
        f'y="{top + _PAD + 10 + _LINE * n:.1f}">{escape(name)}</text></a>'
        for n, name in enumerate(members)
    )
    rect = (
        f'<rect class="tl-class" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" rx="6"/>'
    )
    return f"<g>{rect}{texts}</g>"
