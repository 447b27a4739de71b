"""What there is to see of an adapter: its norms by place, and its spectra mode by mode."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tenslora.decompose import Spectrum
from tenslora.errors import SizeError
from tenslora.nn.portrait.measures import head_norms, mode_values, norm, weight_values
from tenslora.nn.portrait.values import Array, Piece, Stack, stacks_of
from tenslora.plan.cut import mode_rank
from tenslora.spec import is_count, slot_size

if TYPE_CHECKING:
    from tenslora.figure import Picture
    from tenslora.nn.adapter import Adapter
    from tenslora.nn.portrait.comparison import Comparison

__all__ = ["Grid", "Portrait", "Shape", "make_grid", "make_portrait"]


@dataclass(frozen=True, eq=False)
class Grid:
    """A number for each weight: layers down, projections across, NaN where there is none.

    Examples
    --------
    >>> import numpy as np
    >>> grid = Grid(("0", "1"), ("q", "v"), np.array([[1.0, 2.0], [3.0, np.nan]]))
    >>> grid.to_dict()["values"]
    [[1.0, 2.0], [3.0, None]]
    """

    layers: tuple[str, ...]
    projections: tuple[str, ...]
    values: Array

    def to_dict(self) -> dict[str, Any]:
        """Return labels and numbers as plain data, null where there is no weight."""
        rows = [[v if math.isfinite(v) else None for v in row] for row in self.values.tolist()]
        return {
            "layers": list(self.layers),
            "projections": list(self.projections),
            "values": rows,
        }


@dataclass(frozen=True, eq=False)
class Shape:
    """The spectra of the weights of one shape.

    Attributes
    ----------
    spectrum : the singular values of all updates together, unfolded along each index of the
        equation's target.
    ranks : for each of these the rank that the equation allows at its sizes: the smallest cut
        between that index and the others.
    weights : the singular values of each weight, (weights, cut).
    cut : the rank that the equation allows for one weight.

    Examples
    --------
    >>> import torch, tenslora as tl
    >>> model = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(4)))
    >>> adapter = tl.attach(model, "lotr", targets="all-linear", ranks={"r": 3, "s": 2})
    >>> (shape,) = tl.portrait(adapter).shapes
    >>> shape.ranks, shape.cut, shape.weights.shape
    ({'layer': 4, 'proj': 1, 'out': 2, 'in': 3}, 2, (4, 2))
    >>> adapter.detach()
    """

    spectrum: Spectrum
    ranks: Mapping[str, int]
    weights: Array
    cut: int

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            **self.spectrum.to_dict(),
            "allowed": dict(self.ranks),
            "weights": {"allowed": self.cut, "singular_values": self.weights.tolist()},
        }


@dataclass(frozen=True, repr=False, eq=False)
class Portrait:
    """What :func:`tenslora.portrait` returns; ``print`` shows it in characters.

    Attributes
    ----------
    label, equation : the family; ``label`` has the wrapper that it stands in.
    parameters : trained entries of its cores.
    norms : the Frobenius norm of each update, scale included.
    heads : for each projection with heads the norm of the rows of each, (layers, heads).
    shapes : the spectra of each shape of weights.
    stacks : what was measured.

    Examples
    --------
    >>> import torch, tenslora as tl
    >>> model = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(4)))
    >>> adapter = tl.attach(model, "lora", targets="all-linear", ranks=2)
    >>> seen = tl.portrait(adapter)
    >>> seen.parameters, seen.norms.values.shape, seen.pictures
    (128, (4, 1), ('norms', 'spectra'))
    >>> float(seen.norms.values.max())  # nothing is trained yet
    0.0
    >>> adapter.detach()
    """

    label: str
    equation: str
    parameters: int
    norms: Grid
    heads: Mapping[str, Array]
    shapes: tuple[Shape, ...]
    stacks: tuple[Stack, ...]

    def text(self) -> str:
        """Return norms, heads and spectra as tables with bars."""
        from tenslora.nn.portrait.text import portrait_text

        return portrait_text(self)

    def plot(self, what: str = "norms") -> Picture:
        """Draw it with matplotlib.

        Parameters
        ----------
        what : ``"norms"``, ``"heads"`` or ``"spectra"``.

        Raises
        ------
        DataError
            E710 where matplotlib is not installed, E716 for another picture, or heads where there
            are none.
        """
        from tenslora.nn.portrait.figures import draw_portrait

        return draw_portrait(self, what)

    @property
    def pictures(self) -> tuple[str, ...]:
        """What can be drawn of it."""
        return ("norms", "heads", "spectra") if self.heads else ("norms", "spectra")

    def compare(self, before: Portrait) -> Comparison:
        """Hold it beside another adapter of the same weights, such as the one that it came from.

        Raises
        ------
        DataError
            E716 where the two have no weight in common.
        """
        from tenslora.nn.portrait.comparison import compare

        return compare(before, self)

    def to_dict(self) -> dict[str, Any]:
        """Return every number as plain data."""
        return {
            "family": self.label,
            "equation": self.equation,
            "parameters": self.parameters,
            "norms": self.norms.to_dict(),
            "heads": {name: values.tolist() for name, values in self.heads.items()},
            "shapes": [shape.to_dict() for shape in self.shapes],
        }

    def __repr__(self) -> str:
        return self.text()


def make_portrait(adapter: Adapter, heads: int | None = None) -> Portrait:
    """Measure an adapter; see :func:`tenslora.portrait`."""
    stacks = stacks_of(adapter)
    found = {piece.key: norm(piece) for stack in stacks for piece in stack.pieces}
    norms = make_grid((piece, found[piece.key]) for stack in stacks for piece in stack.pieces)
    return Portrait(
        adapter.design.label,
        adapter.family.equation,
        adapter.trainable_parameters,
        norms,
        _heads(stacks, norms, heads),
        tuple(map(_shape, stacks)),
        stacks,
    )


def make_grid(values: Iterable[tuple[Piece, float]]) -> Grid:
    """Place numbers by layer and by what else tells weights apart."""
    given = list(values)
    places = [_place(piece) for piece, _ in given]
    if len(set(places)) < len(places):
        places = [(str(piece.site), "update") for piece, _ in given]
    layers = tuple(dict.fromkeys(layer for layer, _ in places))
    projections = tuple(dict.fromkeys(projection for _, projection in places))
    grid = np.full((len(layers), len(projections)), np.nan)
    for (layer, projection), (_, value) in zip(places, given, strict=True):
        grid[layers.index(layer), projections.index(projection)] = value
    return Grid(layers, projections, grid)


def _place(piece: Piece) -> tuple[str, str]:
    """A weight's row and column: its layer, and its other coordinates."""
    coords = dict(piece.site.coords)
    layer = str(coords.pop("layer", "-"))
    projection = str(coords.pop("proj", ""))
    others = [f"{name} {label}" for name, label in coords.items()]
    return layer, " ".join(filter(None, [projection, *others])) or piece.site.path


def _heads(stacks: Iterable[Stack], norms: Grid, heads: int | None) -> dict[str, Array]:
    """The norms of each head, for weights whose rows are heads."""
    found: dict[str, Array] = {}
    for stack in stacks:
        for piece in stack.pieces:
            number = _count_heads(stack, piece, heads)
            layer, projection = _place(piece)
            if number and layer in norms.layers and projection in norms.projections:
                empty = np.full((len(norms.layers), number), np.nan)
                row = norms.layers.index(layer)
                found.setdefault(projection, empty)[row] = head_norms(piece, number)
    if heads is not None and not found:
        what = f"no weight has a number of output features that is a multiple of heads={heads!r}"
        raise SizeError("E213", what, advice="Give the heads of the model: heads=12, say.")
    return found


def _count_heads(stack: Stack, piece: Piece, heads: int | None) -> int:
    """The number of heads in the rows of a weight, 0 where they are none."""
    network, sizes, rows = stack.bound.network, stack.bound.sizes, piece.left.shape[0]
    if heads is not None:
        return 0 if not is_count(heads) or rows % heads else int(heads)
    if network.output[0] != "head":
        return 0
    return rows * sizes["head"] // slot_size(network.output, sizes)  # fewer where rows are shared


def _shape(stack: Stack) -> Shape:
    bound = stack.bound
    values = mode_values(stack)
    energy = make_grid((piece, norm(piece) ** 2) for piece in stack.pieces)
    part = np.nan_to_num(energy.values) / max(float(np.nansum(energy.values)), 1e-300)
    spectrum = Spectrum(
        stack.name,
        values,
        {mode: bound.sizes[mode] for mode in values},
        dict(zip(energy.layers, part.sum(axis=1).tolist(), strict=True)),
        dict(zip(energy.projections, part.sum(axis=0).tolist(), strict=True)),
        part,
    )
    ranks = {mode: mode_rank(bound.network, bound.sizes, mode) for mode in values}
    return Shape(spectrum, ranks, weight_values(stack), bound.cut_rank)
