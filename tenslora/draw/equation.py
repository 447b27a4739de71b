"""The equation itself in colours: each index in the colour that it has in the picture."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from tenslora.draw.colours import hue_class, hues
from tenslora.spec import Core, Network

__all__ = ["to_html", "to_latex"]


def to_html(network: Network) -> str:
    """Return the equation as HTML, one ``code`` element; colours come from the style sheet.

    >>> from tenslora.spec import parse
    >>> print(to_html(parse("W[out in] = T[out in]")).partition(" = ")[2])
    <b>T</b>[<span class="h1">out</span> <span class="h0">in</span>]</code>
    """
    known = hues(network)

    def index(name: str) -> str:
        return f'<span class="{hue_class(name, known)}">{escape(name)}</span>'

    terms = [" ".join(_core(core, index) for core in term.cores) for term in network.terms]
    text = f"{_core(network.target, index)} = {' + '.join(terms)}"
    return f'<code class="tenslora-equation">{text}</code>'


def _core(core: Core, index: Callable[[str], str]) -> str:
    slots = [
        index(slot[0]) if len(slot) == 1 else f"({' '.join(map(index, slot))})"
        for slot in core.slots
    ]
    return f"<b>{escape(core.name)}</b>[{' '.join(slots)}]"


def to_latex(network: Network) -> str:
    r"""Return the equation as LaTeX, for a paper: sums written out, ``eye`` as a Kronecker delta.

    >>> from tenslora.spec import parse
    >>> print(to_latex(parse("W[l o i] = B[l o r] A[r i]")))
    \Delta W_{l,\,o,\,i} = \sum_{r} B_{l\,o\,r}\, A_{r\,i}
    """
    bonds = set(network.bonds)
    target = r",\,".join(_group(slot) for slot in network.target.slots)
    terms = []
    for term in network.terms:
        summed = ",".join(_index(i) for i in network.bonds if i in term.indices and i in bonds)
        product = r"\, ".join(_factor(core) for core in term.cores)
        terms.append(rf"\sum_{{{summed}}} {product}" if summed else product)
    return rf"\Delta {_name(network.target.name)}_{{{target}}} = {' + '.join(terms)}"


def _factor(core: Core) -> str:
    name = {"eye": r"\delta", "ones": r"\mathbf{1}"}.get(core.name) or _name(core.name)
    indices = r"\,".join(_group(slot) for slot in core.slots)
    return f"{name}_{{{indices}}}"


def _group(slot: tuple[str, ...]) -> str:
    inside = r"\,".join(map(_index, slot))
    return inside if len(slot) == 1 else f"({inside})"


def _index(name: str) -> str:
    """One letter stays, a letter with digits gets a subscript, a word stands upright."""
    letter, digits = name[:1], name[1:]
    if not digits:
        return name
    if digits.isdigit():
        return f"{letter}_{{{digits}}}"
    return rf"\mathrm{{{_escaped(name)}}}"


def _name(name: str) -> str:
    letter, digits = name[:1], name[1:]
    if not digits:
        return name
    return f"{letter}^{{({digits})}}" if digits.isdigit() else rf"\mathrm{{{_escaped(name)}}}"


def _escaped(text: str) -> str:
    return text.replace("_", r"\_")
