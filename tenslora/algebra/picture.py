"""The lattice as a picture: families as boxes, special cases below what holds them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from html import escape

from tenslora.algebra.lattice import Lattice
from tenslora.algebra.layers import Layers, make_layers

__all__ = ["lattice_svg"]

_CHAR, _LINE, _PAD = 7.3, 16, 8  # width of a letter, height of a line, room around a text
_GAP, _LANE, _CHANNEL = 12, 6, 44  # between boxes, for a passing line, between rows

_Class = tuple[str, ...]
_Box = tuple[float, float, float, float]  # left, top, width, height

_STYLE = (
    ".tl-box{fill:var(--tl-fill,none);stroke:currentColor}"
    ".tl-line{stroke:currentColor;stroke-opacity:.5;fill:none}"
    ".tl-lattice text{font:12px ui-monospace,monospace;fill:currentColor}"
)


def lattice_svg(lattice: Lattice, *, link: Callable[[str], str] | None = None) -> str:
    """Draw the free order: the general families at the top, their special cases below them.

    Families in one box are special cases of each other at suitable ranks. A line joins a family
    with those directly above it; those that no line joins with any stand last. No line passes
    through a box. The same lattice gives the same bytes.

    Parameters
    ----------
    lattice : from :func:`tenslora.lattice`.
    link : the address that the name of a family leads to; by default names are no links.

    Examples
    --------
    >>> from tenslora.algebra.lattice import Lattice
    >>> lattice_svg(Lattice(("lora",), {})).startswith("<svg ")
    True
    """
    covers = lattice.covers()
    joined = {members for cover in covers for members in cover}
    classes = [members for members in lattice.classes() if members in joined]
    alone = [members for members in lattice.classes() if members not in joined]
    number = {members: n for n, members in enumerate(classes)}
    layers = make_layers(len(classes), [(number[high], number[low]) for low, high in covers])
    boxes, routes, edge = _placed(layers, [_size(members) for members in classes])
    lines = [
        f'<path class="tl-line" d="{routes[number[high], number[low]]}"><title>'
        f"{escape(' = '.join(low))} in {escape(' = '.join(high))}</title></path>"
        for low, high in covers
    ]
    drawn = [*zip(classes, boxes, strict=True), *_below(alone, boxes, edge)]
    width = max([edge, *(left + wide for _, (left, _, wide, _) in drawn)]) + _PAD
    height = max(top + high for _, (_, top, _, high) in drawn) + _PAD if drawn else 2 * _PAD
    names = ", ".join(f"{' = '.join(low)} in {' = '.join(high)}" for low, high in covers)
    label = escape(f"special cases: {names or 'none'}", quote=True)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="tl-lattice" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{label}">',
            f"<style>{_STYLE}</style>",
            *lines,
            *(_draw(members, box, link) for members, box in drawn),
            "</svg>",
            "",
        ]
    )


def _size(members: _Class) -> tuple[float, float]:
    return max(map(len, members)) * _CHAR + 2 * _PAD, len(members) * _LINE + 2 * _PAD


def _placed(
    layers: Layers, sizes: Sequence[tuple[float, float]]
) -> tuple[list[_Box], dict[tuple[int, int], str], float]:
    """Return the box of each node, the path of each line, and the right edge of them all.

    Layers are rows from the top.
    """
    middles = layers.middles([width for width, _ in sizes], _GAP, _LANE)
    top, rows = float(_PAD), []
    for row in layers.rows:
        high = max((sizes[x][1] for x in row if x < layers.count), default=0.0)
        rows.append((top, top + high))
        top += high + _CHANNEL
    band = {x: rows[n] for n, row in enumerate(layers.rows) for x in row}
    boxes = [
        (middles[x] - width / 2 + _PAD, band[x][0], width, height)
        for x, (width, height) in enumerate(sizes)
    ]
    routes = {
        ends: _route([(*band[x], middles[x] + _PAD) for x in stops], boxes[stops[0]])
        for ends, stops in layers.lines.items()
    }
    wide = {x: sizes[x][0] if x < layers.count else float(_LANE) for x in middles}
    edge = max((middle + wide[x] / 2 for x, middle in middles.items()), default=0.0)
    return boxes, routes, edge + _PAD


def _route(stops: Sequence[tuple[float, float, float]], first: _Box) -> str:
    """Return the path of a line: straight through rows, bent in the channels between."""
    x = stops[0][2]
    path = f"M{x:.1f} {first[1] + first[3]:.1f} V{stops[0][1]:.1f}"
    for (_, low, x1), (top, end, x2) in itertools.pairwise(stops):
        middle = (low + top) / 2
        path += f" C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {top:.1f}"
        path += f" V{end:.1f}" if (top, end, x2) != stops[-1] else ""
    return path


def _below(
    alone: Sequence[_Class], boxes: Sequence[_Box], edge: float
) -> list[tuple[_Class, _Box]]:
    """Place the classes that no line reaches in rows below the others, as wide as those."""
    edge = edge if boxes else 640.0
    top = max((y + height + 2 * _GAP for _, y, _, height in boxes), default=float(_PAD))
    found: list[tuple[_Class, _Box]] = []
    left, tallest = float(_PAD), 0.0
    for members in alone:
        width, height = _size(members)
        if left > _PAD and left + width > edge:
            left, top, tallest = float(_PAD), top + tallest + _GAP, 0.0
        found.append((members, (left, top, width, height)))
        left, tallest = left + width + _GAP, max(tallest, height)
    return found


def _draw(members: _Class, box: _Box, link: Callable[[str], str] | None) -> str:
    left, top, width, height = box
    first = top + _PAD + 0.75 * _LINE
    texts = "".join(
        _linked(
            f'<text x="{left + _PAD:.1f}" y="{first + _LINE * n:.1f}">{escape(name)}</text>',
            None if link is None else link(name),
        )
        for n, name in enumerate(members)
    )
    rect = (
        f'<rect class="tl-box" x="{left:.1f}" y="{top:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}" rx="4"/>'
    )
    return f"<g>{rect}{texts}</g>"


def _linked(text: str, address: str | None) -> str:
    return text if address is None else f'<a href="{escape(address, quote=True)}">{text}</a>'
