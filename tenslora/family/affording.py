"""What every family makes of one budget on one model: ranks, parameters, cost, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenslora.errors import SizeError, TensloraError
from tenslora.family.bound import Bound
from tenslora.family.budgeting import ranks
from tenslora.family.columns import columns, reasons
from tenslora.family.family import Family
from tenslora.family.memory import saved_beside
from tenslora.family.modelshape import ModelShape, Weights, model_shape
from tenslora.family.registry import registered, resolve

__all__ = ["Affordable", "BudgetTable", "budget_table"]


_HEAD = ("family", "parameters", "in|out", "FLOPs/token", "checkpoint", "saved/token", "ranks")


@dataclass(frozen=True)
class Affordable:
    """A family on a model at a budget: one :class:`~tenslora.family.Bound` for each shape.

    Examples
    --------
    >>> (lora,) = budget_table("roberta-base", ["lora"], like="lora:4").rows
    >>> lora.parameters, lora.cut_rank, lora.checkpoint_bytes
    (221184, 4, 884736)
    >>> [bound.ranks for bound in lora.bounds]
    [{'r': 4}]
    """

    name: str
    bounds: tuple[Bound, ...]
    weights: tuple[Weights, ...]

    @property
    def parameters(self) -> int:
        """Trained parameters."""
        return sum(bound.trainable_parameters for bound in self.bounds)

    @property
    def cut_rank(self) -> int:
        """The largest rank that the update of a weight can have."""
        return max(bound.cut_rank for bound in self.bounds)

    @property
    def flops_per_token(self) -> int:
        """FLOPs of a token through all weights, forward."""
        return sum(bound.flops_per_token for bound in self.bounds)

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of all cores in float32, the frozen ones too."""
        return sum(bound.nbytes for bound in self.bounds)

    @property
    def saved_per_token(self) -> int:
        """Numbers that a forward keeps of a token for its backward, the inputs included."""
        pairs = zip(self.bounds, self.weights, strict=True)
        return saved_beside((bound, group.inputs_of(bound.network)) for bound, group in pairs)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return {
            "family": self.name,
            "equation": self.bounds[0].family.equation,
            "ranks": [bound.ranks for bound in self.bounds],
            "parameters": self.parameters,
            "frozen_parameters": sum(bound.frozen_parameters for bound in self.bounds),
            "cut_rank": self.cut_rank,
            "flops_per_token": self.flops_per_token,
            "checkpoint_bytes": self.checkpoint_bytes,
            "saved_per_token": self.saved_per_token,
        }


@dataclass(frozen=True, repr=False)
class BudgetTable:
    """What :func:`budget_table` returns; its text is a table.

    Attributes
    ----------
    model : the weights.
    budget : how ranks were chosen, as said.
    rows : the families that fit.
    left_out : the reason for each that does not.

    Examples
    --------
    >>> table = budget_table("roberta-base", ["lora", "W[out in] = T[out in]"], like="lora:4")
    >>> [(row.name, row.parameters) for row in table.rows]
    [('lora', 221184)]
    >>> table.left_out
    {'W[out in] = T[out in]': 'it has no ranks to choose'}
    """

    model: ModelShape
    budget: Mapping[str, Any]
    rows: tuple[Affordable, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        weights = [
            {
                "projections": list(group.projections),
                "layers": group.layers,
                "out": group.out,
                "in": group.inputs,
                "heads": group.heads,
            }
            for group in self.model.weights
        ]
        budget = {k: _said(v) if isinstance(v, Family) else v for k, v in self.budget.items()}
        return {
            "model": self.model.name,
            "weights": weights,
            "budget": budget,
            "families": [row.to_dict() for row in self.rows],
            "left_out": dict(self.left_out),
        }

    def __repr__(self) -> str:
        rows = [_HEAD, *map(_line, self.rows)]
        return "\n".join([*columns(rows, words_last=True), *reasons(self.left_out)])


def _said(family: Family) -> str:
    ranks = ",".join(f"{bond}={rank}" for bond, rank in family.ranks.items())
    return f"{family.label}:{ranks}"


def _line(row: Affordable) -> tuple[str, ...]:
    chosen = [" ".join(f"{b}={r}" for b, r in bound.ranks.items()) for bound in row.bounds]
    return (
        row.name,
        f"{row.parameters:,}",
        str(row.cut_rank),
        f"{row.flops_per_token:,}",
        f"{row.checkpoint_bytes / 1024:,.0f} kB",
        f"{row.saved_per_token:,}",
        " | ".join(dict.fromkeys(chosen)) or "none",
    )


def budget_table(
    model: ModelShape | str | Path | Mapping[str, Any],
    families: Iterable[str | Family] | None = None,
    *,
    params: int | None = None,
    like: str | Family | None = None,
    bytes: int | None = None,  # noqa: A002 - as in ranks
    rank: int | None = None,
    sizes: Mapping[str, int] | None = None,
    **limits: Any,
) -> BudgetTable:
    """Give every family the same budget on the weights of a model.

    Parameters
    ----------
    model : from :func:`tenslora.model_shape`, or what that reads.
    families : by default every registered one.
    params, like, bytes, limits : as in :func:`tenslora.ranks`; a number is for the whole model,
        shared out by the sizes of the weights.
    rank : the same rank for every bond instead.
    sizes : sizes of indices that the model does not tell, such as ``{"o1": 16}``; only families
        with these indices look at them.

    Returns
    -------
    BudgetTable
        With the families that cannot be bound to these weights, and why.

    Raises
    ------
    SizeError
        E208 for several budgets or none, E213 for a model that cannot be read.

    Examples
    --------
    >>> budget_table("roberta-base", ["lora", "tenslora.qkv_depth"], like="lora:4")
    family              parameters  in|out  FLOPs/token  checkpoint  saved/token  ranks
    lora                   221,184       4      442,368      864 kB        9,360  r=4
    tenslora.qkv_depth     221,013      55    4,055,040      863 kB        9,876  a=55 b=65 c=3 d=12
    """
    shape = model if isinstance(model, ModelShape) else model_shape(model)
    given = {"params": params, "like": like, "bytes": bytes, "rank": rank}
    budget = {name: value for name, value in given.items() if value is not None}
    if len(budget) > 1:
        what = f"{' and '.join(f'{name}=' for name in budget)} are both given"
        raise SizeError("E208", what, advice="Give one budget.")
    if not budget and not limits.get("compression"):
        advice = "Give params=, like=, bytes=, rank= or compression=."
        raise SizeError("E208", "no budget is given", advice=advice)
    chosen = registered().values() if families is None else map(resolve, families)
    found = {f.label: _afford(f, shape, budget, sizes or {}, limits) for f in chosen}
    rows = tuple(row for row in found.values() if isinstance(row, Affordable))
    reasons = {name: row for name, row in found.items() if isinstance(row, str)}
    return BudgetTable(shape, {**budget, **limits}, rows, reasons)


def _afford(
    family: Family,
    shape: ModelShape,
    budget: Mapping[str, Any],
    sizes: Mapping[str, int],
    limits: Mapping[str, Any],
) -> Affordable | str:
    """Return the row of one family, or the reason why there is none."""
    try:
        bounds = [
            _bind(family, group, _share(shape, group, budget), sizes, limits)
            for group in shape.weights
        ]
    except TensloraError as error:
        return error.what + (_cut_by_itself(family, shape, sizes) if error.code == "E207" else "")
    return Affordable(family.label, tuple(bounds), shape.weights)


def _cut_by_itself(family: Family, shape: ModelShape, sizes: Mapping[str, int]) -> str:
    """How groups of features were cut where nothing was said: in other parts less may do."""
    network, (first, *_) = family.network, shape.weights
    slots = [slot for slot in (network.output, network.input) if len(slot) > 1]
    parts = {i for slot in slots for i in slot} - {"head", "head_dim", *sizes}
    cut = {i: n for i, n in first.sizes(network).items() if i in parts}
    if not cut:
        return ""
    return f" (at {' '.join(f'{i}={n}' for i, n in cut.items())}; others may take fewer)"


def _share(shape: ModelShape, group: Weights, budget: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of the budget that goes to one shape."""
    whole = sum(g.count * (g.out + g.inputs) for g in shape.weights)
    mine = group.count * (group.out + group.inputs)
    return {k: v * mine // whole if k in ("params", "bytes") else v for k, v in budget.items()}


def _bind(
    family: Family,
    group: Weights,
    budget: Mapping[str, Any],
    sizes: Mapping[str, int],
    limits: Mapping[str, Any],
) -> Bound:
    network = family.network
    known = group.sizes(network)
    mine = {i: n for i, n in sizes.items() if i in network.target.indices}
    known = {**known, **_completed(network.output, group.out, known, mine)}
    known = {**known, **_completed(network.input, group.inputs, known, mine)}
    if "rank" in budget:
        return family.bind(known, ranks=budget["rank"])
    if not family.bonds:
        raise SizeError("E207", "it has no ranks to choose", advice="Bind it as it is.")
    return family.bind(known, ranks=ranks(family, known, **budget, **limits))


def _completed(
    slot: tuple[str, ...], total: int, known: Mapping[str, int], given: Mapping[str, int]
) -> dict[str, int]:
    """Take the caller's sizes of a group, and let the last other index follow."""
    mine = {name: given[name] for name in slot if name in given}
    rest = [name for name in slot if name not in mine]
    if not mine or not rest:
        return mine
    product = total
    for name, size in (*mine.items(), *((n, known[n]) for n in rest[:-1])):
        if product % size:
            what = f"{name}={size} does not divide the {total} features"
            raise SizeError("E205", what, advice="Give sizes whose product is the features.")
        product //= size
    return {**mine, rest[-1]: product}
