"""Portraits and comparisons in characters: tables whose bars need no colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tenslora.decompose.spectrum import ENERGIES
from tenslora.family.columns import columns
from tenslora.nn.portrait.values import Array

if TYPE_CHECKING:
    from tenslora.nn.portrait.comparison import Comparison
    from tenslora.nn.portrait.measured import Grid, Portrait, Shape

__all__ = ["bar", "comparison_text", "percent", "portrait_text", "spark"]

_LEVELS = "▁▂▃▄▅▆▇█"
_SHOWN = 24
_DECADES = 4.0


def bar(value: float, largest: float) -> str:
    """One character for a part of the largest; a dot for nothing, a blank for no number.

    >>> [bar(value, 4.0) for value in (0.0, 0.1, 2.0, 4.0, float("nan"))]
    ['·', '▁', '▄', '█', ' ']
    """
    if math.isnan(value):
        return " "
    if value <= 0 or largest <= 0:
        return "·"
    return _LEVELS[min(7, max(0, math.ceil(8 * min(value / largest, 1.0)) - 1))]


def spark(values: Iterable[float], allowed: int) -> str:
    """Singular values as bars over four decades, with a line behind the rank that is allowed.

    >>> spark([1.0, 0.1, 0.001, 0.0, 0.0], 3)
    '█▆▂|··'
    """
    given = list(values)
    top = max(given, default=0.0)
    shown = given[:_SHOWN]
    heights = [_DECADES + math.log10(v / top) if v > 0 < top else 0.0 for v in shown]
    marks = [bar(height, _DECADES) for height in heights]
    if allowed < len(given):
        marks.insert(min(allowed, len(marks)), "|")
    return "".join(marks) + ("..." if len(given) > _SHOWN else "")


def portrait_text(portrait: Portrait) -> str:
    """Return everything that a portrait has."""
    count = int(np.isfinite(portrait.norms.values).sum())
    lines = [f"{portrait.label}: {count} weights, {portrait.parameters:,} parameters"]
    if portrait.equation != portrait.label:
        lines.append(portrait.equation)
    lines += ["", "norm of the update", *_grid(portrait.norms, _number)]
    for projection, values in portrait.heads.items():
        lines += ["", f"norm by head of {projection}, in % of its largest"]
        lines += _heads(portrait.norms.layers, values)
    for shape in portrait.shapes:
        lines += ["", *_spectra(shape)]
    return "\n".join(lines)


def comparison_text(found: Comparison) -> str:
    """Return norms, changes and spectra of before and after."""
    count = int(np.isfinite(found.change.values).sum())
    lines = [
        f"before  {found.before.label}: {found.before.parameters:,} parameters",
        f"after   {found.after.label}: {found.after.parameters:,} parameters",
        f"change of {count} weights together: {percent(found.total)} % of the norm before",
    ]
    if found.alone:
        lines.append(f"weights that one of the two covers alone: {found.alone}")
    for title, grid, write in (
        ("norm before", found.norms_before, _number),
        ("norm after", found.norms_after, _number),
        ("change, in % of the norm before", found.change, percent),
        ("cosine of before and after", found.cosine, _number),
    ):
        lines += ["", title, *_grid(grid, write)]
    for title, portrait in (("before", found.before), ("after", found.after)):
        for shape in portrait.shapes:
            lines += ["", f"{title}, {_spectra(shape)[0]}", *_spectra(shape)[1:]]
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.3g}"


def percent(value: float) -> str:
    """A part in hundredths, without an exponent.

    >>> percent(0.0123456), percent(12.3), percent(float("inf"))
    ('1.23', '1,230', 'from 0')
    """
    hundredths = 100 * value
    if not math.isfinite(value):
        return "from 0"
    return f"{hundredths:,.0f}" if hundredths >= 100 else f"{hundredths:.3g}"


def _grid(grid: Grid, write: Callable[[float], str]) -> list[str]:
    finite = np.abs(grid.values[np.isfinite(grid.values)])
    largest = float(finite.max()) if finite.size else 0.0

    def cell(value: float) -> str:
        return "" if math.isnan(value) else f"{write(value)} {bar(abs(value), largest)}"

    rows = [["layer", *(f"{name}  " for name in grid.projections)]]
    for layer, values in zip(grid.layers, grid.values.tolist(), strict=True):
        rows.append([layer, *map(cell, values)])
    return columns(rows)


def _heads(layers: Sequence[str], values: Array) -> list[str]:
    largest = float(np.nanmax(values))
    rows = [["layer", *(str(head) for head in range(values.shape[1]))]]
    for layer, row in zip(layers, values.tolist(), strict=True):
        parts = [100 * value / largest if largest else 0.0 for value in row]
        rows.append([layer, *("" if math.isnan(part) else f"{part:.0f}" for part in parts)])
    return columns(rows)


def _spectra(shape: Shape) -> list[str]:
    """A row for each mode, and one for the weights by themselves."""
    spectrum = shape.spectrum
    kept = [f"{100 * part:g} %" for part in ENERGIES]
    rows = [["mode", "size", "rank allowed", "effective", *kept, "singular values"]]
    for mode, values in spectrum.values.items():
        empty = not values.any()
        ranks = ["-" if empty else str(spectrum.rank(mode, part)) for part in ENERGIES]
        effective = "-" if empty else f"{spectrum.effective_rank(mode):.1f}"
        size, allowed = spectrum.sizes[mode], shape.ranks[mode]
        rows.append(
            [mode, str(size), str(allowed), effective, *ranks, spark(values.tolist(), allowed)]
        )
    lines = [f"spectra of {spectrum.name}: ranks that keep so much of the energy"]
    lines += columns(rows, words_last=True)
    if shape.weights.size:
        mean = np.sqrt((shape.weights**2).mean(axis=0))
        lines.append(f"one weight, in | out: rank {shape.cut} allowed  {spark(mean, shape.cut)}")
    return lines
