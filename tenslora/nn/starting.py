"""Starts from the weights of a model, which are read and decomposed, and stay as they are."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tenslora.errors import AttachError
from tenslora.nn.bank import Bank
from tenslora.nn.shards import is_sharded
from tenslora.nn.site import Site
from tenslora.nn.spans import view
from tenslora.spec import core_shape

__all__ = ["matrix_of", "start_from_weights", "weight_of"]


def start_from_weights(model: nn.Module, bank: Bank) -> None:
    """Fill the cores of a family that starts from the weights; others are left alone.

    Parameters
    ----------
    model : with the targets that the bank's sites name.
    bank : its cores drawn; those on the meta device are left alone.

    Raises
    ------
    AttachError
        E519 for a weight without values, in parts, or of another shape than the bank's, and for
        two weights that share one place.
    FamilyError
        E311 where the weights have less than a rank.
    """
    bound, held = bank.bound, bank.cores()
    if bound.family.start is None or all(core.is_meta for core in held.values()):
        return
    network, sizes = bound.network, bound.sizes
    weights = np.full(core_shape(network.target, sizes), np.nan)
    places = [tuple(place[s] for s in network.sites) for place in bank.grid.positions]
    if len(set(places)) < len(places):
        what = f"{bound.family.label} starts from the weights, and several share one matrix"
        raise AttachError("E519", what, advice="Give each target a place of its own.")
    for site, place in zip(bank.sites, places, strict=True):
        weights[place] = matrix_of(model, site, weights.shape[-2:])
    with torch.no_grad():
        for name, values in bound.filled(weights).items():
            if not held[name].is_meta:  # a loader that fills in what was trained leaves it there
                held[name].copy_(torch.from_numpy(values))


def matrix_of(model: nn.Module, site: Site, shape: tuple[int, ...]) -> np.ndarray:
    """The part of a weight that a site covers, (out, in), in float64."""
    if site.shape != tuple(shape):
        what = f"{site} is {site.shape}, and the equation's weight is {tuple(shape)}"
        raise AttachError("E519", what, advice='Leave ragged="group", which keeps shapes apart.')
    values: np.ndarray = weight_of(model, site).to("cpu", torch.float64).numpy()
    return values


def weight_of(model: nn.Module, site: Site) -> torch.Tensor:
    """The part of a weight that a site covers, (out, in).

    Raises
    ------
    AttachError
        E519 where it is no whole floating-point matrix with values.
    """
    weight = getattr(model.get_submodule(site.path), "weight", None)
    if (
        not isinstance(weight, torch.Tensor)
        or not weight.is_floating_point()
        or weight.is_meta
        or is_sharded(weight)
    ):
        what = f"the weight of {site} is no whole floating-point matrix with values"
        raise AttachError("E519", what, advice="Load the model's weights first.")
    matrix = weight.detach().mT if site.transposed else weight.detach()
    return view(view(matrix, 1, site.columns), 0, site.rows).reshape(site.shape)
