"""Law 4: a plan computes what the equation says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tenslora.backends import Executable, executable, get
from tenslora.family import Bound
from tenslora.plan import CPU, H200_BF16, Plan
from tenslora.testing.laws.common import arrays_of, every_site, inputs, run_stages
from tenslora.testing.oracle import dense, numbers
from tenslora.testing.report import agree

__all__ = ["law_contraction", "plans_of"]


def law_contraction(
    bound: Bound, *, plan: Plan | None = None, backend: str = "numpy", seed: int = 0
) -> None:
    """Law 4: a plan computes what the equation says, whatever order it chose.

    W equals the dense oracle; ``apply(x)`` equals ``x @ W.T`` at each site; all sites stacked equal
    the sites one by one, and so do the stages as an adapter runs them by hand. Values are small
    whole numbers, so that what is compared is equal, not close.

    Parameters
    ----------
    bound : a family with sizes.
    plan : the plan to try; ``None`` for several, which differ in the sites that share x, in the
        number of tokens and in the machine.
    backend : what it runs on: one that has float64.
    seed : of the values.

    Examples
    --------
    >>> import tenslora as tl
    >>> lora = tl.family("W[layer out in] = B[layer out r] A[r in]", init={"B": "zeros"})
    >>> law_contraction(lora.bind({"layer": 3, "out": 4, "in": 5}, r=2))
    """
    cores = numbers(bound.network, bound.sizes, seed)
    expected = dense(bound.network, cores, bound.sizes)
    x = inputs(bound, 3, seed)
    for each in plans_of(bound) if plan is None else [plan]:
        _check(bound, executable(each, get(backend)), cores, x, expected)


def plans_of(bound: Bound) -> Iterator[Plan]:
    """Plans for different questions: one order may be good for all, or each have its own."""
    sites = bound.network.sites
    yield bound.plan(shared=(), tokens=1)
    yield bound.plan(shared=sites, tokens=100_000, profile=CPU)
    yield bound.plan(shared=sites[1:], tokens=64, profile=H200_BF16)
    for site in sites:
        yield bound.plan(shared=(site,), tokens=1)


def _check(bound: Bound, run: Executable, cores: Mapping[str, Any], x: Any, expected: Any) -> None:
    lib = run.backend.name
    arrays, rows = arrays_of(lib, cores), arrays_of(lib, {"x": x})["x"]
    how = _describe(run.plan)
    agree("4", bound, f"delta {how}", run.delta(arrays, rows), expected)
    stacked = np.asarray(run.apply_stacked(arrays, rows))
    unbound = run.unbind(run.hoist(arrays, rows))
    for site in every_site(bound):
        at = tuple(site.values())
        y = x @ expected[at].T
        agree("4", bound, f"apply at {site} {how}", run.apply(arrays, rows, site), y)
        agree("4", bound, f"apply_stacked at {site} {how}", stacked[at], y)
        by_hand = run_stages(run, unbound, rows, site)
        agree("4", bound, f"the stages at {site} {how}", by_hand, y)
    _check_varies(bound, run, unbound, rows)


def _check_varies(bound: Bound, run: Executable, unbound: Any, rows: Any) -> None:
    """Sites that agree on what a stage varies over get the same h from it: nn shares them."""
    seen: dict[tuple[Any, ...], Any] = {}
    for site in every_site(bound):
        tensors = run.pick(unbound, site)
        for c, (chain, stages) in enumerate(zip(run.plan.chains, run.chains, strict=True)):
            h = rows
            for s, (stage, run_stage) in enumerate(zip(chain.stages, stages, strict=True)):
                h = run_stage(h, tensors[c][s])
                key = (c, s, *((n, site[n]) for n in sorted(stage.varies)))
                if key in seen:
                    what = f"h after stage {s} of term {c}, said to vary over {set(stage.varies)}"
                    agree("4", bound, what, h, seen[key])
                seen.setdefault(key, np.asarray(h))


def _describe(plan: Plan) -> str:
    problem = plan.problem
    shared = ", ".join(sorted(problem.shared)) or "no site"
    return f"(x shared over {shared}, {problem.tokens} tokens, {problem.profile.name})"
