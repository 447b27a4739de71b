"""How many parameters each family needs for a part of the energy of trained updates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tenslora.decompose.ranking import keep_energy
from tenslora.decompose.spectrum import ENERGIES
from tenslora.decompose.updates import Updates
from tenslora.errors import FitError, TensloraError
from tenslora.family import Family, registered, resolve
from tenslora.family.columns import columns, reasons

__all__ = ["Need", "needed"]


@dataclass(frozen=True, repr=False)
class Need:
    """What :func:`needed` returns; its text is a table.

    Attributes
    ----------
    energies : the parts of the energy.
    rows : for each family, for each energy: its ranks by shape, parameters and energy.
    left_out : the reason for each family without a row.
    """

    energies: tuple[float, ...]
    rows: Mapping[str, tuple[Mapping[str, Any], ...]]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        rows = {name: [dict(cell) for cell in row] for name, row in self.rows.items()}
        return {"energies": list(self.energies), "families": rows, "left_out": dict(self.left_out)}

    def __repr__(self) -> str:
        head = ["family", *(f"{100 * part:g} %" for part in self.energies)]
        head.append(f"ranks at {100 * self.energies[-1]:g} %")
        lines = [head]
        for name, row in self.rows.items():
            ranks = [" ".join(f"{b}={r}" for b, r in one.items()) for one in row[-1]["ranks"]]
            lines.append([name, *(f"{cell['parameters']:,}" for cell in row), " | ".join(ranks)])
        return "\n".join([*columns(lines, words_last=True), *reasons(self.left_out)])


def needed(
    updates: Sequence[Updates],
    families: Iterable[str | Family] | None = None,
    energies: Sequence[float] = ENERGIES,
) -> Need:
    """Count the parameters at which each family keeps parts of the energy of updates.

    Each shape of weights keeps that part. Families whose cores are no tree, such as CP, are left
    out with that reason: their ranks have no spectrum.

    Parameters
    ----------
    updates : those of an adapter, one for each shape.
    families : by default every registered one.
    energies : the parts.

    Raises
    ------
    FitError
        E905 where nothing is given, or an energy is outside (0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> array = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    >>> updates = [Updates(array, (0, 1), ("q", "k", "v"))]
    >>> needed(updates, ["lora", "tenslora.qkv_depth"], [0.5, 0.9])
    family              50 %  90 %  ranks at 90 %
    lora                 192   480  r=5
    tenslora.qkv_depth   190   469  a=8 b=7 c=3 d=2
    """
    if not updates or not energies:
        raise FitError("E905", "no updates or no energies are given", advice="Give some of each.")
    chosen = registered().values() if families is None else map(resolve, families)
    rows: dict[str, tuple[Mapping[str, Any], ...]] = {}
    left_out = {}
    for family in chosen:
        found = _row(updates, family, energies)
        if isinstance(found, str):
            left_out[family.label] = found
        else:
            rows[family.label] = found
    return Need(tuple(energies), rows, left_out)


def _row(
    updates: Sequence[Updates], family: Family, energies: Sequence[float]
) -> tuple[Mapping[str, Any], ...] | str:
    """Return the cells of one family, or the reason why there are none."""
    try:
        return tuple(_cell(updates, family, part) for part in energies)
    except TensloraError as error:
        if error.code == "E905":
            raise
        return error.what


def _cell(updates: Sequence[Updates], family: Family, energy: float) -> dict[str, Any]:
    fits, lost, total = [], 0.0, 0.0
    for one in updates:
        reading, array, sizes = one.read_by(family)
        found = keep_energy(reading, array, energy, sizes=sizes)
        fits.append(found)
        norm = float((array**2).sum())
        lost, total = lost + norm * found.error**2, total + norm
    return {
        "ranks": [found.bound.ranks for found in fits],
        "parameters": sum(found.parameters for found in fits),
        "energy": 1.0 - lost / total if total else 1.0,
    }
