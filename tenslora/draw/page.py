"""What a notebook shows of an equation: the picture, the equation, and a table that folds."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tenslora.draw.equation import to_html
from tenslora.draw.layout import layout
from tenslora.draw.scene import Scene
from tenslora.draw.svg import to_svg
from tenslora.spec import Network

__all__ = ["network_page", "summary"]


def network_page(network: Network) -> str:
    """Return the picture, the equation and the cores of a network.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> page = network_page(parse("W[out in] = B[out r] A[r in]"))
    >>> page.count("<svg"), "<summary>2 cores</summary>" in page
    (1, True)
    """
    table: list[tuple[str, ...]] = [("core", "sites", "features", "bonds")]
    for core in network.cores.values():
        held = core.indices
        kinds = (network.sites, network.features, network.bonds)
        table.append((str(core), *(" ".join(i for i in kind if i in held) for kind in kinds)))
    return summary(network, layout(network), "", table)


def summary(
    network: Network, scene: Scene, title: str, table: Sequence[Sequence[str]], facts: str = ""
) -> str:
    """Return a block of HTML.

    Parameters
    ----------
    network, scene : the equation and its picture.
    title : above it; may be empty.
    table : rows of words, the first with the headings; folded away.
    facts : one line below the equation.

    Examples
    --------
    >>> from tenslora.draw import layout
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out r] A[r in]")
    >>> table = [("core", "entries"), ("B", "6144"), ("A", "6144")]
    >>> page = summary(n, layout(n), "LoRA", table, "12,288 parameters")
    >>> "<th>entries</th>" in page, page.count("<td>6144</td>")
    (True, 2)
    """
    head, *rows = table
    heading = f'<div style="font-weight:600">{escape(title)}</div>' if title else ""
    fact = f'<div style="opacity:.8">{escape(facts)}</div>' if facts else ""
    cells = "".join(
        "<tr>" + "".join(f"<td>{escape(word)}</td>" for word in row) + "</tr>" for row in rows
    )
    names = "".join(f"<th>{escape(word)}</th>" for word in head)
    return (
        f'<div class="tenslora">{heading}{to_svg(scene)}'
        f"<div>{to_html(network)}</div>{fact}"
        f"<details><summary>{len(rows)} cores</summary>"
        f"<table><thead><tr>{names}</tr></thead><tbody>{cells}</tbody></table></details></div>"
    )
