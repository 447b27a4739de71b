"""Pictures of equations and plans, in SVG, in characters, and for LaTeX.

One layout, several inks: every picture is laid out on a grid of characters, and printed, scaled or
written as TikZ from there. Nothing is needed but the equation, and the same equation gives the same
bytes.
"""

from __future__ import annotations

from collections.abc import Collection

from tenslora.draw.colours import hues
from tenslora.draw.drawing import Drawing
from tenslora.draw.equation import to_html, to_latex
from tenslora.draw.layout import layout
from tenslora.draw.page import network_page, summary
from tenslora.draw.plan import layout_plan
from tenslora.draw.scene import Box, Dot, Frame, Label, Scene, Wire
from tenslora.draw.svg import STYLE, to_svg
from tenslora.draw.text import to_text
from tenslora.draw.tikz import to_tikz
from tenslora.spec import Network

__all__ = [
    "STYLE",
    "Box",
    "Dot",
    "Drawing",
    "Frame",
    "Label",
    "Scene",
    "Wire",
    "draw",
    "hues",
    "layout",
    "layout_plan",
    "network_page",
    "summary",
    "to_html",
    "to_latex",
    "to_svg",
    "to_text",
    "to_tikz",
]


def draw(network: Network, *, frozen: Collection[str] = (), zero: Collection[str] = ()) -> Drawing:
    """Return the picture of an equation; :meth:`tenslora.Family.draw` knows the rest by itself.

    Parameters
    ----------
    network : the equation.
    frozen, zero : names of the cores that are not trained, and of those that start at zero.

    Examples
    --------
    >>> from tenslora.draw import draw
    >>> from tenslora.spec import parse
    >>> draw(parse("W[layer out in] = V[out b] S[layer b a] U[a in]"), frozen=["U"], zero=["S"])
          ╭┄┄┄╮  a  ╭──0╮  b  ╭───╮
    in ───┤ U ├─────┤ S ├─────┤ V ├─── out
          ╰┄┄┄╯     ╰─┬─╯     ╰───╯
                      ┊
                      ┊
                    layer
    """
    return Drawing(layout(network, frozen=frozen, zero=zero))
