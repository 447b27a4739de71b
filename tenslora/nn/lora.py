"""A checkpoint of LoRA or DoRA, the folder that PEFT writes, as an adapter of ``lora``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tenslora.errors import AttachError, StateError
from tenslora.family import Bound, Family, Wrapper, family, resolve
from tenslora.nn import install
from tenslora.nn.adapter import Adapter
from tenslora.nn.attaching import build
from tenslora.nn.design import Design, Group, check_dropout, trained_modules
from tenslora.nn.grid import group_by_shape, make_grid
from tenslora.nn.lorafile import Checkpoint, read_checkpoint
from tenslora.nn.naming import Found, coordinates, take_apart
from tenslora.nn.registry import check_name, check_nesting, registry_of
from tenslora.nn.shards import put
from tenslora.nn.site import Site
from tenslora.nn.targets import Linear, Pattern, find_linears
from tenslora.spec import complete_sizes

__all__ = ["attach_lora", "load_lora", "trained_values"]

#: For weights that do not fill a grid of layers and projections.
_BY_SITE = "W[site out in] = B[site out r] A[site r in]"


def load_lora(
    model: nn.Module,
    path: str | Path,
    *,
    name: str = "default",
    dtype: torch.dtype | None = None,
    plan: Mapping[str, Any] | None = None,
    recompute: bool = False,
) -> Adapter:
    """Attach a LoRA checkpoint of PEFT as an adapter of the family ``lora``.

    The numbers are those of the file, bit for bit, and can be trained on, saved, or lifted into a
    larger family with :meth:`tenslora.Adapter.lift`. A checkpoint with ``use_dora`` becomes
    ``dora(lora)``, with the lengths of the rows as they are in the file. The scale is PEFT's
    ``lora_alpha / r``, or ``lora_alpha / sqrt(r)`` under ``use_rslora``. Where weights of one shape
    have several ranks (``rank_pattern``), the smaller are filled up with zeros; where they have
    several scales (``alpha_pattern``), the quotient to the first is multiplied into B. Modules in
    ``modules_to_save`` become modules in ``train``. Weights that are not in every layer are indexed
    by one index ``site``, those of one shape that fill a grid by ``layer`` and ``proj``.

    Parameters
    ----------
    model : the base, without adapters of PEFT.
    path : the folder, with ``adapter_config.json`` and ``adapter_model.safetensors``.
    name : of the adapter on the model.
    dtype : of the cores; by default that of the file.
    plan : for which machine, as in :func:`tenslora.attach`.
    recompute : keep next to nothing for the backward pass, as in :func:`tenslora.attach`.

    Raises
    ------
    StateError
        E620 for a checkpoint that is more than LoRA or DoRA (trained biases or tokens, a start that
        changes the base, ...), E610 to E614 for one that is broken, E615 for one of
        another model. The model is then as it was.
    AttachError
        E503 for an option that the planner does not have, E508 for a name that is taken, E514 for a
        module that another adapter trains.
    PlanError
        E411 and E412 for a plan that cannot be made.

    Examples
    --------
    >>> import tempfile, torch, tenslora as tl
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    >>> adapter = tl.attach(model, "lotr", targets="all-linear", ranks=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = adapter.export_lora(folder, pad=False, rank=2)
    ...     adapter.detach()
    ...     again = tl.load_lora(model, folder)
    >>> again
    <Adapter 'default' lora: 2 sites, 64 parameters, attached>
    >>> again.detach()
    """
    if not isinstance(model, nn.Module):
        what = f"the model is a {type(model).__name__}, no torch.nn.Module"
        raise AttachError("E503", what, advice="Load the base model first.")
    check_nesting(model)
    check_name(name, registry_of(model))
    found = read_checkpoint(Path(path))
    return attach_lora(model, found, name=name, dtype=dtype, plan=plan, recompute=recompute)


def attach_lora(
    model: nn.Module,
    found: Checkpoint,
    *,
    name: str = "default",
    dtype: torch.dtype | None = None,
    plan: Mapping[str, Any] | None = None,
    recompute: bool = False,
) -> Adapter:
    """Attach a checkpoint that was read; see :func:`load_lora`."""
    sites = _sites(model, found)
    chosen, groups = _groups(found, sites)
    train, values = trained_values(model, found.path, found.trained, found.others, sites)
    wrapper = Wrapper("dora") if found.lengths else None
    design = Design(chosen, groups, check_dropout(chosen, found.dropout), train, wrapper)
    dtype = dtype or found.dtype
    adapter = build(
        model, design, name, seed=None, dtype=dtype, real=True, plan=plan, recompute=recompute
    )
    for bank in adapter.banks.values():
        for core, value in _cores(found, bank.bound, bank.sites, bank.grid.positions).items():
            put(bank.cores()[core], value)
        if found.lengths:
            lengths = [found.lengths[site.path].to(found.dtype) for site in bank.weights]
            put(bank.tensors()["magnitude"], torch.stack(lengths))
    install.attach(adapter, values)
    return adapter


def _sites(model: nn.Module, found: Checkpoint) -> list[Site]:
    linears = find_linears(model)
    chosen: list[Linear] = []
    for path, (b, a) in found.pairs.items():
        if path not in linears:
            missing = Pattern.exact(path).unmatched(model, linears)
            what = f"{found.path} holds a LoRA of {path}, which {type(model).__name__} has not"
            raise StateError("E615", what, advice=missing.advice)
        linear = linears[path]
        linear.check()
        shape = (linear.out_features, linear.in_features)
        if (b.shape[0], a.shape[1]) != shape:
            what = f"{found.path} holds a LoRA of {path} for {b.shape[0]} x {a.shape[1]}, and it is"
            advice = "Load it on a model of the size it was made on."
            raise StateError("E615", f"{what} {shape[0]} x {shape[1]} here", advice=advice)
        chosen.append(linear)
    order = {path: n for n, path in enumerate(linears)}
    chosen.sort(key=lambda linear: order[linear.path])
    parts = [Found(linear, None, None, *take_apart(linear.path)) for linear in chosen]
    return [
        Site(
            p.linear.path,
            place,
            None,
            p.linear.out_features,
            p.linear.in_features,
            p.linear.transposed,
        )
        for p, place in zip(parts, coordinates(parts), strict=True)
    ]


def _groups(found: Checkpoint, sites: Sequence[Site]) -> tuple[Family, tuple[Group, ...]]:
    by_shape = group_by_shape(sites, "group")
    chosen = resolve("lora")
    try:
        grids = [make_grid(chosen.network, members) for members in by_shape.values()]
    except AttachError:  # some weights of some layers
        chosen = family(_BY_SITE, name="lora", init=dict(chosen.init), scale=chosen.scale)
        grids = [make_grid(chosen.network, members) for members in by_shape.values()]
    if found.root:
        chosen = family(chosen.network, name="lora", init=dict(chosen.init), scale="alpha/sqrt(r)")
    groups = []
    for (name, members), grid in zip(by_shape.items(), grids, strict=True):
        rank = max(found.pairs[site.path][0].shape[1] for site in members)
        out, width = members[0].shape
        sizes = complete_sizes(chosen.network, {**grid.sizes, "out": out, "in": width, "r": rank})
        scale = found.scales[members[0].path]
        groups.append(Group(name, members, grid, Bound(chosen, sizes, scale)))
    return chosen, tuple(groups)


def _cores(
    found: Checkpoint,
    bound: Bound,
    sites: Sequence[Site],
    positions: Sequence[Mapping[str, int]],
) -> dict[str, Tensor]:
    cores = {name: torch.zeros(shape, dtype=found.dtype) for name, shape in bound.shapes.items()}
    for site, place in zip(sites, positions, strict=True):
        b, a = found.pairs[site.path]
        at = tuple(place[index] for index in bound.network.sites)
        factor = found.scales[site.path] / bound.scale if bound.scale else 1.0
        cores["B"][at][:, : b.shape[1]] = b if factor == 1.0 else b * factor
        cores["A"][at][: a.shape[0]] = a
    return cores


def trained_values(
    model: nn.Module,
    path: Path,
    trained: Sequence[str],
    others: Mapping[str, Tensor],
    sites: Sequence[Site],
) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The modules that a folder of PEFT holds whole, and their values by full name.

    Raises
    ------
    StateError
        E612, E613, E615 where they are not those of the model.
    AttachError
        E514 as :func:`tenslora.attach` says.
    """
    modules = dict(model.named_modules())
    for place in trained:
        if place not in modules:
            what = f"{path} holds a trained module {place!r} that {type(model).__name__} has not"
            raise StateError("E615", what, advice="Load it on its class of model.")
    train = trained_modules(model, trained, sites, registry_of(model))
    wanted = install.trained_tensors(model, train)
    if wanted.keys() != others.keys():
        odd = sorted(wanted.keys() ^ others.keys())
        what = f"{path} has missing or unknown tensors {', '.join(odd[:4])}"
        raise StateError("E612", what, advice="Load it on the class of model it was made on.")
    for key, tensor in wanted.items():
        if others[key].shape != tensor.shape:
            what = f"{path}: {key} has shape {tuple(others[key].shape)}, and "
            what += f"{tuple(tensor.shape)} is due"
            raise StateError("E613", what, advice="Load it on a model with as many classes.")
    return train, dict(others)
