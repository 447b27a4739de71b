"""A plan in words: for people and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tenslora.plan.steps import Stage, Step
from tenslora.plan.ways import find_ways

if TYPE_CHECKING:
    from tenslora.plan.program import Plan

__all__ = ["explain", "outline", "stage_to_dict", "step_to_dict"]


def outline(plan: Plan) -> str:
    """Write the steps one a line, aligned, with FLOPs; see :func:`tenslora.plan.make_plan`."""
    return "\n".join(_steps(plan, [], []))


def explain(plan: Plan) -> str:
    """Write the steps with FLOPs and bytes, what is shared, other ways, and breakpoints."""
    once = [f"{step.nbytes:,} bytes" for step in plan.hoisted]
    stages = [stage for chain in plan.chains for stage in chain.stages]
    lines = _steps(plan, once, [f"{stage.nbytes:,} bytes" for stage in stages])
    lines += _together(plan, stages)
    lines += _ways(plan)
    return "\n".join([*lines, *_breakpoints(plan)])


def _steps(plan: Plan, once: Sequence[str], each: Sequence[str]) -> list[str]:
    sites, varying = plan.network.sites, plan.problem.varying()
    lines: list[str] = []
    if plan.hoisted:
        lines.append("once a forward")
        lines += _columns([(str(step), f"{step.flops:,} FLOPs") for step in plan.hoisted], once)
    lines.append("each token")
    rows = []
    for c, chain in enumerate(plan.chains):
        for s, stage in enumerate(chain.stages):
            ends = (s == 0, s == len(chain.stages) - 1)
            places = [site for site in sites if site in stage.varies or site in varying]
            rows.append((_stage(stage, *ends, add=c > 0), _cost(stage, places)))
    return [*lines, *_columns(rows, each)]


def _columns(rows: list[tuple[str, str]], more: Sequence[str] = ()) -> list[str]:
    width = min(max(len(left) for left, _ in rows), 48)
    lines = [f"  {left:<{width}}  {right}" for left, right in rows]
    return [f"{line}, {text}" for line, text in zip(lines, more, strict=True)] if more else lines


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


def _together(plan: Plan, stages: Sequence[Stage]) -> list[str]:
    """Totals, and which stages serve several sites at once."""
    per_token = sum(stage.nbytes for stage in stages)
    lines = ["together"]
    if plan.hoisted:
        once = sum(step.nbytes for step in plan.hoisted)
        lines.append(f"  once a forward, for all sites: {plan.hoist_flops:,} FLOPs, {once:,} bytes")
    lines.append(f"  each token: {plan.flops_per_token:,} FLOPs, {per_token:,} bytes")
    shared = plan.problem.shared
    for stage in stages:
        alike = [s for s in plan.network.sites if s in shared and s not in stage.varies]
        if alike:
            lines.append(f"  shared by all {' '.join(alike)}: what meets {stage.part.result.name}")
    return lines


def _ways(plan: Plan) -> list[str]:
    """The costs of a training step, as multiples of the least."""
    problem, ways = plan.problem, find_ways(plan)
    least = ways[0].cost
    lines = [f"a training step of {problem.tokens:,} tokens, on {problem.profile.name}"]
    speed = problem.profile.flops_per_second
    time = "" if speed is None else f" ({1e3 * least / speed:,.3g} ms)"
    lines.append(f"  {ways[0].what}: {least:.4g} FLOPs' worth{time}")
    return [*lines, *(f"  {way.what}: {way.cost / least:,.2f} times that" for way in ways[1:])]


def _breakpoints(plan: Plan) -> list[str]:
    """From how many tokens on which kind of plan is the best."""
    table = plan.table
    if len(table.starts) == 1:
        return ["the best for any number of tokens"]
    lines = ["the best by the number of tokens"]
    return [
        *lines,
        *(
            f"  from {start:,}: {_kind(best)}"
            for start, best in zip(table.starts, table.plans, strict=True)
        ),
    ]


def _kind(plan: Plan) -> str:
    """A plan in one line: ``x A B``, or the order as brackets."""
    if plan.normal and plan.product is not None:
        return f"x A B of rank {plan.product.rank}"
    made = {step.result.name: (step.left.name, step.right.name) for step in plan.hoisted}

    def bracketed(name: str) -> str:
        return f"({' '.join(map(bracketed, made[name]))})" if name in made else name

    chains = (["x", *(s.part.result.name for s in chain.stages)] for chain in plan.chains)
    return " + ".join(" ".join(map(bracketed, names)) for names in chains)


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
        "bytes": stage.nbytes,
    }
