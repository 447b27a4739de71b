"""The table that ``adapter.summary()`` returns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from tenslora.nn.design import Group

if TYPE_CHECKING:
    from tenslora.nn.adapter import Adapter

__all__ = ["summary"]


def summary(adapter: Adapter) -> str:
    """Return the banks, their cores and the number of parameters as a table.

    The percentage is of the parameters of the base model.
    """
    from tenslora.nn.install import base_parameters

    family = adapter.family
    base = sum(p.numel() for _, p in base_parameters(adapter.model))
    trained = adapter.trainable_parameters
    lines = [f"adapter {adapter.name}: {adapter.design.label}"]
    if family.name:
        lines.append(f"  {family.equation}")
    for group in adapter.design.groups:
        lines += _group_lines(adapter, group)
    share = f", {100 * trained / base:.3g} % of the model's {base:,}" if base else ""
    lines.append(f"  trained: {trained:,} parameters{share}")
    if adapter.design.train:
        tensors = [list(adapter.model.get_submodule(p).parameters()) for p in adapter.design.train]
        number = sum(p.numel() for held in tensors for p in held)
        lines.append(f"  trained whole: {', '.join(adapter.design.train)} ({number:,} parameters)")
    return "\n".join(lines)


def _group_lines(adapter: Adapter, group: Group) -> list[str]:
    bound = group.bound
    sizes = " ".join(f"{n}={s}" for n, s in bound.sizes.items() if n not in bound.ranks)
    ranks = " ".join(f"{n}={r}" for n, r in bound.ranks.items()) or "none"
    drop = f", input dropout {adapter.design.dropout:g}" if adapter.design.dropout else ""
    lines = [
        f"  {group.name}: {len(group.sites)} sites, {_ends(group, adapter.model)}",
        f"    sizes {sizes}",
        f"    ranks {ranks}, scale {bound.scale:g}{drop}",
    ]
    rows = []
    for name, shape in bound.shapes.items():
        frozen = name in bound.family.frozen
        kind = "frozen" if frozen else "trained"
        shown = " x ".join(map(str, shape)) or "scalar"
        rows.append((str(bound.network.cores[name]), shown, f"{bound.counts[name]:,}", kind))
    for name, shape in adapter.design.own(group).items():
        shown = " x ".join(map(str, shape))
        rows.append((f"{name} of {adapter.wrapper}", shown, f"{math.prod(shape):,}", "trained"))
    return lines + ["    " + line for line in _table(rows)]


def _ends(group: Group, model: nn.Module) -> str:
    first, last = group.sites[0], group.sites[-1]
    return str(first) if first == last else f"{first} ... {last}"


def _table(rows: Sequence[tuple[str, str, str, str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        f"{core:{widths[0]}}  {shape:{widths[1]}}  {number:>{widths[2]}}  {kind}"
        for core, shape, number, kind in rows
    ]
