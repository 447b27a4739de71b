"""A plan: what is hoisted, the path of x through each term, and how W itself is made."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from operator import index
from os import PathLike
from typing import Any

from tenslora.errors import PlanError
from tenslora.plan.cost import CPU, Profile, entries
from tenslora.plan.emit import emit_apply, emit_delta, emit_factors
from tenslora.plan.explain import explain, outline, stage_to_dict, step_to_dict
from tenslora.plan.product import Product, find_product
from tenslora.plan.profiles import find_profile
from tenslora.plan.search import Names, Problem, check_limit, find_chain, find_delta
from tenslora.plan.steps import Chain, Part, Step
from tenslora.plan.table import MOST_TOKENS, Table, find_table
from tenslora.plan.ways import find_ways
from tenslora.spec import Network, is_count

__all__ = ["Plan", "make_plan"]


@dataclass(frozen=True, eq=False)
class Plan:
    """What :func:`make_plan` found. Holds no array; runs by :mod:`tenslora.backends`.

    Attributes
    ----------
    problem : the equation, the sizes, and what was planned for.
    chains : for each term, the stages on the path of x.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = B[layer out r] M[r s] A[s in]")
    >>> plan = make_plan(n, {"layer": 12, "out": 64, "in": 64, "r": 4, "s": 4}, tokens=256)
    >>> [str(step) for step in plan.hoisted], plan.normal
    (['t0[r in] = M[r s] A[s in]'], True)
    >>> print(plan)
    <Plan of W[layer out in] = B[layer out r] M[r s] A[s in]>
    once a forward
      t0[r in] = M[r s] A[s in]  2,048 FLOPs
    each token
      h[r] = x[in] t0[r in]   for each layer: 6,144 FLOPs
      y[out] = h[r] B[out r]  for each layer: 6,144 FLOPs
    """

    problem: Problem
    chains: tuple[Chain, ...]

    @property
    def network(self) -> Network:
        """The equation's structure."""
        return self.problem.network

    @property
    def sizes(self) -> Mapping[str, int]:
        """The size of every index."""
        return self.problem.sizes

    @property
    def hoisted(self) -> tuple[Step, ...]:
        """The steps that do not depend on x: once a forward, for all sites at once."""
        return tuple(s for chain in self.chains for stage in chain.stages for s in stage.part.steps)

    @cached_property
    def delta(self) -> tuple[Part, ...]:
        """How W itself is made, one part a term."""
        return find_delta(self.problem)

    @cached_property
    def product(self) -> Product | None:
        """The normal form x A B of every site, ``None`` where the equation has none."""
        return find_product(self.problem)

    @cached_property
    def normal(self) -> bool:
        """Whether x A B is the best way to run it.

        Its two products can be added into what the frozen layer gives, and into the gradient of x.
        Other orders write their update and its gradient apart, and then add them.
        """
        return self.product is not None and self.product.cost <= self.apart

    def cost(self, tokens: int | None = None) -> float:
        """What a training step costs by this plan, all sites, in FLOPs of the profile.

        Parameters
        ----------
        tokens : rows of x; by default those that were planned for.
        """
        tokens = self.problem.tokens if tokens is None else tokens
        if self.product is None or not self.normal:
            return self._apart(tokens)
        fixed = self.product.fixed
        return fixed + (self.product.cost - fixed) * tokens / self.problem.tokens

    @property
    def apart(self) -> float:
        """The cost of a training step by the chains, for the tokens that were planned for.

        They write their update and its gradient apart, and add them.
        """
        return self._apart(self.problem.tokens)

    @cached_property
    def way(self) -> tuple[bool, str]:
        """What it does, whatever the tokens: whether as x A B, and the program."""
        return self.normal, self.source("factors" if self.normal else "apply")

    @cached_property
    def table(self) -> Table:
        """The best plan for every number of tokens, up to a million.

        Under a limit on memory it ends at the tokens that were planned for.
        """
        problem = self.problem
        most = MOST_TOKENS if problem.memory_limit is None else problem.tokens
        return find_table(lambda tokens: _plan(replace(problem, tokens=tokens)), most)

    def at(self, tokens: int) -> Plan:
        """Return the best plan for so many rows of x, by a look into the table.

        Raises
        ------
        PlanError
            E403 for a number of tokens that is none.

        Examples
        --------
        >>> from tenslora.spec import parse
        >>> n = parse("W[layer out in] = B[out r] C[layer r s] A[s in]")
        >>> plan = make_plan(n, {"layer": 12, "out": 768, "in": 768, "r": 32, "s": 32})
        >>> len(plan.table.starts) > 1
        True
        >>> plan.at(2).normal == plan.at(8192).normal
        False
        """
        _check_tokens(tokens)
        return self.table.at(index(tokens))

    def without_sharing(self) -> Plan | None:
        """The plan for sites that read an x each, ``None`` where it is for those already."""
        if not self.problem.shared or self.problem.memory_limit is not None:
            return None
        return _plan(replace(self.problem, shared=frozenset()))

    def _apart(self, tokens: int) -> float:
        sizes, profile = self.sizes, self.problem.profile
        read, sites = (
            entries(names, sizes) for names in (self.problem.varying(), self.network.sites)
        )
        added = sites * entries(self.network.output, sizes)
        added += read * entries(self.network.input, sizes)
        adding = profile.cost(0, 2 * profile.itemsize * tokens * added, read + sites)
        fixed = sum(chain.fixed for chain in self.chains)
        growing = sum(chain.cost - chain.fixed for chain in self.chains)
        return fixed + growing * tokens / self.problem.tokens + adding

    @property
    def flops_per_token(self) -> int:
        """FLOPs of the stages for one token at all sites, forward."""
        return sum(stage.flops for chain in self.chains for stage in chain.stages)

    @property
    def hoist_flops(self) -> int:
        """FLOPs of the hoisted steps, once a forward."""
        return sum(step.flops for step in self.hoisted)

    @property
    def delta_flops(self) -> int:
        """FLOPs of making W at every site."""
        return sum(step.flops for part in self.delta for step in part.steps)

    @property
    def peak_bytes(self) -> int:
        """Bytes of the hoisted results of all sites, and of the largest stage of one site.

        A stage holds ``h`` before and after, for the planned number of tokens.
        """
        sizes, item = self.sizes, self.problem.profile.itemsize
        hoisted = sum(entries(step.result.indices, sizes) for step in self.hoisted)
        stages = [stage for chain in self.chains for stage in chain.stages]
        widest = max(entries(s.before, sizes) + entries(s.after, sizes) for s in stages)
        return item * (hoisted + self.problem.tokens * widest)

    def source(self, mode: str = "apply") -> str:
        """Return the emitted program.

        Parameters
        ----------
        mode : ``"apply"`` (hoist, then one function a stage), ``"delta"`` (W), or ``"factors"`` (A
            and B of the normal form).

        Raises
        ------
        PlanError
            E401 for another mode, E409 for ``"factors"`` of an equation that has no normal form.
        """
        if mode == "apply":
            return emit_apply(self.chains, self.sizes)
        if mode == "delta":
            return emit_delta(self.delta, self.network.target, self.sizes)
        if mode == "factors":
            if self.product is None:
                what = f"{self.network} is no product of a matrix of x and one of y"
                raise PlanError("E409", what, advice="Use the modes 'apply' and 'delta'.")
            return emit_factors(self.product, self.network, self.sizes)
        what = f"mode {mode!r} is not a mode of a plan"
        raise PlanError("E401", what, advice="The modes are 'apply', 'delta' and 'factors'.")

    def outline(self) -> str:
        """Describe the steps, one a line, with FLOPs."""
        return outline(self)

    def explain(self) -> str:
        """Describe all there is to say of it.

        The steps with FLOPs and bytes, what is hoisted and shared, what a training step costs and
        what other ways would, and from how many tokens on another plan is better.
        """
        return explain(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data (numbers, strings, lists)."""
        problem = self.problem
        return {
            "equation": str(self.network),
            "sizes": dict(self.sizes),
            "shared": sorted(problem.shared),
            "tokens": problem.tokens,
            "profile": problem.profile.name,
            "flops_per_token": self.flops_per_token,
            "hoisted_flops": self.hoist_flops,
            "delta_flops": self.delta_flops,
            "peak_bytes": self.peak_bytes,
            "hoisted": [step_to_dict(step) for step in self.hoisted],
            "chains": [[stage_to_dict(stage) for stage in chain.stages] for chain in self.chains],
            "delta": [[step_to_dict(step) for step in part.steps] for part in self.delta],
            "ways": [{"what": way.what, "cost": way.cost} for way in find_ways(self)],
            "starts": list(self.table.starts),
        }

    def __repr__(self) -> str:
        return f"<Plan of {self.network}>\n{self.outline()}"


def make_plan(
    network: Network,
    sizes: Mapping[str, int],
    *,
    shared: Collection[str] = (),
    tokens: int = 512,
    profile: Profile | str | PathLike[str] = CPU,
    frozen: Collection[str] = frozenset(),
    memory_limit: int | None = None,
) -> Plan:
    """Find the order of contraction for an equation at given sizes.

    For each term one exact search covers the cores and x at all sites at once. What the best order
    does not multiply with x is hoisted: computed once a forward, for all sites.

    Parameters
    ----------
    network : the equation.
    sizes : the size of every index.
    shared : sites over which x is the same, as query, key and value read one input.
    tokens : rows of x to plan for.
    profile : the machine, by name, or the path of a file that ``tenslora tune`` wrote.
    frozen : names of cores that need no gradient.
    memory_limit : bytes that the largest array between the cores and y may have, over all sites, as
        training keeps it.

    Returns
    -------
    Plan
        The same object for the same question.

    Raises
    ------
    PlanError
        E402 for sizes that do not cover the equation, E403 for sites, cores, limits or token counts
        that do not fit it, E411 for a limit that no order holds, E412 for an unknown profile.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer proj out in] = B[layer proj out r] A[layer r in]")
    >>> sizes = {"layer": 2, "proj": 3, "out": 8, "in": 8, "r": 2}
    >>> print(make_plan(n, sizes, shared=["proj"]).outline())
    each token
      h[r] = x[in] A[r in]    for each layer: 64 FLOPs
      y[out] = h[r] B[out r]  for each layer proj: 192 FLOPs
    """
    missing = [name for name in network.indices if name not in sizes]
    if missing:
        what = f"no size for {', '.join(missing)} in {network}"
        raise PlanError("E402", what, advice="Complete them with tenslora.spec.complete_sizes.")
    for name in shared:
        if name not in network.sites:
            what = f"shared names {name!r}, no site of {network}"
            listed = ", ".join(network.sites) or "none"
            raise PlanError("E403", what, advice=f"The sites are: {listed}.")
    for name in frozen:
        if name not in network.cores:
            what = f"frozen names {name!r}, no core of {network}"
            raise PlanError("E403", what, advice=f"The cores are {', '.join(network.cores)}.")
    _check_tokens(tokens)
    if memory_limit is not None and not is_count(memory_limit):
        what = f"memory_limit={memory_limit!r} is not a positive integer"
        raise PlanError("E403", what, advice="Give a number of bytes.")
    known = tuple((name, sizes[name]) for name in network.indices)
    machine = find_profile(profile)
    limit = None if memory_limit is None else index(memory_limit)
    return _find(network, known, frozenset(shared), tokens, machine, frozenset(frozen), limit)


def _check_tokens(tokens: object) -> None:
    if not is_count(tokens):
        what = f"tokens={tokens!r} is not a positive integer"
        raise PlanError("E403", what, advice="Give the number of rows of x.")


def _plan(problem: Problem) -> Plan:
    """Answer a question that is known to be well put."""
    sizes = tuple(problem.sizes.items())
    p = problem
    return _find(p.network, sizes, p.shared, p.tokens, p.profile, p.frozen, p.memory_limit)


@lru_cache(maxsize=1024)
def _find(
    network: Network,
    sizes: tuple[tuple[str, int], ...],
    shared: frozenset[str],
    tokens: int,
    profile: Profile,
    frozen: frozenset[str],
    memory_limit: int | None,
) -> Plan:
    problem = Problem(network, dict(sizes), shared, tokens, profile, frozen, memory_limit)
    check_limit(problem)
    names = Names("t", network)
    return Plan(problem, tuple(find_chain(problem, term, names) for term in network.terms))
