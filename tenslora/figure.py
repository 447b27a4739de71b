"""Figures of matplotlib without its global state: made by object, saved the same every time.

A meaning never lies in a colour alone: lines differ in their dashes and marks, cells carry their
number, so that a page printed in black says the same.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from tenslora.errors import DataError

__all__ = ["BLUE", "GREY", "MARKS", "ORANGE", "Picture", "check_matplotlib", "make_figure", "tidy"]

#: The first of two lines; it is solid, with round marks.
BLUE = "#1f5fa8"
#: The second; it is dashed, with hollow square marks.
ORANGE = "#d1731d"
#: What lines are held against.
GREY = "#777777"
#: Marks that tell lines apart where there are no colours.
MARKS = ("o", "s", "^", "D", "v", "P", "X")

_ENDINGS = (".pdf", ".png", ".svg")
#: Text stays text, and the names inside do not come from a random number.
_SETTINGS: Any = {"svg.hashsalt": "tenslora", "svg.fonttype": "none"}


@dataclass(frozen=True, repr=False)
class Picture:
    r"""A drawn figure, which a notebook shows.

    Attributes
    ----------
    figure : matplotlib's ``Figure``, to be changed at will.

    Examples
    --------
    >>> figure = make_figure(4.0, 3.0)
    >>> axes = figure.add_subplot()
    >>> picture = Picture(figure)
    >>> picture
    <Picture of 4.0 x 3.0 inches, 1 panels>
    >>> picture.bytes("png")[:4]
    b'\x89PNG'
    """

    figure: Any

    def bytes(self, kind: str) -> bytes:
        """Return the picture as ``"svg"``, ``"png"`` or ``"pdf"``, without a date."""
        import matplotlib as mpl

        dated = {"svg": "Date", "pdf": "CreationDate"}
        metadata = {dated[kind]: None} if kind in dated else {}
        file = io.BytesIO()
        with mpl.rc_context(_SETTINGS):
            self.figure.savefig(file, format=kind, dpi=144, metadata=metadata)
        return file.getvalue()

    def svg(self) -> str:
        """Return the picture as SVG, the same text every time."""
        lines = self.bytes("svg").decode().splitlines()
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def save(self, path: str | PathLike[str]) -> Picture:
        """Write the picture and return it; folders are made.

        Parameters
        ----------
        path : ends in ``.svg``, ``.png`` or ``.pdf``.

        Raises
        ------
        DataError
            E711 for another ending, and where the file cannot be written.
        """
        place = Path(path)
        if place.suffix not in _ENDINGS:
            what = f"{place} has no ending of a picture"
            raise DataError("E711", what, advice=f"The endings are {', '.join(_ENDINGS)}.")
        svg = place.suffix == ".svg"
        data = self.svg().encode() if svg else self.bytes(place.suffix[1:])
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        except OSError as error:
            what = f"{place} cannot be written: {error.strerror or error}"
            raise DataError("E711", what, advice="Choose another folder with out=...") from None
        return self

    def _repr_svg_(self) -> str:
        text = self.svg()
        return text[text.index("<svg") :]

    def __repr__(self) -> str:
        width, height = self.figure.get_size_inches()
        return f"<Picture of {width:.1f} x {height:.1f} inches, {len(self.figure.axes)} panels>"


def check_matplotlib() -> Any:
    """Return matplotlib's ``Figure``.

    Raises
    ------
    DataError
        E710 where matplotlib is not installed.

    Examples
    --------
    >>> check_matplotlib().__name__
    'Figure'
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        what = "matplotlib, which draws the picture, is not installed"
        raise DataError("E710", what, advice='pip install "tenslora[plot]"') from None
    return Figure


def make_figure(width: float, height: float) -> Any:
    """Return an empty figure of so many inches, white behind, whose parts make room for each other.

    Raises
    ------
    DataError
        E710 where matplotlib is not installed.

    Examples
    --------
    >>> make_figure(4.0, 3.0).get_size_inches()
    array([4., 3.])
    """
    Figure = check_matplotlib()
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def tidy(axes: Any) -> None:
    """Leave two sides of the frame away, and lay a light grid.

    Examples
    --------
    >>> axes = make_figure(4.0, 3.0).add_subplot()
    >>> tidy(axes)
    >>> [side for side, line in axes.spines.items() if line.get_visible()]
    ['left', 'bottom']
    """
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(alpha=0.25)
