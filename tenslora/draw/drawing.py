"""What a user holds: a picture that can be shown, printed and saved."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from tenslora.draw.scene import Scene
from tenslora.draw.svg import to_svg
from tenslora.draw.text import to_text
from tenslora.draw.tikz import to_tikz
from tenslora.errors import FamilyError

__all__ = ["Drawing"]

_INKS = {".svg": to_svg, ".txt": to_text, ".tex": to_tikz}


@dataclass(frozen=True, repr=False)
class Drawing:
    """A picture of an equation or of a plan.

    A notebook shows it, ``print`` writes it in characters.

    Attributes
    ----------
    scene : the layout that every ink draws.

    Examples
    --------
    >>> from tenslora.draw import draw
    >>> from tenslora.spec import parse
    >>> draw(parse("W[out in] = B[out r] A[r in]"), zero=["B"])
          ╭───╮  r  ╭──0╮
    in ───┤ A ├─────┤ B ├─── out
          ╰───╯     ╰───╯
    """

    scene: Scene

    def svg(self) -> str:
        """Return the picture as one SVG element with its style sheet."""
        return to_svg(self.scene)

    def text(self) -> str:
        """Return the picture as lines of characters."""
        return to_text(self.scene)

    def tikz(self) -> str:
        """Return the picture as a ``tikzpicture``."""
        return to_tikz(self.scene)

    def save(self, path: str | PathLike[str]) -> Drawing:
        """Write the picture, in the ink that the ending names, and return it.

        Parameters
        ----------
        path : ends in ``.svg``, ``.txt`` or ``.tex`` (TikZ).

        Raises
        ------
        FamilyError
            E320 for another ending.
        OSError
            The file cannot be written.
        """
        target = Path(path)
        ink = _INKS.get(target.suffix.lower())
        if ink is None:
            what = f"{target.name!r} names no kind of picture"
            raise FamilyError("E320", what, advice=f"End it in {', '.join(_INKS)}.")
        target.write_text(ink(self.scene).rstrip("\n") + "\n", encoding="utf-8")
        return self

    def _repr_svg_(self) -> str:
        return self.svg()

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__
