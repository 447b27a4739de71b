"""A proof as a picture: the special case, what contains it, and the witness between them."""

from __future__ import annotations

from html import escape
from xml.etree import ElementTree as ET

from tenslora.algebra.embed import Verdict
from tenslora.algebra.proof import Proof, format_ranks
from tenslora.algebra.refute import Refutation
from tenslora.draw import draw

__all__ = ["proof_svg"]

_CHAR, _LINE, _PAD, _GAP = 7.3, 18.0, 12.0, 8.0
_STYLE = (
    ".tl-proof>text{font:12px ui-monospace,monospace;fill:currentColor}"
    ".tl-proof .tl-word{font-weight:bold}"
)


def proof_svg(found: Verdict) -> str:
    """Draw both networks, one above the other, and under them why the one is in the other or not.

    A proof has its witness and ranks there, a counterexample its reason. The same verdict gives the
    same bytes.

    Examples
    --------
    >>> from tenslora.family.proving import embeds
    >>> proof_svg(embeds("lotr", "tenslora.depth")).startswith("<svg ")
    True
    """
    frozen = found.chosen if isinstance(found, Proof) else ()
    page = _Page()
    page.word("special case" if found else "no special case" if _refuted(found) else "undecided")
    page.picture(draw(found.special).svg())
    page.word("of")
    page.picture(draw(found.general, frozen=frozen).svg())
    heading, lines = _why(found)
    page.word(heading)
    for line in lines:
        page.line(line)
    return page.svg(f"{found.special} in {found.general}")


def _refuted(found: Verdict) -> bool:
    return isinstance(found, Refutation)


def _why(found: Verdict) -> tuple[str, list[str]]:
    if isinstance(found, Proof):
        lines = [str(definition) for definition in found.witness.definitions]
        return "witness", [*lines, *([f"ranks {format_ranks(found.ranks)}"] if found.ranks else [])]
    if isinstance(found, Refutation):
        return "counterexample", [found.reason]
    return "searched", [f"{found.tried:,} ways of hosting the cores were tried", *found.notes]


class _Page:
    """Words and pictures from the top down."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.bottom, self.right = _PAD, 0.0

    def word(self, text: str) -> None:
        """Write a heading."""
        self.bottom += _GAP
        self._text(text, _PAD, ' class="tl-word"')

    def line(self, text: str) -> None:
        """Write a line under a heading."""
        self._text(text, 2 * _PAD, "")

    def _text(self, text: str, left: float, kind: str) -> None:
        self.bottom += _LINE
        at = f'x="{left:g}" y="{self.bottom - 5:g}"'
        self.parts.append(f"<text{kind} {at}>{escape(text)}</text>")
        self.right = max(self.right, left + len(text) * _CHAR)

    def picture(self, svg: str) -> None:
        """Place a picture of a network in its own size."""
        wide, high = map(float, ET.fromstring(svg).attrib["viewBox"].split()[2:])  # noqa: S314
        at = f'x="{2 * _PAD:g}" y="{self.bottom:g}" '
        at += f'style="width:{wide:g}px;height:{high:g}px;max-width:none" '
        self.parts.append(svg.replace("<svg ", f"<svg {at}", 1).rstrip("\n"))
        self.bottom += high
        self.right = max(self.right, 2 * _PAD + wide)

    def svg(self, label: str) -> str:
        """Return the whole."""
        wide, high = self.right + _PAD, self.bottom + _PAD
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="tl-proof" '
            f'viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" height="{high:.0f}" '
            f'role="img" aria-label="{escape(label, quote=True)}">'
        )
        return "\n".join([head, f"<style>{_STYLE}</style>", *self.parts, "</svg>", ""])
