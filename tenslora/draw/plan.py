"""A plan as a picture: the tree of contractions above the way of x, with what each step costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tenslora.draw.colours import hues
from tenslora.draw.scene import Box, Frame, Scene, Sheet

if TYPE_CHECKING:
    from tenslora.plan import Chain, Part, Plan, Stage, Step
    from tenslora.plan.operands import Operand

__all__ = ["layout_plan"]

_CLEAR = 3  # columns between parts of the tree
_RISE = 5  # lines from a step to the arrays above it


def layout_plan(plan: Plan) -> Scene:
    """Return the picture of a plan.

    From left to right goes x, meeting one tensor at a time, once for each token. Above it are the
    cores, and in a shaded region what is *hoisted*: computed once a forward, for all sites. A stage
    that sites share is marked, and each step has its FLOPs.

    Parameters
    ----------
    plan : from :meth:`tenslora.Bound.plan`.

    Examples
    --------
    >>> from tenslora.draw.text import to_text
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> plan = make_plan(parse("W[out in] = B[out r] A[r in]"), {"out": 8, "in": 8, "r": 2})
    >>> print(to_text(layout_plan(plan)))
      once a forward, for all sites
    <BLANKLINE>
                  ╭───╮   ╭───╮
                  │ B │   │ A │
                  ╰─┬─╯   ╰─┬─╯
                    │       │
                    ╰───┬───╯
                  ╭─────┴─────╮
                  │t0[out in] │
                  ╰─────┬─────╯
                        │ 256 FLOPs
      each token        │
                        │
      ╭───────╮     ╭───┴───╮
      │ x[in] ├─────┤y[out] │
      ╰───────╯     ╰───────╯
                    128 FLOPs
    """
    whole, bottom = Sheet(), None
    frozen = plan.problem.frozen
    for chain in plan.chains:
        sheet = _chain(plan, chain, frozen)
        left, top, _, low = sheet.bounds()
        line = 0
        if bottom is not None:
            whole.word("+", 2, bottom + 2, None, "sign")
            line = bottom + 4
        whole.add(sheet.moved(-left, line - top))
        bottom = line + low - top
    return Scene.of(whole, f"plan of {plan.network}", hues(plan.network))


def _chain(plan: Plan, chain: Chain, frozen: frozenset[str]) -> Sheet:
    """Draw the way of x through one term, and above it what it meets."""
    sheet = Sheet()
    hoisted = any(stage.part.steps for stage in chain.stages)
    start = _named("x", chain.stages[0].before, 0, _RISE + 1, "input")
    sheet.boxes.append(start)
    last, column = start, start.right
    for n, stage in enumerate(chain.stages):
        tree, root = _tree(stage.part, frozen)
        result = "y" if n == len(chain.stages) - 1 else "h"
        box = _named(result, stage.after, 0, _RISE + 1, "step")
        notes = _notes(plan, stage)
        left = min(tree.bounds()[0] - root.x, -box.half_width, *(-(len(t) // 2) for t in notes))
        right = max(tree.bounds()[2] - root.x, box.half_width, *(len(t) // 2 for t in notes))
        x = max(column + _CLEAR - left, last.right + 6 + box.half_width)
        box = _named(result, stage.after, x, _RISE + 1, "step")
        sheet.add(tree.moved(x - root.x, 0))
        sheet.boxes.append(box)
        sheet.wire("", (x, root.bottom), (x, box.top))
        sheet.wire("", (last.right, last.y), (box.left, box.y))
        for line, note in enumerate(notes):
            sheet.word(note, x - len(note) // 2, box.bottom + 1 + line, None, "note")
        last, column = box, x + right
    return _framed(sheet, hoisted)


def _framed(sheet: Sheet, hoisted: bool) -> Sheet:
    left, top, right, _ = sheet.bounds()
    sheet.word("each token", left, _RISE + 1 - 3, None, "title")
    if hoisted:
        sheet.word("once a forward, for all sites", left, top - 2, None, "title")
        sheet.frames.append(Frame(left - 2, top - 3, right + 2, 2, "band"))
    return sheet


def _notes(plan: Plan, stage: Stage) -> list[str]:
    """Say what a stage costs, over which sites it goes, and which share it."""
    varying = plan.problem.varying()
    sites = plan.network.sites
    each = [site for site in sites if site in stage.varies or site in varying]
    alike = [site for site in sites if site in plan.problem.shared and site not in stage.varies]
    notes = [f"{stage.flops:,} FLOPs"]
    notes += [f"for each {' '.join(each)}"] if each else []
    notes += [f"shared by all {' '.join(alike)}"] if alike else []
    return notes


def _named(name: str, indices: Sequence[str], x: int, y: int, kind: str) -> Box:
    text = f"{name}[{' '.join(indices)}]" if indices else name
    return Box(text, x, y, (len(text) + 3) // 2, 1, kind)


def _tree(part: Part, frozen: frozenset[str]) -> tuple[Sheet, Box]:
    """Draw how the tensor of a stage is made, its last step around line 0."""
    steps = {step.result.name: step for step in part.steps}
    leaves = {
        array.name: Box(
            operand.name,
            0,
            0,
            max(2, (len(operand.name) + 3) // 2),
            1,
            _kind(operand, frozen),
            title=str(array),
        )
        for array, operand in part.operands
    }
    return _branch(part.result.name, steps, leaves)


def _kind(operand: Operand, frozen: frozenset[str]) -> str:
    if operand.is_constant:
        return "constant"
    return "frozen" if operand.name in frozen else "trained"


def _branch(name: str, steps: Mapping[str, Step], leaves: Mapping[str, Box]) -> tuple[Sheet, Box]:
    sheet = Sheet()
    if name not in steps:
        sheet.boxes.append(leaves[name])
        return sheet, leaves[name]
    step = steps[name]
    sides = [_branch(array.name, steps, leaves) for array in (step.left, step.right)]
    edges, at = [], 0
    for tree, root in sides:
        left, _, right, _ = tree.bounds()
        sheet.add(tree.moved(at - left, -_RISE))
        edges.append(at - left + root.x)
        at += right - left + 1 + _CLEAR
    box = _named(step.result.name, step.result.indices, sum(edges) // 2, 0, "step")
    for edge in edges:
        turn = -_RISE + 3
        sheet.wire("", (edge, -_RISE + 1), (edge, turn), (box.x, turn), (box.x, box.top))
    sheet.boxes.append(box)
    cost = f"{step.flops:,} FLOPs"
    sheet.word(cost, box.x + 2, box.bottom + 1, None, "note")
    return sheet, box
