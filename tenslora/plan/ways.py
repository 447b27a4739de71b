"""The other ways to compute an equation, and what they cost beside the one that was chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tenslora.plan.operands import operands_of
from tenslora.plan.path import Contraction, find_order, order_cost
from tenslora.plan.search import along_x

if TYPE_CHECKING:
    from tenslora.plan.program import Plan

__all__ = ["Way", "find_ways"]


@dataclass(frozen=True)
class Way:
    """One way to run a plan's equation, and the cost of a training step in FLOPs of its profile.

    Examples
    --------
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> plan = make_plan(parse("W[out in] = B[out r] A[r in]"), {"out": 64, "in": 64, "r": 4})
    >>> best, *others = find_ways(plan)
    >>> best.what
    'x A B of rank 4, added in place'
    >>> all(best.cost < way.cost for way in others)
    True
    """

    what: str
    cost: float


def find_ways(plan: Plan) -> tuple[Way, ...]:
    """The way that a plan chose and those that it could have, the cheapest first.

    Parameters
    ----------
    plan : made for some number of tokens, machine and frozen cores: the costs are for these.

    Examples
    --------
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out r] A[r in]")
    >>> [way.what for way in find_ways(make_plan(n, {"out": 64, "in": 64, "r": 4}))]
    ['x A B of rank 4, added in place', 'the steps above', 'W first, then x W']
    """
    found = [Way("the steps above", plan.apart)]
    if plan.product is not None:
        found.append(Way(f"x A B of rank {plan.product.rank}, added in place", plan.product.cost))
    adding = plan.apart - sum(chain.cost for chain in plan.chains)
    every = range(len(plan.chains))
    if any(len(chain.stages) > 1 for chain in plan.chains):
        cost = adding + sum(_weight_first(plan, n) for n in every)
        found.append(Way("W first, then x W", cost))
    if plan.hoisted:
        cost = adding + sum(_nothing_hoisted(plan, n) for n in every)
        found.append(Way("x through one core after the other", cost))
    alone = plan.without_sharing()
    if alone is not None and alone.cost() > plan.cost():
        shared = " ".join(site for site in plan.network.sites if site in plan.problem.shared)
        found.append(Way(f"nothing shared over {shared}", alone.cost()))
    held = (way for way in found if way.cost < math.inf)  # the others go beyond a limit on memory
    return tuple(sorted(held, key=lambda way: way.cost))


def _contraction(plan: Plan, term: int) -> Contraction:
    return along_x(plan.problem, operands_of(plan.network, plan.network.terms[term]))


def _weight_first(plan: Plan, term: int) -> float:
    """What it costs to multiply the cores of a term, and then x with W."""
    whole, profile = _contraction(plan, term), plan.problem.profile
    cores = replace(
        whole,
        inputs=whole.inputs[:-1],
        output=_kept(whole),
        trained=whole.trained[:-1],
        x=None,
        bounded=len(whole.inputs) > 2,
    )
    order = find_order(cores, profile, plan.problem.memory_limit)
    if order is None:
        return math.inf
    last = Contraction(
        inputs=[cores.output, whole.inputs[-1]],
        output=whole.output,
        sizes=whole.sizes,
        trained=[any(cores.trained), True],
        x=1,
        sites=whole.sites,
    )
    return order.cost + order_cost(((0, 1),), last, profile)


def _kept(whole: Contraction) -> set[str]:
    """The indices of W: those of the cores that y has, or x sums."""
    held = {index for indices in whole.inputs[:-1] for index in indices}
    return held & {*whole.output, *whole.inputs[-1]}


def _nothing_hoisted(plan: Plan, term: int) -> float:
    """What it costs to multiply x with the cores one at a time, in the best sequence."""
    alone = replace(_contraction(plan, term), alone=True)
    order = find_order(alone, plan.problem.profile, plan.problem.memory_limit)
    return math.inf if order is None else order.cost
