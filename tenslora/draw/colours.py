"""The colour of an index: the same in the picture and in the equation."""

from __future__ import annotations

from collections.abc import Mapping

from tenslora.spec import Network

__all__ = ["DARK", "LIGHT", "SITE", "hue_class", "hues"]

#: Colours on white and on black, told apart by readers with the common kinds of colour blindness as
#: far as ten can be; a colour is never all that tells two things apart.
LIGHT = (
    "#0b62c4", "#b4430a", "#0b7a6f", "#a21caf", "#4d7c0f",
    "#c01c28", "#6d28d9", "#0e7490", "#8a5a00", "#be185d",
)  # fmt: skip
DARK = (
    "#74b6ff", "#ffa46b", "#4fd6be", "#efa4ff", "#b5d66b",
    "#ff9090", "#bda8ff", "#7fd9ee", "#e5b567", "#ff9ec9",
)  # fmt: skip

#: The number of every site: they share one quiet colour, and are dotted.
SITE = -1


def hues(network: Network) -> dict[str, int]:
    """Return the number of the colour of each index: inputs, outputs, then bonds.

    >>> from tenslora.spec import parse
    >>> hues(parse("W[layer out in] = B[layer out r] A[r in]"))
    {'in': 0, 'out': 1, 'r': 2, 'layer': -1}
    """
    order = (*network.input, *network.output, *network.bonds)
    found = {index: n % len(LIGHT) for n, index in enumerate(order)}
    return {**found, **dict.fromkeys(network.sites, SITE)}


def hue_class(index: str | None, known: Mapping[str, int]) -> str:
    """Return the CSS class of an index."""
    number = known.get(index or "", SITE)
    return "hs" if number == SITE else f"h{number}"
