"""What fitting an adapter came to: the error in all and of each weight, and the parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenslora.decompose import Fit
from tenslora.nn import Adapter, Site
from tenslora.nn.design import Group

__all__ = ["Compressed", "Tally"]

_SHOWN = 5


@dataclass(frozen=True)
class Compressed:
    """What :func:`compress` returns; its text says the weights that are met worst.

    Attributes
    ----------
    adapter : the new adapter, attached.
    fits : the fit of each shape of weights, by its name.
    error : the norm of what is missing over that of all updates, measured on every weight.
    errors : the same for each weight, by its name; 0, or infinity, where its update is zero.
    parameters : those of the new adapter.
    before : those of the source; ``None`` where it was no adapter.
    covered : of the difference of two models the part of the energy that lies in the targets.

    Examples
    --------
    >>> import torch, tenslora as tl
    >>> from tenslora.integrations import compress
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    >>> adapter = tl.attach(model, "lora", targets="all-linear", ranks=2)
    >>> with torch.no_grad():
    ...     _ = [core.fill_(1.0) for core in adapter.parameters()]
    >>> found = compress(model, adapter, "tied_lora", ranks=1)
    >>> found.parameters, found.before, found.error < 1e-5
    (34, 64, True)
    >>> sorted(found.worst())
    ['0', '1']
    """

    adapter: Adapter
    fits: Mapping[str, Fit]
    error: float
    errors: Mapping[str, float]
    parameters: int
    before: int | None = None
    covered: float | None = None

    def worst(self, count: int = _SHOWN) -> dict[str, float]:
        """Return the weights with the largest errors, from the worst on."""
        ordered = sorted(self.errors.items(), key=lambda item: -item[1])
        return dict(ordered[:count])

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the arrays as plain data."""
        fits = {
            name: {"ranks": found.bound.ranks, "method": found.method, "error": found.error}
            for name, found in self.fits.items()
        }
        return {
            "family": self.adapter.family.label,
            "equation": self.adapter.family.equation,
            "parameters": self.parameters,
            "before": self.before,
            "covered": self.covered,
            "error": self.error,
            "energy": 1.0 - self.error**2,
            "errors": dict(self.errors),
            "shapes": fits,
        }

    def __str__(self) -> str:
        energy = 100 * (1 - self.error**2)
        text = f"{self.parameters:,} parameters"
        if self.before is not None:
            text += f", {self.before:,} before"
        lines = [f"{text}; relative error {self.error:.3g}: {energy:.2f} % of the energy"]
        if self.covered is not None:
            lines.append(f"the targets hold {100 * self.covered:.2f} % of what was changed")
        for name, found in self.fits.items():
            ranks = " ".join(f"{bond}={rank}" for bond, rank in found.bound.ranks.items())
            lines.append(f"{name}: {found.bound.family.label} {ranks} ({found.method})")
        worst = ", ".join(f"{site} {error:.3g}" for site, error in self.worst().items())
        return "\n".join([*lines, f"largest errors of {len(self.errors)} weights: {worst}"])


@dataclass
class Tally:
    """Errors that are added up, shape by shape."""

    fits: dict[str, Fit] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    lost: float = 0.0
    total: float = 0.0

    def add(self, group: Group, found: Fit, arrays: Mapping[Site, NDArray[np.float64]]) -> None:
        """Measure a fit on every weight of a shape."""
        self.fits[group.name] = found
        delta = found.delta()
        for site, place in zip(group.sites, group.grid.positions, strict=True):
            value = delta[tuple(place[s] for s in group.bound.network.sites)]
            lost, total = (
                float(((arrays[site] - value) ** 2).sum()),
                float((arrays[site] ** 2).sum()),
            )
            self.lost, self.total = self.lost + lost, self.total + total
            self.errors[str(site)] = _relative(lost, total)

    def compressed(
        self, adapter: Adapter, before: int | None, covered: float | None = None
    ) -> Compressed:
        """Return the report."""
        error = _relative(self.lost, self.total)
        count = adapter.trainable_parameters
        return Compressed(adapter, self.fits, error, self.errors, count, before, covered)


def _relative(lost: float, total: float) -> float:
    if total:
        return math.sqrt(lost / total)
    return math.inf if lost else 0.0
