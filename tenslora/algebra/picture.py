"""The lattice as a picture: families as boxes, special cases below those that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tenslora.algebra.lattice import Lattice

__all__ = ["lattice_svg"]

_CHAR, _LINE, _PAD = 7.2, 16, 8  # width of a letter, height of a line, room around a text
_GAP_X, _GAP_Y = 18, 48

_Class = tuple[str, ...]

_STYLE = (
    ".tl-box{fill:var(--tl-fill,none);stroke:currentColor}"
    ".tl-line{stroke:currentColor;stroke-opacity:.45;fill:none}"
    "text{font:12px ui-monospace,monospace;fill:currentColor}"
)


def lattice_svg(lattice: Lattice) -> str:
    """Draw the free order: the general families above, their special cases below.

    Families in one box are special cases of each other at suitable ranks. Lines go to the families
    directly above. The same lattice gives the same bytes.

    Examples
    --------
    >>> from tenslora.algebra.lattice import Lattice
    >>> lattice_svg(Lattice(("lora",), {})).startswith("<svg ")
    True
    """
    classes, covers = lattice.classes(), lattice.covers()
    rows = _rows(classes, covers)
    boxes = _boxes(rows)
    width = max(x + w for x, _, w, _ in boxes.values()) + _PAD
    height = max(y + h for _, y, _, h in boxes.values()) + _PAD
    lines = [_line(boxes[low], boxes[high]) for low, high in covers]
    names = ", ".join(f"{' = '.join(low)} below {' = '.join(high)}" for low, high in covers)
    label = escape(f"special cases: {names or 'none'}", quote=True)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{label}">',
            f"<style>{_STYLE}</style>",
            *lines,
            *(_draw(members, boxes[members]) for row in rows for members in row),
            "</svg>",
            "",
        ]
    )


def _rows(classes: Sequence[_Class], covers: Sequence[tuple[_Class, _Class]]) -> list[list[_Class]]:
    """Return the classes row by row from the top, each as low as the ones above it allow."""
    depth = dict.fromkeys(classes, 0)
    for _ in classes:
        for low, high in covers:
            depth[low] = max(depth[low], depth[high] + 1)
    rows: list[list[_Class]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for members in classes:
        rows[depth[members]].append(members)
    place = {members: float(n) for row in rows for n, members in enumerate(row)}
    for row in rows[1:]:  # below the middle of what is above
        for members in row:
            above = [place[high] for low, high in covers if low == members]
            place[members] = sum(above) / len(above) if above else place[members]
        row.sort(key=lambda members: (place[members], members))
        place.update({members: float(n) for n, members in enumerate(row)})
    return rows


_Box = tuple[float, float, float, float]  # left, top, width, height


def _boxes(rows: Sequence[Sequence[_Class]]) -> dict[_Class, _Box]:
    sizes = {
        members: (max(map(len, members)) * _CHAR + 2 * _PAD, len(members) * _LINE + 2 * _PAD)
        for row in rows
        for members in row
    }
    widths = [sum(sizes[m][0] + _GAP_X for m in row) - _GAP_X for row in rows]
    boxes: dict[_Class, _Box] = {}
    top = float(_PAD)
    for row, total in zip(rows, widths, strict=True):
        left = _PAD + (max(widths) - total) / 2
        for members in row:
            boxes[members] = (left, top, *sizes[members])
            left += sizes[members][0] + _GAP_X
        top += max(sizes[members][1] for members in row) + _GAP_Y
    return boxes


def _line(low: _Box, high: _Box) -> str:
    x1, y1 = low[0] + low[2] / 2, low[1]
    x2, y2 = high[0] + high[2] / 2, high[1] + high[3]
    middle = (y1 + y2) / 2
    path = f"M{x1:.1f} {y1:.1f} C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {y2:.1f}"
    return f'<path class="tl-line" d="{path}"/>'


def _draw(members: _Class, box: _Box) -> str:
    left, top, width, height = box
    first = top + _PAD + 0.75 * _LINE
    texts = "".join(
        f'<text x="{left + _PAD:.1f}" y="{first + _LINE * n:.1f}">{escape(name)}</text>'
        for n, name in enumerate(members)
    )
    rect = (
        f'<rect class="tl-box" x="{left:.1f}" y="{top:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}" rx="4"/>'
    )
    return f"<g>{rect}{texts}</g>"
