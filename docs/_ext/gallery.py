"""Directives that draw: a network, a plan, the cards of the catalogue, the order of its families.

``{network} NAME-OR-EQUATION``, ``{plan} NAME``, ``{strip}``, ``{gallery}``, ``{lattice}``.
"""

from __future__ import annotations

import re
import warnings
from html import escape
from pathlib import Path
from typing import Any

import facts
import familypage
from docutils import nodes
from docutils.parsers.rst import directives
from order import order_of
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import tenslora
from tenslora.algebra import lattice_svg
from tenslora.draw import to_html, to_svg
from tenslora.errors import RedundantRankWarning
from tenslora.family import Family, model_shape
from tenslora.family.picture import draw_family

_SITE_WORDS = {"layer": "layers", "proj": "projections", "site": "all matrices", "head": "heads"}


def equation_html(family: Family) -> str:
    """Return the coloured equation; a line breaks between cores, and in one only if it has to."""
    html = to_html(family.network)
    return re.sub(r"<b>[^<]*</b>\[.*?\]", r'<span class="tl-core">\g<0></span>', html)


def _picture(family: Family) -> str:
    return to_svg(draw_family(family).scene, style=False)


class NetworkPicture(SphinxDirective):
    """Draw a family, or an equation, with the equation below."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = {  # noqa: RUF012 - as docutils declares it
        "frozen": directives.unchanged,
        "zero": directives.unchanged,
        "bare": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        """Return the figure, with the content as its caption."""
        text = " ".join(self.arguments[0].split())
        if "[" in text:
            frozen = self.options.get("frozen", "").split()
            zeros = self.options.get("zero", "").split()
            init = dict.fromkeys(zeros, "zeros")
            family = tenslora.family(text, init=init, frozen=frozen, starts_nonzero=True)
        else:
            family = tenslora.resolve(text)
        html = f'<figure class="tl-network tenslora">{_picture(family)}'
        if "bare" not in self.options:
            html += f"<figcaption>{equation_html(family)}</figcaption>"
        return [nodes.raw("", html + "</figure>", format="html")]


class Strip(SphinxDirective):
    """Draw families side by side: a line ``NAME: what it is`` each, with links to their pages."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the figures."""
        items = []
        for line in self.content:
            name, _, words = line.partition(":")
            family = tenslora.resolve(name.strip())
            items.append(
                f'<a class="tl-card tenslora" href="families/{escape(name.strip())}.html">'
                f'<span class="tl-picture">{_picture(family)}</span>{equation_html(family)}'
                f'<span class="tl-about">{escape(words.strip())}</span></a>'
            )
        html = f'<div class="tl-cards tl-strip">{"".join(items)}</div>'
        return [nodes.raw("", html, format="html")]


class PlanPicture(SphinxDirective):
    """Draw the plan of a family at the sizes of RoBERTa-base."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the figure."""
        family = tenslora.resolve(self.arguments[0])
        group = model_shape("roberta-base").weights[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RedundantRankWarning)
            bound = family.bind(group.sizes(family.network), ranks=8)
        svg = to_svg(bound.draw(what="plan").scene, style=False)
        html = f'<div class="tl-plan tenslora">{svg}</div>'
        return [nodes.raw("", html, format="html")]


class Gallery(SphinxDirective):
    """Show a card for each registered family, and what narrows them down."""

    def run(self) -> list[nodes.Node]:
        """Return the filters and the cards."""
        families = list(tenslora.registered().values())
        shapes = dict.fromkeys(facts.shape_of(f.network) for f in families)
        kinds = list(facts.SHAPES)
        families.sort(key=lambda family: kinds.index(facts.shape_of(family.network)))
        order = [kind for kind in facts.SHAPES if kind in shapes]
        sites = sorted({site for f in families for site in facts.shared_over(f)})
        buttons = _buttons("shape", {kind: facts.SHAPES[kind] for kind in order})
        over = {site: f"over {_SITE_WORDS.get(site, site)}" for site in sites}
        buttons += _buttons(
            "shares", {**over, "nothing": "nothing shared", "frozen": "frozen cores"}
        )
        html = (
            '<div class="tl-filter" hidden><label>Find <input type="search" '
            'placeholder="name, paper, index"></label>'
            f'{buttons}<p role="status" class="tl-count"></p></div>'
            f'<div class="tl-cards">{"".join(map(_card, families))}</div>'
        )
        return [nodes.raw("", html, format="html")]


def _buttons(group: str, values: dict[str, str]) -> str:
    items = "".join(
        f'<button type="button" aria-pressed="false" data-group="{group}" '
        f'data-value="{escape(value)}">{escape(text)}</button>'
        for value, text in values.items()
    )
    label = {"shape": "Shape", "shares": "Shares"}[group]
    return f'<div class="tl-choices"><span>{label}</span>{items}</div>'


def _card(family: Family) -> str:
    shared = list(facts.shared_over(family)) or ["nothing"]
    shared += ["frozen"] if family.frozen else []
    kind = facts.shape_of(family.network)
    words = " ".join(
        (family.label, *family.aliases, family.equation, family.summary, family.source)
    )
    sentence = escape(familypage.sentence(family))
    picture = _picture(family)
    return (
        f'<a class="tl-card tenslora{_room(picture)}" href="families/{escape(family.label)}.html" '
        f'data-shape="{kind}" data-shares="{" ".join(shared)}" '
        f'data-words="{escape(words.casefold(), quote=True)}">'
        f'<span class="tl-name">{escape(family.label)}</span>'
        f'<span class="tl-picture">{picture}</span>'
        f"{equation_html(family)}"
        f'<span class="tl-formula">{facts.formula(family)}</span>'
        f'<span class="tl-about">{sentence}</span></a>'
    )


def _room(picture: str) -> str:
    """The classes of a card whose picture is too wide or too tall for the others' room."""
    found = re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', picture)
    width, height = map(float, found.groups()) if found else (0.0, 0.0)
    return " tl-wide" * (width > 600) + " tl-tall" * (height > 380)


class LatticePicture(SphinxDirective):
    """Show which family is a special case of which: a picture with links."""

    def run(self) -> list[nodes.Node]:
        """Return the picture."""
        order = order_of(tenslora.registered(), kept_order(Path(self.env.srcdir)))
        svg = lattice_svg(order, link=lambda name: f"families/{name}.html")
        html = f'<div class="tl-scroll" tabindex="0" role="group" aria-label="Lattice">{svg}</div>'
        return [nodes.raw("", html, format="html")]


def kept_order(docs: Path) -> Path:
    """Return where the decided order is kept."""
    return docs / "_generated" / "order.json"


def write_family_pages(docs: Path) -> None:
    """Write a page for each registered family, where it changed, and take away what is old."""
    folder = docs / "families"
    folder.mkdir(exist_ok=True)
    (docs / "_generated").mkdir(exist_ok=True)
    families = tenslora.registered()
    order = order_of(families, kept_order(docs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RedundantRankWarning)
        pages = {f"{n}.md": familypage.family_page(f, order) for n, f in families.items()}
    for old in folder.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directives."""
    app.add_directive("network", NetworkPicture)
    app.add_directive("plan", PlanPicture)
    app.add_directive("strip", Strip)
    app.add_directive("gallery", Gallery)
    app.add_directive("lattice", LatticePicture)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
