"""Ranks that fall while an adapter is trained: split, cut, go on, as MetaTT's sweeps do.

The cores of an attached adapter are cut down by :func:`tenslora.decompose.cut`, in place: the
adapter stays the object that it was. An optimiser gets the new parameters where it had the old
ones, and its state is carried over, or reset when that is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import index
from typing import Any

import torch
from torch import Tensor, nn

from tenslora.decompose import Cut, cut
from tenslora.errors import DataError, FitError
from tenslora.family import Bound
from tenslora.integrations.distributed import this_process
from tenslora.nn import Adapter
from tenslora.nn.bank import Bank
from tenslora.nn.install import renew
from tenslora.nn.lifting import build_beside
from tenslora.spec import is_count

__all__ = ["RankChange", "RankSchedule", "change_ranks"]

#: Entries of an optimiser's state that are sums of gradients, and those of squares of gradients.
_SUMS = frozenset({"exp_avg", "grad_avg", "momentum_buffer"})
_SQUARES = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum"})
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
    moved = None if optimizer is None else _moved(adapter, optimizer, swaps, state)
    renew(adapter, design, made)
    if optimizer is not None and moved is not None:
        _put(optimizer, swaps, moved)
    return _report(cuts, old, adapter, "none" if optimizer is None else state)


@dataclass
class RankSchedule:
    """Rank changes at given steps of training, for a loop of one's own or transformers' Trainer.

    Attributes
    ----------
    adapter : as for :func:`change_ranks`.
    at : the number of finished steps -> the ranks from there on.
    state : as there.
    changes : what was done so far.

    Examples
    --------
    In a loop, behind ``optimizer.step()``::

        schedule = RankSchedule(adapter, {100: 8, 200: 4})
        ...
        schedule.step(number, optimizer)

    In transformers: ``Trainer(..., callbacks=[schedule.callback()])``.
    """

    adapter: Adapter
    at: Mapping[int, Ranks]
    state: str = "carry"
    changes: list[RankChange] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number in self.at:
            if not is_count(number):
                what = f"{number!r} is no number of finished steps"
                raise FitError("E905", what, advice="Write {100: 8, 200: 4}, say.")

    def step(
        self, number: int, optimizer: torch.optim.Optimizer | None = None
    ) -> RankChange | None:
        """Change the ranks where this is a step at which they change.

        Parameters
        ----------
        number : of steps that are finished.
        optimizer : as for :func:`change_ranks`.
        """
        if number not in self.at:
            return None
        made = change_ranks(self.adapter, self.at[number], optimizer=optimizer, state=self.state)
        self.changes.append(made)
        return made

    def callback(self) -> Any:
        """Return a ``TrainerCallback`` that calls :meth:`step` at the end of each step."""
        from transformers import TrainerCallback

        schedule = self

        class RankCallback(TrainerCallback):  # type: ignore[misc]
            """Changes the ranks of an adapter while transformers' Trainer trains it."""

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                """Change the ranks where it is time."""
                schedule.step(state.global_step, kwargs.get("optimizer"))

        return RankCallback()


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


#: An old parameter, the one in its place, how it was cut, and the core's name.
_Swap = tuple[nn.Parameter, nn.Parameter, Cut, str]


def _fill(old: Bank, new: Bank, found: Cut) -> list[_Swap]:
    """Give a new bank its values; what a wrapper has of its own stays the same parameter."""
    swaps: list[_Swap] = []
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


def _moved(
    adapter: Adapter, optimizer: torch.optim.Optimizer, swaps: list[_Swap], state: str
) -> dict[nn.Parameter, dict[str, Any]]:
    """The state of each new parameter, before anything is changed."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [name for before, _, _, name in swaps if id(before) not in held]
    if missing:
        what = f"the optimizer trains no core {missing[0]!r} of adapter {adapter.name!r}"
        raise FitError("E906", what, advice="Give the one that was made of adapter.parameters().")
    found: dict[nn.Parameter, dict[str, Any]] = {}
    for before, after, cutting, name in swaps:
        known = optimizer.state.get(before, {})
        if state == "carry" and known:
            found[after] = {
                key: _carry(key, value, before, cutting, name) for key, value in known.items()
            }
    return found


def _carry(key: str, value: Any, before: nn.Parameter, cutting: Cut, name: str) -> Any:
    if not isinstance(value, Tensor) or (value.ndim == 0 and before.ndim > 0):
        return value
    if value.shape != before.shape or key not in _SUMS | _SQUARES:
        what = f"the optimizer keeps {key!r} of shape {tuple(value.shape)} for core {name!r}"
        raise FitError("E906", what, advice='That cannot be carried over: state="reset".')
    made = cutting.carried(
        name, value.detach().to("cpu", torch.float64).numpy(), squared=key in _SQUARES
    )
    return torch.from_numpy(made).to(value)


def _put(
    optimizer: torch.optim.Optimizer,
    swaps: list[_Swap],
    moved: Mapping[nn.Parameter, dict[str, Any]],
) -> None:
    """Put the new parameters and their state where the old ones are."""
    places = {id(before): after for before, after, *_ in swaps}
    for group in optimizer.param_groups:
        group["params"][:] = [places.get(id(p), p) for p in group["params"]]
    for before, *_ in swaps:
        optimizer.state.pop(before, None)
    for parameter, kept in moved.items():
        optimizer.state[parameter] = kept


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
