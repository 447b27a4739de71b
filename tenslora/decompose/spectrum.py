"""What stacked updates hold: singular values mode by mode, and the shares of their parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tenslora.decompose.contraction import Array
from tenslora.decompose.reduction import span
from tenslora.decompose.updates import Updates
from tenslora.family.columns import columns

__all__ = ["ENERGIES", "Spectrum", "spectrum"]

#: The parts of the energy that tables speak of.
ENERGIES = (0.9, 0.99, 0.999)


@dataclass(frozen=True, repr=False, eq=False)
class Spectrum:
    """What :func:`spectrum` returns; its text is a table.

    Attributes
    ----------
    name : the shape of the weights.
    values : for each mode the singular values of the updates unfolded along it.
    sizes : the size of each mode.
    layers, projections : the part of the energy of each, by label.
    sites : the same for every weight, (layer, proj).

    Examples
    --------
    >>> import numpy as np
    >>> found = spectrum(Updates(np.diag([4.0, 3.0, 0.0])[None, None], (0,), ("q",)))
    >>> found.values["out"]
    array([4., 3.])
    >>> found.rank("out", 0.9), found.kept("out").tolist()
    (2, [0.64, 1.0])
    >>> round(found.effective_rank("out"), 3)
    1.98
    """

    name: str
    values: Mapping[str, Array]
    sizes: Mapping[str, int]
    layers: Mapping[str, float]
    projections: Mapping[str, float]
    sites: Array

    def effective_rank(self, mode: str) -> float:
        """The exponential of the entropy of the singular values (Roy and Vetterli 2007)."""
        values = self.values[mode][self.values[mode] > 0]
        part = values / values.sum() if len(values) else np.ones(1)
        return float(np.exp(-(part * np.log(part)).sum()))

    def kept(self, mode: str) -> Array:
        """The part of the energy that ranks 1, 2, ... of a mode keep, if nothing else is cut."""
        energy = np.cumsum(self.values[mode] ** 2)
        return np.asarray(energy / energy[-1] if energy[-1] > 0 else np.ones_like(energy))

    def rank(self, mode: str, energy: float) -> int:
        """The smallest rank of a mode that keeps a part of the energy."""
        return int(np.argmax(self.kept(mode) >= energy * (1 - 1e-12))) + 1

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "name": self.name,
            "modes": {
                mode: {
                    "size": self.sizes[mode],
                    "singular_values": values.tolist(),
                    "effective_rank": self.effective_rank(mode),
                    "ranks": {f"{part:g}": self.rank(mode, part) for part in ENERGIES},
                }
                for mode, values in self.values.items()
            },
            "layers": dict(self.layers),
            "projections": dict(self.projections),
            "sites": self.sites.tolist(),
        }

    def __repr__(self) -> str:
        head = ["mode", "size", "effective rank", *(f"{100 * part:g} %" for part in ENERGIES)]
        rows = [
            [mode, str(self.sizes[mode]), f"{self.effective_rank(mode):.1f}"]
            + [str(self.rank(mode, part)) for part in ENERGIES]
            for mode in self.values
        ]
        lines = [f"weights of {self.name}: ranks of each mode that keep so much of the energy"]
        lines += columns([head, *rows])
        for what, shares in (("layer", self.layers), ("projection", self.projections)):
            listed = ", ".join(f"{label} {100 * part:.1f} %" for label, part in shares.items())
            lines.append(f"energy by {what}: {listed}")
        return "\n".join(lines)


def spectrum(updates: Updates) -> Spectrum:
    """Take stacked updates apart mode by mode.

    Parameters
    ----------
    updates : those of one shape, as :func:`tenslora.integrations.read_updates` reads them from a
        file.

    Examples
    --------
    >>> array = np.einsum("l,p,o,i->lpoi", [3.0, 1.0], [1.0], np.ones(4), np.ones(3))
    >>> print(spectrum(Updates(array, (0, 1), ("q",))))
    weights of 4x3: ranks of each mode that keep so much of the energy
    mode   size  effective rank  90 %  99 %  99.9 %
    in        3             1.0     1     1       1
    out       4             1.0     1     1       1
    proj      1             1.0     1     1       1
    layer     2             1.0     1     1       1
    energy by layer: 0 90.0 %, 1 10.0 %
    energy by projection: q 100.0 %
    """
    array = updates.array
    modes = {"in": (array, 3), "out": (array, 2), "proj": (array, 1), "layer": (array, 0)}
    if updates.heads:
        cut = array.reshape(*array.shape[:2], updates.heads, -1, array.shape[3])
        modes = {"in": (array, 3), "out": (array, 2), "head_dim": (cut, 3), "head": (cut, 2),
                 "proj": (array, 1), "layer": (array, 0)}  # fmt: skip
    values: dict[str, Array] = {}
    sizes: dict[str, int] = {}
    for mode, (tensor, axis) in modes.items():
        matrix = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
        small = span(matrix).T @ matrix
        if small.shape[1] > small.shape[0]:
            small = np.asarray(np.linalg.qr(small.T, mode="r"))
        values[mode] = np.asarray(np.linalg.svd(small, compute_uv=False), dtype=np.float64)
        sizes[mode] = tensor.shape[axis]
    energy = (array**2).sum(axis=(2, 3))
    part = energy / max(float(energy.sum()), 1e-300)
    return Spectrum(
        updates.name,
        values,
        sizes,
        dict(zip(map(str, updates.layers), part.sum(axis=1).tolist(), strict=True)),
        dict(zip(map(str, updates.projections), part.sum(axis=0).tolist(), strict=True)),
        part,
    )
