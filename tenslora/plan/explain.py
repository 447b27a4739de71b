"""A plan in words: for people and as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenslora.plan.steps import Stage, Step

if TYPE_CHECKING:
    from tenslora.plan.program import Plan

__all__ = ["explain", "to_dict"]


def explain(plan: Plan) -> str:
    """Write the steps one a line, aligned, with FLOPs; see :func:`tenslora.plan.make_plan`."""
    lines: list[str] = []
    if plan.hoisted:
        lines.append("once a forward")
        lines += _columns([_hoisted(step) for step in plan.hoisted])
    lines.append("each token")
    rows = [
        _stage(plan, stage, first=s == 0, last=s == len(chain.stages) - 1, add=c > 0)
        for c, chain in enumerate(plan.chains)
        for s, stage in enumerate(chain.stages)
    ]
    return "\n".join([*lines, *_columns(rows)])


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    width = min(max(len(left) for left, _ in rows), 48)
    return [f"  {left:<{width}}  {right}" for left, right in rows]


def _hoisted(step: Step) -> tuple[str, str]:
    return str(step), f"{step.flops:,} FLOPs"


def _stage(plan: Plan, stage: Stage, *, first: bool, last: bool, add: bool) -> tuple[str, str]:
    source = "x" if first else "h"
    result = "y" if last else "h"
    sign = "+=" if last and add else "="
    local = [i for i in stage.part.result.indices if i not in stage.sites]
    text = (
        f"{result}[{' '.join(stage.after)}] {sign} {source}[{' '.join(stage.before)}] "
        f"{stage.part.result.name}[{' '.join(local)}]"
    )
    places = [s for s in plan.network.sites if s in stage.varies or s in plan.problem.varying()]
    where = f"for each {' '.join(places)}: " if places else ""
    return text, f"{where}{stage.flops:,} FLOPs"


def to_dict(plan: Plan) -> dict[str, Any]:
    """Return what was found as plain data (numbers, strings, lists)."""
    problem = plan.problem
    return {
        "equation": str(plan.network),
        "sizes": dict(plan.sizes),
        "shared": sorted(problem.shared),
        "tokens": problem.tokens,
        "profile": problem.profile.name,
        "flops_per_token": plan.flops_per_token,
        "hoisted_flops": plan.hoist_flops,
        "delta_flops": plan.delta_flops,
        "peak_bytes": plan.peak_bytes,
        "hoisted": [_step_dict(step) for step in plan.hoisted],
        "chains": [[_stage_dict(stage) for stage in chain.stages] for chain in plan.chains],
        "delta": [[_step_dict(step) for step in part.steps] for part in plan.delta],
    }


def _step_dict(step: Step) -> dict[str, Any]:
    return {
        "result": str(step.result),
        "left": str(step.left),
        "right": str(step.right),
        "flops": step.flops,
        "bytes": step.nbytes,
    }


def _stage_dict(stage: Stage) -> dict[str, Any]:
    return {
        "tensor": str(stage.part.result),
        "sites": list(stage.sites),
        "varies": sorted(stage.varies),
        "before": list(stage.before),
        "after": list(stage.after),
        "flops": stage.flops,
    }
