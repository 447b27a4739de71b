"""How many parameters each family needs for a part of the energy of trained updates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tenslora.decompose.fitting import Fit
from tenslora.decompose.ranking import has_spectra, keep_energies
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
    rows : for each family, for each energy: its ranks by shape, parameters and energy, whether so
        much was kept (``enough``), and how the ranks were ``found``: by spectra, or by a search,
        whose numbers are upper bounds.
    left_out : the reason for each family without a row.

    Examples
    --------
    >>> import numpy as np
    >>> from tenslora.decompose import Updates
    >>> array = np.einsum("l,o,i->loi", np.ones(4), np.ones(6), np.ones(6))[:, None]
    >>> need = needed([Updates(array, (0, 1, 2, 3), ("q",))], ["lora", "tied_lora"], energies=[0.9])
    >>> {name: row[0]["parameters"] for name, row in need.rows.items()}
    {'lora': 48, 'tied_lora': 40}
    >>> need.energies, need.left_out
    ((0.9,), {})
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
        lines = [[*head, "ranks at the last that is kept"]]
        for name, row in self.rows.items():
            kept = [cell for cell in row if cell.get("enough", True)]
            ranks = [" ".join(f"{b}={r}" for b, r in one.items()) for one in kept[-1]["ranks"]]
            numbers = [_number(cell) for cell in row]
            lines.append([name + " *" * _searched(row), *numbers, " | ".join(ranks)])
        notes = [_SEARCHED] if any(map(_searched, self.rows.values())) else []
        return "\n".join([*columns(lines, words_last=True), *notes, *reasons(self.left_out)])


#: What the star behind a family means.
_SEARCHED = "* found by fits at budgets in steps of a tenth: enough, and not always the least"


def _searched(row: Sequence[Mapping[str, Any]]) -> bool:
    return row[0].get("found") == "search"  # a table that was kept before does not say it


def _number(cell: Mapping[str, Any]) -> str:
    return f"{cell['parameters']:,}" if cell.get("enough", True) else f"> {cell['parameters']:,}"


def needed(
    updates: Sequence[Updates],
    families: Iterable[str | Family] | None = None,
    energies: Sequence[float] = ENERGIES,
) -> Need:
    """Count the parameters at which each family keeps parts of the energy of updates.

    Each shape of weights keeps that part. Families whose cores are no tree, such as CP, have no
    spectrum: their numbers come from a search (:func:`keep_energy`), and are marked. Families that
    cannot be fitted, or keep none of the parts where the search ends, are left out with the reason.

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
    family              50 %  90 %  ranks at the last that is kept
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
        fits = []
        for one in updates:
            reading, array, sizes = one.read_by(family)
            fits.append(keep_energies(reading, array, energies, sizes=sizes))
    except TensloraError as error:
        if error.code == "E905":
            raise
        return error.what
    norms = [float((one.array**2).sum()) for one in updates]
    found = "spectra" if has_spectra(family) else "search"
    cells = [
        _cell(column, norms, part, found)
        for part, column in zip(energies, zip(*fits, strict=True), strict=True)
    ]
    if not any(cell["enough"] for cell in cells):
        best = cells[-1]
        what = f"it keeps {100 * best['energy']:.3g} % of the energy at {best['parameters']:,} "
        frozen = sum(column[-1].bound.frozen_parameters for column in fits)
        what += "parameters" + (f" beside {frozen:,} frozen ones" if frozen else "")
        return f"{what}, where the search ends"
    return tuple(cells)


def _cell(fits: Sequence[Fit], norms: Sequence[float], energy: float, found: str) -> dict[str, Any]:
    lost = sum(norm * one.error**2 for one, norm in zip(fits, norms, strict=True))
    return {
        "ranks": [one.bound.ranks for one in fits],
        "parameters": sum(one.parameters for one in fits),
        "energy": 1.0 - lost / sum(norms) if sum(norms) else 1.0,
        "enough": all(one.energy >= energy for one in fits),
        "found": found,
    }
