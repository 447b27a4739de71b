"""From operands to steps: the two searches of a plan, along x and for W itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tenslora.errors import PlanError
from tenslora.plan.cost import Profile, entries
from tenslora.plan.operands import Operand, operands_of
from tenslora.plan.orient import Groups, orient
from tenslora.plan.path import Contraction, find_order, order_cost, smallest_peak
from tenslora.plan.steps import Array, Chain, Pair, Part, Stage, Step, pair_up
from tenslora.spec import Network, Term

__all__ = [
    "ROW",
    "Names",
    "Problem",
    "along_x",
    "check_limit",
    "find_chain",
    "find_delta",
    "make_part",
]

#: The index of the tokens; no name of the language can be equal to it.
ROW = "*row"


@dataclass(frozen=True)
class Problem:
    """What there is to plan.

    Attributes
    ----------
    network : the equation.
    sizes : the size of every index.
    shared : sites over which x is the same.
    tokens : rows of x.
    profile : the machine.
    frozen : cores that need no gradient.
    memory_limit : bytes that the largest array between the cores and y may have.
    """

    network: Network
    sizes: Mapping[str, int]
    shared: frozenset[str]
    tokens: int
    profile: Profile
    frozen: frozenset[str]
    memory_limit: int | None = None

    def varying(self) -> tuple[str, ...]:
        """The sites over which x varies."""
        return tuple(site for site in self.network.sites if site not in self.shared)

    def trains(self, operand: Operand) -> bool:
        """Whether an operand needs a gradient."""
        return operand.name not in self.frozen and not operand.is_constant


class Names:
    """Variable names of one program: a core's own where it is read in one way only.

    A core that stands in the equation again with other indices or other groups is another view of
    the same array, and has another name.
    """

    def __init__(self, prefix: str, network: Network) -> None:
        self._names = (f"{prefix}{n}" for n in itertools.count())
        self._cores = frozenset(network.cores)
        self._views: dict[Operand, str] = {}

    def fresh(self) -> str:
        """Return a name that was not used before and is no core's."""
        return next(name for name in self._names if name not in self._cores)

    def array(self, operand: Operand) -> Array:
        """Return the array of an operand: the same for equal operands."""
        if operand not in self._views:
            first = all(operand.name != known.name for known in self._views)
            own = first and not operand.is_constant
            self._views[operand] = operand.name if own else self.fresh()
        return Array(self._views[operand], operand.indices)


def find_delta(problem: Problem) -> tuple[Part, ...]:
    """Plan W itself: one part a term, each with every index of the target that the term carries."""
    target = problem.network.target.indices
    names = Names("w", problem.network)
    parts = []
    for term in problem.network.terms:
        operands = operands_of(problem.network, term)
        arrays = [names.array(operand) for operand in operands]
        output = [index for index in target if index in term.indices]
        trained = [problem.trains(operand) for operand in operands]
        inputs = [array.indices for array in arrays]
        contraction = Contraction(inputs, output, problem.sizes, trained)
        order = find_order(contraction, problem.profile)
        assert order is not None  # without a limit there always is one
        tree = _tree(order.pairs, len(arrays))
        part = _part(tree, arrays, operands, set(output), problem, names)
        parts.append(orient(part, partial(_in_order, output), problem.sizes))
    return tuple(parts)


def _in_order(order: Sequence[str], part: Part) -> Groups:
    return (order,)


def check_limit(problem: Problem) -> None:
    """Raise E411 where no order of some term holds the limit on memory."""
    limit = problem.memory_limit
    if limit is None:
        return
    asked = [along_x(problem, operands_of(problem.network, t)) for t in problem.network.terms]
    least = max(smallest_peak(contraction, problem.profile) for contraction in asked)
    if least > limit:
        what = f"memory_limit={limit:,} bytes is less than any order of {problem.network} takes"
        advice = f"The least is {least:,} bytes, for {problem.tokens:,} tokens; or plan for fewer."
        raise PlanError("E411", what, advice=advice)


def along_x(problem: Problem, operands: Sequence[Operand]) -> Contraction:
    """Return the contraction of a term with x, all sites at once; x has the last number."""
    network = problem.network
    held = {index for operand in operands for index in operand.indices}
    sites = [s for s in network.sites if s in held or s not in problem.shared]
    return Contraction(
        inputs=[*(o.indices for o in operands), (ROW, *problem.varying(), *network.input)],
        output={ROW, *sites, *network.output},
        sizes={**problem.sizes, ROW: problem.tokens},
        trained=[*map(problem.trains, operands), True],
        x=len(operands),
        sites=network.sites,
    )


def find_chain(problem: Problem, term: Term, names: Names) -> Chain:
    """Plan one term along x, all sites at once; subtrees without x are hoisted."""
    network = problem.network
    operands = operands_of(network, term)
    arrays = [names.array(operand) for operand in operands]
    contraction = along_x(problem, operands)
    output = set(contraction.output)
    order = find_order(contraction, problem.profile, problem.memory_limit)
    assert order is not None  # the limit was checked
    resting = replace(contraction, sizes={**contraction.sizes, ROW: 0})
    fixed = order_cost(order.pairs, resting, problem.profile)
    tree = _tree(order.pairs, len(arrays) + 1)
    path = list(_along_x(tree, len(arrays)))
    stages = []
    before, varies = network.input, frozenset[str]()
    for n, subtree in enumerate(path):
        inside = set(_leaves(subtree))
        later = [set(arrays[i].indices) for other in path[n + 1 :] for i in _leaves(other)]
        others = output.union(before, *later)
        part = _part(subtree, [*arrays], operands, others, problem, names, inside)
        needed = output.union(*later)

        stage = partial(_stage, problem, before, varies, needed, path[n + 1 :], arrays)
        stages.append(stage(orient(part, partial(_groups, stage), problem.sizes)))
        before, varies = stages[-1].after, stages[-1].varies
    return Chain(tuple(stages), order.cost, fixed)


def make_part(
    order: Sequence[tuple[int, int]],
    chosen: Sequence[int],
    arrays: Sequence[Array],
    operands: Sequence[Operand],
    kept: Collection[str],
    problem: Problem,
    names: Names,
) -> Part:
    """Turn an order of contraction of some of the arrays into steps."""
    tree = _tree(order, len(chosen))
    return _part(_renumbered(tree, chosen), arrays, operands, kept, problem, names)


def _renumbered(tree: object, numbers: Sequence[int]) -> object:
    if isinstance(tree, tuple):
        return tuple(_renumbered(branch, numbers) for branch in tree)
    assert isinstance(tree, int)  # narrows the type
    return numbers[tree]


def _tree(order: Sequence[tuple[int, int]], count: int) -> object:
    nodes: list[object] = list(range(count))
    for left, right in order:
        nodes.append((nodes[left], nodes[right]))
    return nodes[-1]


def _leaves(tree: object) -> Iterator[int]:
    if isinstance(tree, int):
        yield tree
    elif isinstance(tree, tuple):
        for branch in tree:
            yield from _leaves(branch)


def _along_x(tree: object, x: int) -> Iterator[object]:
    """The subtrees that meet x, from x to the root."""
    if isinstance(tree, tuple):
        inner, other = tree if x in _leaves(tree[0]) else tree[::-1]
        yield from _along_x(inner, x)
        yield other


def _part(
    tree: object,
    arrays: Sequence[Array],
    operands: Sequence[Operand],
    kept: Collection[str],
    problem: Problem,
    names: Names,
    inside: Collection[int] | None = None,
) -> Part:
    """Turn a subtree into steps; ``kept`` holds the indices that the outside needs."""
    leaves = list(_leaves(tree))
    steps: list[Step] = []

    def build(node: object, outside: frozenset[str]) -> Array:
        if isinstance(node, int):
            return arrays[node]
        assert isinstance(node, tuple)  # narrows the type
        used = [{i for n in _leaves(branch) for i in arrays[n].indices} for branch in node]
        left = build(node[0], outside | used[1])
        right = build(node[1], outside | used[0])
        name = names.fresh()
        steps.append(Step.make(name, left, right, outside, problem.sizes, problem.profile))
        return steps[-1].result

    result = build(tree, frozenset(kept))
    return Part(tuple((arrays[n], operands[n]) for n in sorted(leaves)), tuple(steps), result)


def _groups(stage: Callable[[Part], Stage], part: Part) -> Groups:
    return stage(part).groups


def _stage(
    problem: Problem,
    before: tuple[str, ...],
    varies: frozenset[str],
    needed: Collection[str],
    later: Sequence[object],
    arrays: Sequence[Array],
    part: Part,
) -> Stage:
    network = problem.network
    held = part.result.indices
    sites = tuple(site for site in network.sites if site in held)
    local = [index for index in held if index not in sites]
    met = pair_up(before, local, needed)
    following = {i for n in _leaves(later[0]) for i in arrays[n].indices} if later else set()
    right = _arrange(met.right, network.output, following)
    pair = Pair(met.batch, met.summed, met.left, right)
    after = pair.batch + pair.left + pair.right if later else network.output
    sizes, reads = problem.sizes, entries(varies.union(problem.varying()), problem.sizes)
    varies = varies.union(sites)
    places = entries(varies.union(problem.varying()), sizes)
    size = entries((*after, *pair.summed), sizes)
    flops = places * size * (2 if pair.summed else 1)
    moved = reads * entries(before, sizes) + places * entries(after, sizes)
    return Stage(part, sites, varies, before, after, pair, flops, problem.profile.itemsize * moved)


def _arrange(
    right: tuple[str, ...], output: tuple[str, ...], following: Collection[str]
) -> tuple[str, ...]:
    """Order the tensor's own axes: what the next stage meets last, outputs as in the target."""
    rank = {index: n for n, index in enumerate(output)}
    return tuple(sorted(right, key=lambda i: (i in following, rank.get(i, -1))))
