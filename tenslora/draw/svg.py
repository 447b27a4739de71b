"""A picture as SVG: scales with the page, follows light and dark, and can be read out."""

from __future__ import annotations

from html import escape

from tenslora.draw.colours import DARK, LIGHT, hue_class
from tenslora.draw.scene import Box, Frame, Label, Point, Scene, Wire

__all__ = ["STYLE", "declared", "to_svg"]

_X, _Y = 8.6, 17.0  # one character, one line
_MARGIN = 10.0
_CORNER = 9.0
_FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
_RAISED = {"index": 1.5, "note": 0.0, "title": 0.0, "sign": 0.0}

_VARIABLES = {
    "light": {
        **{f"hue{n}": colour for n, colour in enumerate(LIGHT)},
        "site": "#5c6773",
        "fill": "#3b5bdb",
        "name": "#ffffff",
        "frozen": "#e9ecef",
        "frozen-line": "#7b848d",
        "frozen-name": "#495057",
        "paper": "#ffffff",
        "band": "#3b5bdb14",
    },
    "dark": {
        **{f"hue{n}": colour for n, colour in enumerate(DARK)},
        "site": "#a7b0ba",
        "fill": "#4c6ef5",
        "name": "#ffffff",
        "frozen": "#2f353b",
        "frozen-line": "#8d969f",
        "frozen-name": "#d5dae0",
        "paper": "#131416",
        "band": "#748ffc24",
    },
}


def declared(theme: str) -> str:
    """Return the colours of ``light`` or ``dark`` as CSS: a page may set ``--tenslora-...``.

    A page with a switch of its own between light and dark puts them under its own selectors.
    """
    items = _VARIABLES[theme].items()
    return "".join(f"--t-{name}:var(--tenslora-{name},{value});" for name, value in items)


_BASE = (
    f"font-family:{_FONT};font-size:12.5px;fill:none;stroke-linecap:round;"
    "stroke-linejoin:round;stroke-width:1.8;max-width:100%;height:auto"
)
_RULES = {
    ".wire": "stroke:var(--c)",
    ".site": "stroke:var(--c);stroke-width:2;stroke-dasharray:0 4.2",
    ".arrow": "stroke:var(--t-site)",
    ".core rect": "fill:var(--t-fill);stroke:none",
    ".frozen rect": "fill:var(--t-frozen);stroke:var(--t-frozen-line);stroke-dasharray:5 3;"
    "stroke-width:1.4;stroke-linecap:butt",
    ".constant rect": "fill:var(--t-paper);stroke:var(--t-site);stroke-width:1.2;"
    "stroke-dasharray:1.5 3",
    ".input rect": "fill:var(--t-paper);stroke:var(--t-site);stroke-width:1.4",
    ".step rect": "fill:var(--t-paper);stroke:var(--t-fill);stroke-width:1.8",
    "text": "stroke:none;fill:currentColor",
    ".index": "fill:var(--c)",
    ".core text": "fill:var(--t-name);font-weight:600;text-anchor:middle",
    ".frozen text": "fill:var(--t-frozen-name);font-weight:600;text-anchor:middle",
    ".constant text,.input text,.step text": "text-anchor:middle;font-weight:600",
    ".zero circle": "fill:var(--t-paper);stroke:var(--t-fill);stroke-width:1.6",
    ".zero text": "fill:currentColor;font-size:9.5px;font-weight:700;text-anchor:middle",
    ".dot": "fill:currentColor;stroke:none",
    ".sign": "font-size:20px;text-anchor:middle",
    ".note": "font-size:11.5px;opacity:.75",
    ".title": "font-weight:600",
    ".band": "fill:var(--t-band);stroke:none",
    **{f".h{n}": f"--c:var(--t-hue{n})" for n in range(len(LIGHT))},
    ".hs": "--c:var(--t-site)",
    ".tenslora-equation span": "color:var(--c)",
}

#: The style sheet, which an SVG carries unless a page has it.
STYLE = (
    f".tenslora{{{declared('light')}}}svg.tenslora{{{_BASE}}}"
    f"@media(prefers-color-scheme:dark){{.tenslora{{{declared('dark')}}}}}"
    + "".join(
        ",".join(f".tenslora {part}" for part in selector.split(",")) + f"{{{body}}}"
        for selector, body in _RULES.items()
    )
)


def to_svg(scene: Scene, *, style: bool = True) -> str:
    """Return the picture as an SVG element; the same scene gives the same bytes.

    Colours are CSS variables: a page may set ``--tenslora-fill`` and so on, and without that they
    follow the reader's light or dark. Lines and words that are not coloured take ``currentColor``.

    Parameters
    ----------
    style : whether the style sheet is put in; a page with many pictures has it once.

    Examples
    --------
    >>> from tenslora.draw.layout import layout
    >>> from tenslora.spec import parse
    >>> picture = to_svg(layout(parse("W[out in] = B[out r] A[r in]")), style=False)
    >>> picture.startswith('<svg xmlns="http://www.w3.org/2000/svg"'), picture.count("<rect")
    (True, 2)
    """
    width = (scene.width - 1) * _X + 2 * _MARGIN + _X
    height = (scene.height - 1) * _Y + 2 * _MARGIN + 8
    label = escape(scene.title, quote=True)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tenslora" viewBox="0 0 {_n(width)} '
        f'{_n(height)}" width="{_n(width)}" height="{_n(height)}" role="img" aria-label="{label}">',
        *([f"<style>{STYLE}</style>"] if style else []),
        *map(_frame, scene.frames),
        *(_wire(wire, scene) for wire in scene.wires),
        *map(_box, scene.boxes),
        *(f'<circle class="dot" cx="{_x(d.x)}" cy="{_y(d.y)}" r="3.8"/>' for d in scene.dots),
        *(_label(label_, scene) for label_ in scene.labels),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _x(column: float) -> str:
    return _n(_MARGIN + _X / 2 + column * _X)


def _y(line: float) -> str:
    return _n(_MARGIN + 4 + line * _Y)


def _wire(wire: Wire, scene: Scene) -> str:
    kind = "site" if wire.dotted else "wire" if wire.index in scene.hues else "arrow"
    hue = f" {hue_class(wire.index, scene.hues)}" if kind != "arrow" else ""
    return f'<path class="{kind}{hue}" d="{_path(wire.points)}"/>'


def _path(points: tuple[Point, ...]) -> str:
    """Return the way through the points with round corners."""
    at = [(_MARGIN + _X / 2 + x * _X, _MARGIN + 4 + y * _Y) for x, y in points]
    parts = [f"M{_n(at[0][0])} {_n(at[0][1])}"]
    for before, corner, after in zip(at, at[1:], at[2:], strict=False):
        room = min(_CORNER, _length(before, corner) / 2, _length(corner, after) / 2)
        start, end = _towards(corner, before, room), _towards(corner, after, room)
        parts.append(f"L{_n(start[0])} {_n(start[1])}")
        parts.append(f"Q{_n(corner[0])} {_n(corner[1])} {_n(end[0])} {_n(end[1])}")
    return "".join([*parts, f"L{_n(at[-1][0])} {_n(at[-1][1])}"])


def _length(a: tuple[float, float], b: tuple[float, float]) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def _towards(
    a: tuple[float, float], b: tuple[float, float], distance: float
) -> tuple[float, float]:
    part = distance / (_length(a, b) or 1.0)
    return a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part


def _box(box: Box) -> str:
    kind = "core" if box.kind == "trained" else box.kind
    width, height = 2 * box.half_width * _X, 2 * box.half_height * _Y
    radius = min(9.0, height / 2) if kind != "constant" else min(16.0, height / 2)
    title = f"<title>{escape(box.title)}</title>" if box.title else ""
    rect = (
        f'<rect x="{_x(box.left)}" y="{_y(box.top)}" width="{_n(width)}" height="{_n(height)}" '
        f'rx="{_n(radius)}"/>'
    )
    words = f'<text x="{_x(box.x)}" y="{_n(float(_y(box.y)) + 4.3)}">{escape(box.text)}</text>'
    zero = ""
    if box.zero:
        x, y = float(_x(box.right)) - 3, float(_y(box.top)) + 3
        zero = (
            f'<g class="zero"><circle cx="{_n(x)}" cy="{_n(y)}" r="7"/>'
            f'<text x="{_n(x)}" y="{_n(y + 3.4)}">0</text></g>'
        )
    return f'<g class="{kind}">{title}{rect}{words}</g>{zero}'


def _label(label: Label, scene: Scene) -> str:
    raised = _RAISED[label.style]
    y = _n(float(_y(label.y)) + 4.3 + (raised if label.index else 0))
    kind = label.style
    if label.style == "sign":
        return f'<text class="sign" x="{_x(label.x)}" y="{y}">{escape(label.text)}</text>'
    hue = f" {hue_class(label.index, scene.hues)}" if label.index in scene.hues else ""
    middle = label.x + (len(label.text) - 1) / 2
    return (
        f'<text class="{kind}{hue}" x="{_x(middle)}" y="{y}" text-anchor="middle">'
        f"{escape(label.text)}</text>"
    )


def _frame(frame: Frame) -> str:
    return (
        f'<rect class="{frame.kind}" x="{_x(frame.left)}" y="{_y(frame.top)}" '
        f'width="{_n((frame.right - frame.left) * _X)}" '
        f'height="{_n((frame.bottom - frame.top) * _Y)}" rx="8"/>'
    )
