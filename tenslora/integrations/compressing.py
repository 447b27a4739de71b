"""``compress``: a trained adapter, or a LoRA checkpoint, as a smaller adapter of another family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tenslora.decompose import Fit, fit, keep_energy
from tenslora.errors import FitError
from tenslora.family import Bound, Family, Scale
from tenslora.integrations.updates import read_lora
from tenslora.nn import Adapter, Site, attach
from tenslora.nn.attaching import build
from tenslora.nn.bank import Bank
from tenslora.nn.design import Design, Group
from tenslora.nn.lifting import take_place

__all__ = ["Compressed", "compress", "recompress"]


@dataclass(frozen=True)
class Compressed:
    """What :func:`compress` returns.

    Attributes
    ----------
    adapter : the new adapter, attached.
    fits : the fit of each shape of weights, by its name.
    error : the norm of what is missing over that of all updates, measured on every weight.
    parameters : those of the new adapter.
    """

    adapter: Adapter
    fits: Mapping[str, Fit]
    error: float
    parameters: int

    def __str__(self) -> str:
        energy = 100 * (1 - self.error**2)
        return f"{self.parameters:,} parameters, relative error {self.error:.3g}: {energy:.2f} %"


def compress(
    model: nn.Module,
    source: Adapter | str | Path,
    family: str | Family,
    *,
    ranks: int | Mapping[str, int] | None = None,
    params: int | None = None,
    like: str | Family | None = None,
    sizes: Mapping[str, int] | None = None,
    tolerance: float | None = None,
    name: str = "compressed",
) -> Compressed:
    """Attach an adapter of another family whose update is as close to a trained one as it can be.

    Parameters
    ----------
    model : the base that the source belongs to. A source that is attached to it stays so, inactive.
    source : an adapter, or the folder of a LoRA checkpoint of PEFT.
    family, ranks, params, like, sizes, name : as for :func:`tenslora.attach`.
    tolerance : the relative error that is wanted of each shape; a worse fit is an error.

    Raises
    ------
    TensloraError
        What :func:`tenslora.attach` and :func:`tenslora.fit` raise; the model is then as before.
    """
    pieces = _pieces(source)
    active = source.registry.default_active if isinstance(source, Adapter) else None
    made = attach(
        model, family, sites=[site for site, _ in pieces], ranks=ranks, params=params, like=like,
        sizes=sizes, name=name,
    )  # fmt: skip
    try:
        updates = {site.path + str(site): array for site, array in pieces}
        fits, lost, total = {}, 0.0, 0.0
        for group in made.design.groups:
            arrays = [updates[site.path + str(site)] for site in group.sites]
            found = _fit(made.banks[group.name], group, arrays, tolerance)
            fits[group.name] = found
            delta = found.delta()
            for array, place in zip(arrays, group.grid.positions, strict=True):
                value = delta[tuple(place[s] for s in group.bound.network.sites)]
                lost += float(((array - value) ** 2).sum())
                total += float((array**2).sum())
    except BaseException:
        made.detach()
        if active is not None and isinstance(source, Adapter):
            source.registry.set_active(active)
        raise
    error = float(np.sqrt(lost / total)) if total else 0.0
    return Compressed(made, fits, error, made.trainable_parameters)


def _pieces(source: Adapter | str | Path) -> list[tuple[Site, NDArray[np.float64]]]:
    if isinstance(source, Adapter):
        with torch.no_grad():
            return [(site, source.delta(site).double().cpu().numpy()) for site in source.sites]
    return [(Site(path, coords), array) for path, coords, array in read_lora(Path(source))]


def _fit(
    bank: Bank, group: Group, arrays: Sequence[NDArray[np.float64]], tolerance: float | None
) -> Fit:
    """Fit the cores of one bank, and put them there."""
    bound = group.bound
    target = _target(group, arrays)
    sizes = {i: n for i, n in bound.sizes.items() if i not in bound.ranks}
    held = {n: t.detach().double().cpu().numpy() for n, t in bank.cores().items()}
    fixed = {name: held[name] for name in bound.family.frozen}
    found = fit(
        bound.family, target, bound.ranks, sizes=sizes, cores=fixed, tolerance=tolerance
    )  # fmt: skip
    with torch.no_grad():
        for core, tensor in bank.cores().items():
            if core not in fixed:
                tensor.copy_(torch.from_numpy(found.cores[core]))
    return found


def _target(group: Group, arrays: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Stack updates at the places of their sites; those of one place are tied, and give a mean."""
    sites = group.bound.network.sites
    shape = [group.bound.sizes[site] for site in sites]
    target, count = np.zeros([*shape, *arrays[0].shape]), np.zeros(shape)
    for array, place in zip(arrays, group.grid.positions, strict=True):
        at = tuple(place[s] for s in sites)
        target[at] += array
        count[at] += 1
    return np.asarray(target / count[..., None, None])


def recompress(adapter: Adapter, tolerance: float) -> Compressed:
    """Replace a trained adapter by one of the same family at the lowest ranks that keep its update.

    The ranks are those of the adapter's own spectra (:func:`tenslora.decompose.keep_energy`), and
    the cores come orthogonal but for one, the gauge in which bonds can be cut best. Sites, scale,
    dropout, modules in ``train`` and the name stay. The parameters are new, and so has to be the
    optimiser: nothing of its state is carried over.

    Parameters
    ----------
    adapter : attached and not merged; it is detached.
    tolerance : the relative error that each shape of weights may have.

    Raises
    ------
    FitError
        E903 for a family whose cores are no tree, E905 for a tolerance outside (0, 1); the model is
        as it was.
    AttachError
        E510, E511 for an adapter that is not attached, or merged.
    """
    adapter._check_attached()
    adapter._check_merged(False, "Unmerge it first.")
    good = isinstance(tolerance, (int, float)) and not isinstance(tolerance, bool)
    if not good or not 0.0 < tolerance < 1.0:
        what = f"tolerance={tolerance!r} is out of range"
        raise FitError("E905", what, advice="Give a part between 0 and 1, such as 0.01.")
    groups, fits, lost, total = [], {}, 0.0, 0.0
    for group in adapter.design.groups:
        with torch.no_grad():
            arrays = [adapter.delta(site).double().cpu().numpy() for site in group.sites]
        bound = group.bound
        sizes = {i: n for i, n in bound.sizes.items() if i not in bound.ranks}
        target = _target(group, arrays) / bound.scale
        unit = replace(bound.family, scale=Scale("constant"))
        found = keep_energy(unit, target, 1.0 - tolerance**2, sizes=sizes)
        kept = Bound(bound.family, found.bound.sizes, bound.scale)
        groups.append(Group(group.name, group.sites, group.grid, kept))
        fits[group.name] = found
        norm = float((target**2).sum()) * bound.scale**2
        lost, total = lost + norm * found.error**2, total + norm
    made = _built(adapter, groups, fits)
    error = float(np.sqrt(lost / total)) if total else 0.0
    return Compressed(made, fits, error, made.trainable_parameters)


def _built(adapter: Adapter, groups: Sequence[Group], fits: Mapping[str, Fit]) -> Adapter:
    """Make the adapter of these groups with the cores of the fits, in the place of the other."""
    design = Design(adapter.family, tuple(groups), adapter.design.dropout, adapter.design.train)
    bank = next(iter(adapter.banks.values()))
    device = next(iter(bank.cores().values())).device
    made = build(
        adapter.model,
        design,
        adapter.name,
        seed=None,
        dtype=bank.dtype,
        device=device,
        plan=bank.planning,
    )
    with torch.no_grad():
        for name, found in fits.items():
            for core, tensor in made.banks[name].cores().items():
                tensor.copy_(torch.from_numpy(found.cores[core]))
    take_place(adapter, made)
    return made
