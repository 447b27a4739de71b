"""``compress``: a trained adapter, or a LoRA checkpoint, as a smaller adapter of another family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tenslora.decompose import Fit, fit
from tenslora.family import Family
from tenslora.integrations.updates import read_lora
from tenslora.nn import Adapter, Site, attach
from tenslora.nn.bank import Bank
from tenslora.nn.design import Group

__all__ = ["Compressed", "compress"]


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
    """Fit the cores of one bank, and put them there. Weights of one place are tied: their mean."""
    bound = group.bound
    shape = [bound.sizes[site] for site in bound.network.sites]
    target = np.zeros([*shape, *arrays[0].shape])
    count = np.zeros(shape)
    for array, place in zip(arrays, group.grid.positions, strict=True):
        at = tuple(place[s] for s in bound.network.sites)
        target[at] += array
        count[at] += 1
    target /= count[..., None, None]
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
