"""``fit_stack`` and ``fit_models``: adapters of what was found without one.

A stack of updates, or the difference between a model and a fine-tuned one, as an adapter that is
saved and loaded like any other.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from tenslora.decompose.checking import check_target
from tenslora.errors import AttachError, FitError, StateError
from tenslora.family import Family, resolve
from tenslora.integrations.compressed import Compressed
from tenslora.integrations.compressing import choose_budget, fit_sites
from tenslora.nn import Site, install
from tenslora.nn.design import trained_modules
from tenslora.nn.registry import check_name, check_nesting, registry_of
from tenslora.nn.sites import find_sites, resolve_sites, sites_in
from tenslora.nn.standin import stand_in
from tenslora.nn.starting import matrix_of

__all__ = ["fit_models", "fit_stack", "read_stack"]

Array = NDArray[np.float64]


def read_stack(path: str | Path) -> Array | dict[str, Array]:
    """Read updates: one array of a ``.npy`` file, or the tensors of a ``.safetensors`` file.

    Returns
    -------
    array or dict
        A dict by module where the file holds matrices by name; ``.weight`` at their end is left
        out. One tensor with more axes is a stack.

    Raises
    ------
    StateError
        E610 for a file that is missing, broken, or of another kind; E613 for tensors that are
        neither one stack nor matrices.
    """
    place = Path(path)
    if not place.is_file():
        raise StateError("E610", f"there is no file {place}", advice="Give a .npy or .safetensors.")
    if place.suffix == ".npy":
        try:
            return np.asarray(np.load(place, allow_pickle=False))
        except (ValueError, EOFError, OSError) as error:
            what = f"{place} is no whole .npy file of numbers: {error}"
            raise StateError("E610", what, advice="Write it with numpy.save.") from None
    if place.suffix != ".safetensors":
        what = f"{place} is neither a .npy nor a .safetensors file"
        raise StateError("E610", what, advice="Write it with numpy.save, or safetensors.")
    tensors = _tensors(place)
    if len(tensors) == 1 and next(iter(tensors.values())).ndim != 2:
        return next(iter(tensors.values()))
    odd = next((name for name, array in tensors.items() if array.ndim != 2), None)
    if odd is not None or not tensors:
        what = f"{place} holds {odd or 'nothing'}, which is no matrix, beside other tensors"
        advice = "Give one stack (*sites, out, in), or one matrix (out, in) for each module."
        raise StateError("E613", what if tensors else f"{place} is empty", advice=advice)
    return {name.removesuffix(".weight"): array for name, array in tensors.items()}


def _tensors(place: Path) -> dict[str, Array]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(place), framework="pt", device="cpu") as file:
            return {n: file.get_tensor(n).double().numpy() for n in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        what = f"{place} is no whole safetensors file: {error}"
        raise StateError("E610", what, advice="Copy or save it again.") from None


def fit_stack(
    updates: ArrayLike | Mapping[str, ArrayLike],
    family: str | Family,
    *,
    ranks: int | Mapping[str, int] | None = None,
    params: int | None = None,
    like: str | Family | None = None,
    energy: float | None = None,
    sizes: Mapping[str, int] | None = None,
    tolerance: float | None = None,
    paths: str | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
) -> Compressed:
    r"""Fit an adapter to updates that are there as arrays.

    Parameters
    ----------
    updates : a stack (\*sites, out, in) in the order of the equation's sites, or a matrix (out,
        in) for each module by its path.
    family, ranks, params, like, energy, sizes, tolerance : as for
        :func:`tenslora.integrations.compress`.
    paths : of a stack: the path of each module, such as ``"encoder.layer.{layer}.{proj}"`` with the
        sites of the equation; by default ``"layer.{layer}.proj.{proj}"``.
    labels : of a stack: what stands for 0, 1, ... of a site: ``{"proj": ["query", "key"]}``.

    Returns
    -------
    Compressed
        Its adapter stands on a model of names and shapes alone; save it, and load it on the model.

    Raises
    ------
    FitError
        E901 for axes that are not those of the equation, E902 for what is not finite, and what
        :func:`tenslora.fit` raises.
    AttachError
        E503 for paths or labels that do not tell the modules apart.

    Examples
    --------
    >>> import numpy as np
    >>> stack = np.einsum("l,o,i->loi", [1.0, 2.0], np.ones(4), np.arange(3))
    >>> found = fit_stack(stack, "W[layer out in] = B[out r] D[layer r] A[r in]", ranks=1)
    >>> found.error < 1e-12, [site.path for site in found.adapter.sites]
    (True, ['layer.0', 'layer.1'])
    """
    chosen = resolve(family, any_start=True)
    budget = choose_budget(ranks, params, like, energy, tolerance)
    if isinstance(updates, Mapping):
        arrays = {path: _matrix(path, value) for path, value in updates.items()}
        model = stand_in({path: array.shape for path, array in arrays.items()})
        sites = sites_in(model, dict.fromkeys(arrays), modes=chosen.network.sites)
        found = {site: arrays[site.path] for site in sites}
    else:
        array = check_target(updates)
        places = _places(chosen, array, paths, labels or {})
        shape = array.shape[-2], array.shape[-1]
        model = stand_in(dict.fromkeys((site.path for site in places), shape))
        flat = array.reshape(-1, *shape)
        found = dict(zip(resolve_sites(model, places), flat, strict=True))
    made, tally = fit_sites(
        model, chosen, found, "default", budget=budget, energy=energy, sizes=sizes,
        tolerance=tolerance,
    )  # fmt: skip
    install.attach(made)
    return tally.compressed(made, None)


def _matrix(path: str, value: ArrayLike) -> Array:
    array = check_target(value, f"the update of {path}")
    if array.ndim != 2 or 0 in array.shape:
        what = f"the update of {path} has shape {array.shape}"
        raise FitError("E901", what, advice="One matrix (out, in) for each module.")
    return array


def _places(
    family: Family, array: Array, paths: str | None, labels: Mapping[str, Sequence[str]]
) -> list[Site]:
    """The module of each update of a stack, in C order."""
    sites = family.network.sites
    if array.ndim != len(sites) + 2 or 0 in array.shape:
        what = f"the stack has {array.ndim} axes {array.shape}, and {family.network} has "
        what += f"[{' '.join([*sites, 'out', 'in'])}]"
        raise FitError("E901", what, advice="Give one axis for each site, then out and in.")
    names: list[list[int | str]] = []
    for site, count in zip(sites, array.shape, strict=False):
        given: list[int | str] = [*labels.get(site, range(count))]
        if len(given) != count:
            what = f"labels names {len(given)} of {site}, and the stack has {count}"
            raise AttachError("E503", what, advice="Give one for each.")
        names.append(given)
    template = ".".join(f"{site}.{{{site}}}" for site in sites) if paths is None else paths
    found = []
    for at in itertools.product(*names):
        path = template or "weight"
        for site, label in zip(sites, at, strict=True):
            path = path.replace(f"{{{site}}}", str(label))
        found.append(Site(path, dict(zip(sites, at, strict=True))))
    if len({site.path for site in found}) < len(found) or not all(
        word.isidentifier() or word.isdecimal() for site in found for word in site.path.split(".")
    ):
        listed = " and ".join(f"{{{site}}}" for site in sites)
        what = f"paths={template!r} does not name {len(found)} modules, such as {found[0].path!r}"
        raise AttachError("E503", what, advice=f"Write a path with {listed or 'no braces'}.")
    return found


def fit_models(
    base: nn.Module,
    tuned: nn.Module,
    family: str | Family,
    *,
    targets: str | Sequence[str],
    ranks: int | Mapping[str, int] | None = None,
    params: int | None = None,
    like: str | Family | None = None,
    energy: float | None = None,
    sizes: Mapping[str, int] | None = None,
    tolerance: float | None = None,
    train: str | Sequence[str] = (),
    name: str = "default",
) -> Compressed:
    """Attach to a model an adapter of the difference between its weights and fine-tuned ones.

    Parameters
    ----------
    base, tuned : two models of one shape. The adapter is attached to the first; both keep their
        weights.
    family, ranks, params, like, energy, sizes, tolerance : as for
        :func:`tenslora.integrations.compress`.
    targets, train, name : as for :func:`tenslora.attach`; modules in ``train`` get the values of
        ``tuned``. What else was changed is left out, and its share said in ``covered``.

    Raises
    ------
    AttachError
        E503 for models whose parameters differ in name or shape, and what :func:`tenslora.attach`
        raises: the model is then as before.
    FitError
        As :func:`tenslora.fit`.

    Examples
    --------
    >>> import copy, torch, tenslora as tl
    >>> base = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Linear(6, 6))
    >>> tuned = copy.deepcopy(base)
    >>> with torch.no_grad():
    ...     _ = tuned[0].weight.add_(torch.ones(6, 6))
    >>> found = fit_models(base, tuned, "lora", targets="all-linear", ranks=1)
    >>> found.error < 1e-6, round(found.covered, 6)
    (True, 1.0)
    """
    check_nesting(base)
    check_name(name, registry_of(base))
    changed = _changes(base, tuned)
    chosen = resolve(family)
    budget = choose_budget(ranks, params, like, energy, tolerance)
    sites = find_sites(base, targets, modes=chosen.network.sites)
    whole = trained_modules(base, train, sites, registry_of(base))
    values = {
        key: tensor.detach().clone()
        for key, tensor in install.trained_tensors(tuned, whole).items()
    }
    arrays = {s: matrix_of(tuned, s, s.shape) - matrix_of(base, s, s.shape) for s in sites}
    made, tally = fit_sites(
        base, chosen, arrays, name, budget=budget, energy=energy, sizes=sizes,
        tolerance=tolerance, train=whole,
    )  # fmt: skip
    install.attach(made, values)
    total = sum(changed.values()) - sum(changed.get(key, 0.0) for key in values)
    return tally.compressed(made, None, tally.total / total if total else 1.0)


def _changes(base: nn.Module, tuned: nn.Module) -> dict[str, float]:
    """The squared norm of what was changed in each parameter."""
    first, second = (dict(install.base_parameters(model)) for model in (base, tuned))
    for key in (*first, *second):
        shapes = [tuple(held[key].shape) if key in held else None for held in (first, second)]
        if shapes[0] != shapes[1]:
            said = " and ".join("not there" if s is None else str(s) for s in shapes)
            what = f"the two models differ in {key}: {said}"
            raise AttachError("E503", what, advice="Give a model and one that was trained from it.")
    return {key: _distance(first[key], second[key]) for key in first}


def _distance(one: Tensor, other: Tensor) -> float:
    if not one.is_floating_point() or one.is_meta or other.is_meta:
        return 0.0
    with torch.no_grad():
        difference = other.to("cpu", torch.float64) - one.to("cpu", torch.float64)
        return float((difference**2).sum())
