"""What a forward keeps for its backward, counted on the plan."""

from __future__ import annotations

from tenslora.plan.cost import entries
from tenslora.plan.product import Product
from tenslora.plan.program import Plan
from tenslora.plan.steps import Part

__all__ = ["saved_once", "saved_per_token"]


def saved_per_token(plan: Plan) -> int:
    """Count the numbers that a forward through all sites keeps of each token.

    A stage whose tensor is trained keeps what it reads: the first one of a term x (once for all
    terms and for all sites that read one x), later ones their part of ``h`` for each site over
    which it differs. A plan that runs as x A B keeps x and x A.

    Examples
    --------
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer proj out in] = B[layer proj out r] A[layer r in]")
    >>> sizes = {"layer": 2, "proj": 3, "out": 8, "in": 8, "r": 2}
    >>> saved_per_token(make_plan(n, sizes, shared=["proj"]))  # 2 x 8 of x, 2 x 2 of h
    20
    """
    sizes, varying = plan.sizes, set(plan.problem.varying())
    if plan.normal and plan.product is not None:
        return _of_product(plan, plan.product)
    x, total = 0, 0
    for chain in plan.chains:
        carried: frozenset[str] = frozenset()
        for number, stage in enumerate(chain.stages):
            if _trained(plan, stage.part):
                sites = sorted(varying | carried)
                kept = entries((*stage.before, *sites), sizes)
                if number == 0:
                    x = max(x, kept)
                else:
                    total += kept
            carried = stage.varies
    return x + total


def _of_product(plan: Plan, product: Product) -> int:
    varying, sizes = set(plan.problem.varying()), plan.sizes
    first = any(_trained(plan, factor.first) for factor in product.factors)
    second = any(_trained(plan, factor.second) for factor in product.factors)
    x = entries((*plan.network.input, *sorted(varying)), sizes)
    h = product.rank * entries(sorted(varying.union(product.first_sites)), sizes)
    return x * first + h * second


def saved_once(plan: Plan) -> int:
    """Count the numbers of the hoisted results that a forward keeps, whatever the tokens.

    Examples
    --------
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = V[out b] G[b a] U[in a]")
    >>> saved_once(make_plan(n, {"out": 80, "in": 80, "a": 4, "b": 2}))  # G U, 2 x 80
    160
    """
    if plan.normal and plan.product is not None:
        parts = [part for f in plan.product.factors for part in (f.first, f.second)]
    else:
        stages = (stage for chain in plan.chains for stage in chain.stages)
        parts = [stage.part for stage in stages if _trained(plan, stage.part)]
    steps = {s.result.name: entries(s.result.indices, plan.sizes) for p in parts for s in p.steps}
    return sum(steps.values())


def _trained(plan: Plan, part: Part) -> bool:
    names = {operand.name for _, operand in part.operands}
    return any(name in plan.network.cores for name in names - plan.problem.frozen)
