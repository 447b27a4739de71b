"""Portraits and comparisons by matplotlib: grey cells with their numbers, lines told by marks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tenslora.errors import DataError
from tenslora.figure import BLUE, GREY, ORANGE, Picture, make_figure, tidy
from tenslora.nn.portrait.text import percent
from tenslora.nn.portrait.values import Array

if TYPE_CHECKING:
    from tenslora.nn.portrait.comparison import Comparison
    from tenslora.nn.portrait.measured import Grid, Portrait, Shape

__all__ = ["draw_compared", "draw_portrait"]

_ACROSS = 3
_WIDEST = 10.0  # inches
_FLOOR = 1e-6  # of the largest value; what is below is the rounding of float32
_CROWDED = 40  # columns of cells that still have room for a number


def draw_portrait(portrait: Portrait, what: str) -> Picture:
    """Draw one picture of a portrait; see :meth:`Portrait.plot`."""
    return _choose(_PORTRAITS, what, portrait.pictures)(portrait)


def draw_compared(found: Comparison, what: str) -> Picture:
    """Draw one picture of a comparison; see :meth:`Comparison.plot`."""
    return _choose(_COMPARISONS, what, tuple(_COMPARISONS))(found)


def _choose(
    known: Mapping[str, Callable[[Any], Picture]], what: str, there: Sequence[str]
) -> Callable[[Any], Picture]:
    if what in there:
        return known[what]
    advice = f"There are {', '.join(there)}."
    if what == "heads":
        advice += " The equation has no index head: give heads=12, say."
    raise DataError("E716", f"{what!r} cannot be drawn here", advice=advice)


def _norms(portrait: Portrait) -> Picture:
    grid = portrait.norms
    rows, across = grid.values.shape
    figure = make_figure(2.4 + 0.75 * across, 1.5 + 0.27 * rows)
    axes = figure.subplots()
    _cells(axes, grid, "{:.2g}".format)
    _name_rows(axes, grid.layers)
    _title(figure, f"{portrait.label}: norm of the update")
    return Picture(figure)


def _heads(portrait: Portrait) -> Picture:
    rows, widest = len(portrait.norms.layers), max(v.shape[1] for v in portrait.heads.values())
    width = 0.6 + 0.3 * widest
    across = min(len(portrait.heads), max(1, int(_WIDEST / width)))
    down = math.ceil(len(portrait.heads) / across)
    figure = make_figure(max(5.0, across * width + 0.6), down * (1.1 + 0.27 * rows) + 0.4)
    panels = figure.subplots(down, across, squeeze=False)
    for axes in panels.flat[len(portrait.heads) :]:
        axes.set_axis_off()
    for n, (projection, values) in enumerate(portrait.heads.items()):
        axes = panels.flat[n]
        largest = float(np.nanmax(values)) or 1.0
        _shade(axes, 100 * values / largest, "{:.0f}".format)
        step = max(1, values.shape[1] // 16)
        axes.set_xticks(range(0, values.shape[1], step))
        axes.set_title(f"{projection}, largest {largest:.3g}", fontsize=9)
        axes.set_xlabel("head", fontsize=8)
        _name_rows(axes, portrait.norms.layers if n % across == 0 else [""] * rows)
    _title(figure, f"{portrait.label}: norm of the update by head, in % of the largest")
    return Picture(figure)


def _spectra(portrait: Portrait) -> Picture:
    def draw(axes: Any, shape: Shape, mode: str | None) -> float:
        return _line(axes, *_mode(shape, mode), label="", color=BLUE)

    title = f"{portrait.label}: singular values, and the rank allowed"
    return _draw_modes(portrait, title, draw)


def _both_spectra(found: Comparison) -> Picture:
    others = {shape.spectrum.name: shape for shape in found.before.shapes}

    def draw(axes: Any, shape: Shape, mode: str | None) -> float:
        other = others.get(shape.spectrum.name)
        least = 1.0
        if other is not None and (mode is None or mode in other.ranks):
            values, allowed = _mode(other, mode)
            least = _line(axes, values, allowed, label="before", color=ORANGE)
        least = min(least, _line(axes, *_mode(shape, mode), label="after", color=BLUE))
        axes.legend(frameon=False, fontsize=7)
        return least

    return _draw_modes(found.after, _names(found), draw)


def _draw_modes(
    portrait: Portrait, title: str, draw: Callable[[Any, Shape, str | None], float]
) -> Picture:
    """A panel for each mode that has a choice of rank, and one for the weights by themselves."""
    panels: list[tuple[Shape, str | None]] = []
    for shape in portrait.shapes:
        panels += [(shape, mode) for mode, size in shape.spectrum.sizes.items() if size > 1]
        panels.append((shape, None))
    across = min(_ACROSS, len(panels))
    down = math.ceil(len(panels) / across)
    figure = make_figure(3.2 * across, 2.5 * down + 0.4)
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    several = len(portrait.shapes) > 1
    for n, (shape, mode) in enumerate(panels):
        axes = grid.flat[n]
        _scale(axes, draw(axes, shape, mode))
        size = f" of {shape.spectrum.sizes[mode]}" if mode else ""
        name = f"{shape.spectrum.name}: " if several else ""
        axes.set_title(f"{name}{mode or 'one weight, in | out'}{size}", fontsize=9)
        if n % across == 0:
            axes.set_ylabel("over the largest", fontsize=8)
    _title(figure, title)
    return Picture(figure)


def _scale(axes: Any, least: float) -> None:
    """Whole decades up, whole numbers across."""
    axes.set_yscale("log")
    axes.set_ylim(min(0.1, 10.0 ** math.floor(math.log10(least))) * 0.7, 1.5)
    axes.yaxis.minorticks_off()
    axes.margins(x=0.09)
    axes.set_xlabel("singular value", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.xaxis.get_major_locator().set_params(integer=True)
    tidy(axes)


def _mode(shape: Shape, mode: str | None) -> tuple[Array, int]:
    """The values of a mode and its rank; without one, those of a weight in the mean."""
    if mode is not None:
        return shape.spectrum.values[mode], shape.ranks[mode]
    return np.sqrt((shape.weights**2).mean(axis=0)), shape.cut


def _line(axes: Any, values: Array, allowed: int, *, label: str, color: str) -> float:
    """Draw values over the largest, with a line behind the rank allowed; return the least shown."""
    before = label == "before"
    part = values / max(float(values[0]), 1e-300) if len(values) else values
    shown = part > _FLOOR
    axes.plot(
        np.arange(1, len(part) + 1)[shown],
        part[shown],
        marker="s" if before else "o",
        markersize=4,
        linestyle="--" if before else "-",
        linewidth=1,
        color=color,
        markerfacecolor="white" if before else color,
        label=label,
    )
    place, words = allowed + 0.5, f"{label}: rank {allowed}" if label else f"rank {allowed}"
    axes.axvline(place, color=color if label else GREY, linestyle=":", linewidth=1.2)
    axes.annotate(
        words,
        (place, 0.04 if before else 0.96),
        xycoords=axes.get_xaxis_transform(),
        xytext=(2, 0),
        textcoords="offset points",
        rotation=90,
        fontsize=7,
        ha="left",
        va="bottom" if before else "top",
    )
    return float(part[shown].min()) if shown.any() else 1.0


def _comparison(found: Comparison) -> Picture:
    projections = found.norms_after.projections
    rows, across = found.change.values.shape
    width = max(1.9 * across, 2.4 + 0.75 * across)
    figure = make_figure(width, 3.0 + 1.4 + 0.27 * rows)
    above, below = figure.subfigures(2, 1, height_ratios=[2.8, 1.4 + 0.27 * rows])
    panels = above.subplots(1, across, squeeze=False, sharey=True)[0]
    place = np.arange(rows)
    for n, (axes, name) in enumerate(zip(panels, projections, strict=True)):
        before, after = found.norms_before.values[:, n], found.norms_after.values[:, n]
        style: dict[str, Any] = {"markersize": 4, "linewidth": 1}
        axes.plot(place, before, "s--", color=ORANGE, markerfacecolor="white", label="before",
                  **style)  # fmt: skip
        axes.plot(place, after, "o-", color=BLUE, label="after", **style)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("layer", fontsize=8)
        axes.set_xticks(*_some(found.norms_after.layers), fontsize=7)
        axes.tick_params(labelsize=7)
        tidy(axes)
    panels[0].set_ylim(bottom=0)  # once all is drawn: the panels share it
    panels[0].set_ylabel("norm", fontsize=8)
    panels[0].legend(frameon=False, fontsize=7)
    axes = below.subplots()
    _cells(axes, found.change, percent)
    _name_rows(axes, found.change.layers)
    axes.set_title("change, in % of the norm before", fontsize=9, pad=18)
    _title(figure, _names(found))
    return Picture(figure)


def _names(found: Comparison) -> str:
    return f"before: {found.before.label}, after: {found.after.label}"


def _some(layers: Sequence[str]) -> tuple[list[int], list[str]]:
    """Places and names of at most eight layers."""
    step = max(1, math.ceil(len(layers) / 8))
    places = list(range(0, len(layers), step))
    return places, [layers[n] for n in places]


def _cells(axes: Any, grid: Grid, write: Callable[[float], str]) -> None:
    _shade(axes, grid.values, write)
    names = [name if len(name) <= 14 else f"...{name[-12:]}" for name in grid.projections]
    tilted = max(map(len, names)) > 9
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=30 if tilted else 0)
    axes.xaxis.tick_top()


def _shade(axes: Any, values: Array, write: Callable[[float], str]) -> None:
    """Cells from white to dark grey, each with its number where there is room."""
    finite = values[np.isfinite(values)]
    top = float(finite.max()) if finite.size else 1.0
    axes.imshow(
        np.nan_to_num(values, nan=0.0, posinf=top),
        cmap="Greys",
        vmin=0.0,
        vmax=(top or 1.0) * 1.25,
        aspect="auto",
    )
    if values.shape[1] <= _CROWDED:
        size = 7 if values.shape[1] <= 16 else 4.5
        for (row, column), value in np.ndenumerate(values):
            if not math.isnan(value):
                dark = value > 0.65 * top
                color = "white" if dark else "black"
                axes.text(column, row, write(float(value)), ha="center", va="center",
                          fontsize=size, color=color)  # fmt: skip
    axes.tick_params(length=0, labelsize=7)
    for side in axes.spines.values():
        side.set_visible(False)


def _name_rows(axes: Any, layers: Sequence[str]) -> None:
    axes.set_yticks(range(len(layers)), layers, fontsize=7)
    if any(layers):
        axes.set_ylabel("layer", fontsize=8)


def _title(figure: Any, text: str) -> None:
    figure.suptitle(text if len(text) <= 90 else f"{text[:87]}...", fontsize=10)


_PORTRAITS: Mapping[str, Callable[[Portrait], Picture]] = {
    "norms": _norms,
    "heads": _heads,
    "spectra": _spectra,
}
_COMPARISONS: Mapping[str, Callable[[Comparison], Picture]] = {
    "comparison": _comparison,
    "spectra": _both_spectra,
}
