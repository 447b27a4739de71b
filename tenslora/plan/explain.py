"""A plan in words: for people and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenslora.plan.steps import Chain, Stage, Step

__all__ = ["explain", "stage_to_dict", "step_to_dict"]


def explain(chains: Sequence[Chain], sites: Sequence[str], varying: Sequence[str]) -> str:
    """Write the steps one a line, aligned, with FLOPs; see :func:`tenslora.plan.make_plan`.

    Parameters
    ----------
    chains : one a term.
    sites : every site index, in the target's order.
    varying : those over which x varies.
    """
    lines: list[str] = []
    stages = [stage for chain in chains for stage in chain.stages]
    hoisted = [step for stage in stages for step in stage.part.steps]
    if hoisted:
        lines.append("once a forward")
        lines += _columns([(str(step), f"{step.flops:,} FLOPs") for step in hoisted])
    lines.append("each token")
    rows = []
    for c, chain in enumerate(chains):
        for s, stage in enumerate(chain.stages):
            ends = (s == 0, s == len(chain.stages) - 1)
            places = [site for site in sites if site in stage.varies or site in varying]
            rows.append((_stage(stage, *ends, add=c > 0), _cost(stage, places)))
    return "\n".join([*lines, *_columns(rows)])


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    width = min(max(len(left) for left, _ in rows), 48)
    return [f"  {left:<{width}}  {right}" for left, right in rows]


def _stage(stage: Stage, first: bool, last: bool, *, add: bool) -> str:
    source = "x" if first else "h"
    result = "y" if last else "h"
    sign = "+=" if last and add else "="
    local = [i for i in stage.part.result.indices if i not in stage.sites]
    return (
        f"{result}[{' '.join(stage.after)}] {sign} {source}[{' '.join(stage.before)}] "
        f"{stage.part.result.name}[{' '.join(local)}]"
    )


def _cost(stage: Stage, places: Sequence[str]) -> str:
    where = f"for each {' '.join(places)}: " if places else ""
    return f"{where}{stage.flops:,} FLOPs"


def step_to_dict(step: Step) -> dict[str, Any]:
    """Return a hoisted step as plain data."""
    return {
        "result": str(step.result),
        "left": str(step.left),
        "right": str(step.right),
        "flops": step.flops,
        "bytes": step.nbytes,
    }


def stage_to_dict(stage: Stage) -> dict[str, Any]:
    """Return a stage as plain data."""
    return {
        "tensor": str(stage.part.result),
        "sites": list(stage.sites),
        "varies": sorted(stage.varies),
        "before": list(stage.before),
        "after": list(stage.after),
        "flops": stage.flops,
    }
