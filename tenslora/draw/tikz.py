"""A picture as TikZ, for a paper."""

from __future__ import annotations

from tenslora.draw.colours import LIGHT, SITE
from tenslora.draw.scene import Box, Label, Scene, Wire

__all__ = ["to_tikz"]

_X, _Y = 0.22, 0.44  # centimetres for a character and a line

_STYLES = (
    r"core/.style={fill=tlfill,text=white,rounded corners=2.4pt}",
    r"frozen/.style={fill=black!8,draw=black!55,densely dashed,rounded corners=2.4pt}",
    r"constant/.style={draw=black!55,densely dotted,rounded corners=5pt}",
    r"input/.style={draw=black!55,rounded corners=2.4pt}",
    r"step/.style={draw=tlfill,rounded corners=2.4pt}",
    r"wire/.style={line width=0.7pt,rounded corners=4pt}",
    r"site/.style={line width=0.7pt,densely dotted}",
    r"index/.style={font=\scriptsize\ttfamily}",
    r"name/.style={font=\footnotesize\ttfamily\bfseries}",
)


def to_tikz(scene: Scene) -> str:
    r"""Return a ``tikzpicture``; it needs ``\usepackage{tikz}`` and no TikZ library.

    >>> from tenslora.draw import layout
    >>> from tenslora.spec import parse
    >>> print(to_tikz(layout(parse("W[out in] = T[out in]"))).splitlines()[-1])
    \end{tikzpicture}
    """
    used = sorted({hue for hue in scene.hues.values() if hue != SITE})
    colours = [("tlfill", "#3b5bdb"), ("tlsite", "#5c6773")]
    colours += [(f"tlhue{hue}", LIGHT[hue]) for hue in used]
    defined = [rf"\definecolor{{{name}}}{{HTML}}{{{value[1:].upper()}}}" for name, value in colours]
    lines = [
        f"% {scene.title}",
        *defined,
        rf"\begin{{tikzpicture}}[x={_X}cm,y=-{_Y}cm,",
        *(f"  {style}," for style in _STYLES),
        "]",
        *(_wire(wire, scene) for wire in scene.wires),
        *(line for box in scene.boxes for line in _box(box)),
        *(rf"\fill ({d.x},{d.y}) circle[radius=1.6pt];" for d in scene.dots),
        *(_label(label, scene) for label in scene.labels),
        r"\end{tikzpicture}",
    ]
    return "\n".join(lines) + "\n"


def _colour(index: str | None, scene: Scene) -> str:
    hue = scene.hues.get(index or "", SITE)
    return "tlsite" if hue == SITE else f"tlhue{hue}"


def _wire(wire: Wire, scene: Scene) -> str:
    kind = "site" if wire.dotted else "wire"
    way = " -- ".join(f"({x},{y})" for x, y in wire.points)
    return rf"\draw[{kind},{_colour(wire.index, scene)}] {way};"


def _box(box: Box) -> list[str]:
    kind = "core" if box.kind == "trained" else box.kind
    colour = "white" if kind == "core" else "black"
    lines = [
        rf"\path[{kind}] ({box.left},{box.top}) rectangle ({box.right},{box.bottom});",
        rf"\node[name,text={colour}] at ({box.x},{box.y}) {{{_escaped(box.text)}}};",
    ]
    if box.zero:
        style = "circle,draw=tlfill,fill=white,inner sep=0.7pt,font=\\tiny\\bfseries"
        lines.append(rf"\node[{style}] at ({box.right},{box.top}) {{0}};")
    return lines


def _label(label: Label, scene: Scene) -> str:
    middle = label.x + (len(label.text) - 1) / 2
    if label.style == "sign":
        return rf"\node at ({middle:g},{label.y}) {{${label.text}$}};"
    style = f"index,text={_colour(label.index, scene)}" if label.index else "index"
    return rf"\node[{style}] at ({middle:g},{label.y}) {{{_escaped(label.text)}}};"


def _escaped(text: str) -> str:
    return text.replace("_", r"\_")
