"""Ranks that fall while an adapter is trained: split, cut, go on, as MetaTT's sweeps do.

The cores of an attached adapter are cut down by :func:`tenslora.decompose.cut`, in place: the
adapter stays the object that it was. An optimiser gets the new parameters where it had the old
ones, and its state is carried over, or reset when that is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import index

import torch

from tenslora.decompose import Cut, cut
from tenslora.errors import DataError, FitError
from tenslora.family import Bound
from tenslora.integrations.distributed import this_process
from tenslora.integrations.optimizerstate import Swap, carried_states, put_states
from tenslora.nn import Adapter
from tenslora.nn.bank import Bank
from tenslora.nn.install import renew
from tenslora.nn.lifting import build_beside
from tenslora.spec import is_count

__all__ = ["RankChange", "Ranks", "change_ranks"]

_STATES = ("carry", "reset")

#: Ranks for every bond, for each by name, or (a float) the error that W may have.
Ranks = int | float | Mapping[str, int]


@dataclass(frozen=True)
class RankChange:
    """What :func:`change_ranks` did.

    Attributes
    ----------
    before, after : the ranks of each shape of weights, by its name.
    error : the norm of what all updates lost, over that of the updates.
    errors : the same of each shape.
    parameters : of the adapter now.
    state : what became of the optimiser's state: ``carry``, ``reset``, or ``none`` without one.

    Examples
    --------
    >>> import torch, tenslora as tl
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    >>> adapter = tl.attach(model, "W[out in] = B[out r] A[r in]", targets="0", ranks=4)
    >>> made = change_ranks(adapter, 2)
    >>> made.before, made.after, made.parameters, made.state
    ({'8x8': {'r': 4}}, {'8x8': {'r': 2}}, 32, 'none')
    """

    before: Mapping[str, Mapping[str, int]]
    after: Mapping[str, Mapping[str, int]]
    error: float
    errors: Mapping[str, float]
    parameters: int
    state: str

    def __str__(self) -> str:
        parts = []
        for name, ranks in self.after.items():
            was = self.before[name]
            fallen = [f"{b} {was[b]} -> {r}" for b, r in ranks.items() if was[b] != r]
            parts.append(f"{name}: {', '.join(fallen) or 'as it was'}")
        return (
            f"{'; '.join(parts)}; relative error {self.error:.3g}, {self.parameters:,} parameters"
        )


def change_ranks(
    adapter: Adapter,
    ranks: Ranks,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    state: str = "carry",
) -> RankChange:
    """Cut the ranks of an attached adapter down, in place, between two steps of training.

    W stays the nearest there is at the new ranks: for LoRA the SVD of each update, for Tucker HOOI,
    for a train TT-SVD and sweeps (:func:`tenslora.fit`). It is computed from the cores in float64,
    without making W. The adapter's parameters are new ones; gradients are dropped.

    Parameters
    ----------
    adapter : attached and not merged, of a family whose cores form a tree: LoRA, Tucker, a train.
    ranks : a rank that no bond is to exceed; or one for some bonds by name; or, a float between 0
        and 1, the relative error that each shape of weights may have.
    optimizer : the one that trains it. The new parameters take the places of the old ones in its
        groups, whose settings stay.
    state : ``"carry"`` turns means of gradients as the bonds were turned, and means of their
        squares by the squares of the turn (``step`` and other numbers stay); ``"reset"`` begins
        the state of the changed cores anew.

    Raises
    ------
    FitError
        E903 for a family whose cores are no tree, E905 for ranks that are above what is there or
        cannot be read, E906 for an optimiser that does not train the adapter or whose state cannot
        be carried.
    AttachError
        E510, E511 for an adapter that is not attached, or merged.
    DataError
        E715 where several processes train. In each case nothing was changed.

    Examples
    --------
    >>> import torch, tenslora as tl
    >>> from tenslora.integrations import change_ranks
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    >>> adapter = tl.attach(model, "W[out in] = B[out r] A[r in]", targets="0", ranks=4)
    >>> optimizer = torch.optim.AdamW(adapter.parameters())
    >>> print(change_ranks(adapter, 2, optimizer=optimizer))
    8x8: r 4 -> 2; relative error 0, 32 parameters
    """
    adapter._check_attached()
    adapter._check_merged(False, "Unmerge it first.")
    if this_process().count > 1:
        what = "ranks are changed in one process, and several train this model"
        raise DataError("E715", what, advice="Save the adapter, change it alone, and load it.")
    if state not in _STATES:
        what = f"state={state!r} says not what becomes of the optimiser's state"
        raise FitError("E906", what, advice=f"Choose one of {', '.join(_STATES)}.")
    cuts = {group.name: _cut(adapter.banks[group.name], ranks) for group in adapter.design.groups}
    old = adapter.banks
    design = replace(
        adapter.design,
        groups=tuple(
            replace(group, bound=_bound(group.bound, cuts[group.name]))
            for group in adapter.design.groups
        ),
    )
    made = build_beside(adapter, design).banks
    swaps = [swap for n, found in cuts.items() for swap in _fill(old[n], made[n], found)]
    moved = None if optimizer is None else carried_states(adapter, optimizer, swaps, state)
    renew(adapter, design, made)
    if optimizer is not None and moved is not None:
        put_states(optimizer, swaps, moved)
    return _report(cuts, old, adapter, "none" if optimizer is None else state)


def _cut(bank: Bank, ranks: Ranks) -> Cut:
    cores = {
        name: core.detach().to("cpu", torch.float64).numpy() for name, core in bank.cores().items()
    }
    if isinstance(ranks, float):
        return cut(bank.bound, cores, tolerance=ranks)
    if isinstance(ranks, Mapping):
        return cut(bank.bound, cores, ranks)
    if not is_count(ranks):
        what = f"ranks={ranks!r} are neither ranks nor an error"
        raise FitError("E905", what, advice="Give 4, {'r': 4}, or an error such as 0.01.")
    most = index(ranks)
    return cut(bank.bound, cores, {b: min(n, most) for b, n in bank.bound.ranks.items()})


def _bound(bound: Bound, found: Cut) -> Bound:
    """The bound of the new ranks, with the scale that was there."""
    return Bound(bound.family, {**bound.sizes, **found.ranks}, bound.scale)


def _fill(old: Bank, new: Bank, found: Cut) -> list[Swap]:
    """Give a new bank its values; what a wrapper has of its own stays the same parameter."""
    swaps: list[Swap] = []
    for name, before in old.named_parameters():
        if name not in found.cores:
            new.register_parameter(name, before)
            continue
        after = new.get_parameter(name)
        with torch.no_grad():
            after.copy_(torch.from_numpy(found.cores[name]))
        after.requires_grad_(before.requires_grad)
        swaps.append((before, after, found, name))
    return swaps


def _report(
    cuts: Mapping[str, Cut], old: Mapping[str, Bank], adapter: Adapter, state: str
) -> RankChange:
    errors = {name: found.error for name, found in cuts.items()}
    norms = {name: old[name].bound.scale * found.norm for name, found in cuts.items()}
    lost = sum((errors[name] * norm) ** 2 for name, norm in norms.items())
    total = sum(norm**2 for norm in norms.values())
    return RankChange(
        {name: dict(bank.bound.ranks) for name, bank in old.items()},
        {name: dict(found.ranks) for name, found in cuts.items()},
        math.sqrt(lost / total) if total else 0.0,
        errors,
        adapter.trainable_parameters,
        state,
    )
