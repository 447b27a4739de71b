"""``compress``: a trained adapter, or a file of one, as a smaller adapter of another family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tenslora.decompose import Fit, fit, keep_energy
from tenslora.errors import AttachError, FitError, SizeError
from tenslora.family import Bound, Family, Scale, resolve
from tenslora.integrations.compressed import Compressed, Tally
from tenslora.integrations.updates import deltas
from tenslora.nn import Adapter, Site, install
from tenslora.nn.attaching import build
from tenslora.nn.bank import Bank
from tenslora.nn.design import Budget, Design, Group, make_groups
from tenslora.nn.lifting import build_beside, take_place
from tenslora.nn.lora import load_lora
from tenslora.nn.registry import check_name, check_nesting, registry_of
from tenslora.nn.standin import adapter_file, load_alone
from tenslora.nn.state import load
from tenslora.nn.tunerfile import attach_tuned, is_tuned, read_tuner

__all__ = ["choose_budget", "compress", "fit_sites", "recompress"]

Arrays = Mapping[Site, NDArray[np.float64]]

_ROUNDING = 1e-7


def compress(
    model: nn.Module | None,
    source: Adapter | str | Path,
    family: str | Family,
    *,
    ranks: int | Mapping[str, int] | None = None,
    params: int | None = None,
    like: str | Family | None = None,
    energy: float | None = None,
    sizes: Mapping[str, int] | None = None,
    tolerance: float | None = None,
    name: str = "compressed",
) -> Compressed:
    """Attach an adapter of another family whose update is as close to a trained one as it can be.

    Parameters
    ----------
    model : the base that the source belongs to; ``None`` for a file without its base, which gives
        an adapter that can be saved and looked at. A source that is attached to the model stays so,
        inactive; of a file the modules that were trained whole come along.
    source : an adapter; a file of :meth:`tenslora.Adapter.save` or the folder of a run; or the
        folder of PEFT of a LoRA or of an adapter of :class:`tenslora.TensLoraConfig`.
    family, ranks, params, like, sizes, name : as for :func:`tenslora.attach`.
    energy : choose the fewest parameters that keep this part of the squared norm of the updates
        (:func:`tenslora.decompose.keep_energy`), instead of ``ranks``, ``params`` and ``like``.
    tolerance : the relative error that is wanted of each shape; a worse fit is an error.

    Raises
    ------
    TensloraError
        What :func:`tenslora.attach`, :func:`tenslora.load` and :func:`tenslora.fit` raise: the
        model is then as before. E902 for an update that is not finite, E208 for an energy beside
        ranks or a budget.

    Examples
    --------
    >>> import tempfile, torch, tenslora as tl
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    >>> adapter = tl.attach(model, "lotr", targets="all-linear", ranks=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     adapter.save(f"{folder}/a.safetensors")
    ...     found = compress(None, f"{folder}/a.safetensors", "lora", ranks=2)
    >>> found.parameters, found.before
    (64, 40)
    """
    if model is not None:
        check_nesting(model)
        check_name(name, registry_of(model))
    budget = choose_budget(ranks, params, like, energy, tolerance)
    if isinstance(source, Adapter):
        if model is not source.model:
            what = f"adapter {source.name!r} is not on the model that is given"
            raise AttachError("E510", what, advice="Give the model that it is attached to.")
        arrays = dict(deltas(source))
        made, tally = fit_sites(
            model, family, arrays, name, budget=budget, energy=energy, sizes=sizes,
            tolerance=tolerance, dropout=source.design.dropout,
        )  # fmt: skip
        install.attach(made)
        return tally.compressed(made, source.trainable_parameters)
    registry = None if model is None else registry_of(model)
    active = frozenset() if registry is None else registry.default_active
    held = load_alone(source) if model is None else _load(model, Path(source), name)
    try:
        made, tally = fit_sites(
            held.model, family, dict(deltas(held)), name, budget=budget, energy=energy,
            sizes=sizes, tolerance=tolerance, dropout=held.design.dropout, train=held.design.train,
        )  # fmt: skip
        take_place(held, made)
    except BaseException:
        held.detach()
        if registry is not None and registry.entries:
            registry.set_active(active)
        raise
    return tally.compressed(made, held.trainable_parameters)


def _load(model: nn.Module, place: Path, name: str) -> Adapter:
    file = adapter_file(place)
    if file is not None:
        return load(model, file, name=name)
    if is_tuned(place):
        return attach_tuned(model, read_tuner(place), name=name)
    return load_lora(model, place, name=name)


def choose_budget(
    ranks: int | Mapping[str, int] | None,
    params: int | None,
    like: str | Family | None,
    energy: float | None,
    tolerance: float | None,
) -> Budget:
    """Return how ranks are chosen; an energy chooses them later, and stands alone (E208)."""
    if energy is None:
        return Budget(ranks, None if like is None else resolve(like), params)
    given = {"ranks": ranks, "params": params, "like": like, "tolerance": tolerance}
    for word, value in given.items():
        if value is not None:
            what = f"energy={energy!r} and {word}={value!r} are both given"
            raise SizeError("E208", what, advice="Give one of them.")
    return Budget(ranks=1)


def fit_sites(
    model: nn.Module,
    family: str | Family,
    arrays: Arrays,
    name: str,
    *,
    budget: Budget,
    energy: float | None = None,
    sizes: Mapping[str, int] | None = None,
    tolerance: float | None = None,
    dropout: float = 0.0,
    train: Sequence[str] = (),
) -> tuple[Adapter, Tally]:
    """Make an adapter, beside the model, that comes closest to the updates of its sites.

    Raises
    ------
    TensloraError
        As :func:`compress`.
    """
    for site, array in arrays.items():
        if not np.isfinite(array).all():
            what = f"the update of {site} is not finite"
            raise FitError("E902", what, advice="Training diverged: there is nothing to fit.")
    chosen = resolve(family)
    groups = make_groups(
        model, chosen, list(arrays), sizes=sizes or {}, budget=budget, ragged="group"
    )
    tally = Tally()
    if energy is not None:
        kept = [_keep(group, arrays, energy) for group in groups]
        groups = tuple(replace(g, bound=one.bound) for g, one in zip(groups, kept, strict=True))
        tally.fits = {group.name: one for group, one in zip(groups, kept, strict=True)}
    design = Design(chosen, groups, dropout, tuple(train))
    made = build(model, design, name, seed=0, real=True)
    for group in groups:
        found = tally.fits.get(group.name) or _fit(made.banks[group.name], group, arrays, tolerance)
        _put(made.banks[group.name], found)
        tally.add(group, found, arrays)
    return made, tally


def _keep(group: Group, arrays: Arrays, energy: float) -> Fit:
    bound = group.bound
    sizes = {i: n for i, n in bound.sizes.items() if i not in bound.ranks}
    try:
        return keep_energy(bound.family, _target(group, arrays), energy, sizes=sizes)
    except FitError as error:
        if error.code == "E904":
            error.advice = "Give ranks= or params= instead of energy=, or take another family."
        raise


def _fit(bank: Bank, group: Group, arrays: Arrays, tolerance: float | None) -> Fit:
    """Fit the cores of one bank, whose frozen cores stay."""
    bound = group.bound
    sizes = {i: n for i, n in bound.sizes.items() if i not in bound.ranks}
    held = {n: t.detach().double().cpu().numpy() for n, t in bank.cores().items()}
    fixed = {name: held[name] for name in bound.family.frozen}
    return fit(
        bound.family, _target(group, arrays), bound.ranks, sizes=sizes, cores=fixed,
        tolerance=tolerance,
    )  # fmt: skip


def _put(bank: Bank, found: Fit) -> None:
    with torch.no_grad():
        for core, tensor in bank.cores().items():
            tensor.copy_(torch.from_numpy(found.cores[core]))


def _target(group: Group, arrays: Arrays) -> NDArray[np.float64]:
    """Stack updates at the places of their sites; those of one place are tied, and give a mean."""
    sites = group.bound.network.sites
    shape = [group.bound.sizes[site] for site in sites]
    target, count = np.zeros([*shape, *group.sites[0].shape]), np.zeros(shape)
    for site, place in zip(group.sites, group.grid.positions, strict=True):
        at = tuple(place[s] for s in sites)
        target[at] += arrays[site]
        count[at] += 1
    return np.asarray(target / count[..., None, None])


def recompress(source: Adapter | str | Path, tolerance: float) -> Compressed:
    """Replace a trained adapter by one of the same family at the lowest ranks that keep its update.

    The ranks are those of the adapter's own spectra (:func:`tenslora.decompose.keep_energy`), and
    the cores come orthogonal but for one, the gauge in which bonds can be cut best. Where there are
    no spectra, as in CP, lower ranks are searched for. Sites, scale, dropout, modules in ``train``
    and the name stay. The parameters are new, and so has to be the
    optimiser: nothing of its state is carried over.

    Parameters
    ----------
    source : attached and not merged; it is detached. Or a file, as for :func:`compress`.
    tolerance : the relative error that each shape of weights may have.

    Raises
    ------
    FitError
        E903 for a family with frozen cores, E904 where a search finds no lower ranks, E905 for a
        tolerance outside [1e-7, 1), E902 for an update that is not finite; the model is as it was.
    AttachError
        E510, E511 for an adapter that is not attached, or merged; E520 for one in a wrapper.
    StateError
        As :func:`tenslora.load` and :func:`tenslora.load_lora` say, for a file.

    Examples
    --------
    >>> import torch, tenslora as tl
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    >>> adapter = tl.attach(model, "lora", targets="all-linear", ranks=4)
    >>> with torch.no_grad():  # an update of rank 1
    ...     _ = [core.fill_(1.0) for core in adapter.parameters()]
    >>> found = recompress(adapter, tolerance=0.01)
    >>> found.before, found.parameters, found.adapter.bounds["8x8"].ranks
    (128, 32, {'r': 1})
    """
    good = isinstance(tolerance, (int, float)) and not isinstance(tolerance, bool)
    if not good or not _ROUNDING <= tolerance < 1.0:
        what = f"tolerance={tolerance!r} is out of range"
        advice = f"Give a part from {_ROUNDING:g}, the rounding of cores, to 1, such as 0.01."
        raise FitError("E905", what, advice=advice)
    adapter = source if isinstance(source, Adapter) else load_alone(source)
    adapter._check_attached()
    adapter._check_merged(False, "Unmerge it first.")
    groups, tally, arrays = [], Tally(), dict(deltas(adapter))
    for group in adapter.design.groups:
        bound = group.bound
        found = _lower(bound, _target(group, arrays), tolerance)
        kept = replace(group, bound=Bound(bound.family, found.bound.sizes, bound.scale))
        groups.append(kept)
        tally.add(kept, replace(found, bound=kept.bound), arrays)
    made = _built(adapter, groups, tally.fits)
    return tally.compressed(made, adapter.trainable_parameters)


def _lower(bound: Bound, target: NDArray[np.float64], tolerance: float) -> Fit:
    """Fit a family to its own update at the lowest ranks, for scale 1."""
    family = bound.family
    if family.frozen:
        what = f"the frozen cores of {family.label} belong to its ranks: they cannot be lowered"
        raise FitError("E903", what, advice="Compress it to a family without frozen cores.")
    sizes = {i: n for i, n in bound.sizes.items() if i not in bound.ranks}
    unit = replace(family, scale=Scale("constant"))
    energy, most = 1.0 - tolerance**2, bound.trainable_parameters
    try:
        return keep_energy(unit, target / bound.scale, energy, sizes=sizes, most=most)
    except FitError as error:
        if error.code != "E904":
            raise
        what = f"no lower ranks of {family.label} were found that keep its update within "
        advice = "Raise the tolerance, or leave it as it is."
        raise FitError("E904", f"{what}{tolerance:g}", advice=advice) from None


def _built(adapter: Adapter, groups: Sequence[Group], fits: Mapping[str, Fit]) -> Adapter:
    """Make the adapter of these groups with the cores of the fits, in the place of the other."""
    made = build_beside(adapter, replace(adapter.design, groups=tuple(groups)))
    for name, found in fits.items():
        _put(made.banks[name], found)
    take_place(adapter, made)
    return made
