"""``python -m benchmarks trees``: the planner's order of contraction against the best measured
one.

Every order of pairwise contractions of the cores and x, all sites at once, is enumerated. The
cheapest by several measures (FLOPs alone, bytes alone, mixtures of the two, the largest array)
are run forward and backward by one executor beside the planner's; the best of these is raced
against the planner's again, so that luck in the first race does not count. The planner's is in
both.
"""

from __future__ import annotations

import argparse
import math
import random
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import resolve
from benchmarks.hand import FACTORS
from benchmarks.results import save
from benchmarks.timing import race
from tenslora.plan import Plan, make_plan
from tenslora.plan.operands import operands_of
from tenslora.spec import Network, parse

__all__ = ["Tree", "all_trees", "main", "planned_tree", "random_network", "run_tree"]

#: A leaf is the number of an operand; x has the last number. A node is a pair.
Tree = Any

ROW = "*row"


@dataclass(frozen=True)
class Problem:
    """One term at given sizes: the indices of each operand and of x, and of the result."""

    inputs: tuple[tuple[str, ...], ...]
    output: tuple[str, ...]
    sizes: Mapping[str, int]


def make_problem(network: Network, sizes: Mapping[str, int], tokens: int) -> Problem:
    """As the planner sees it: x carries the sites but ``proj``, whose members read one x."""
    term = network.terms[0]
    operands = [operand.indices for operand in operands_of(network, term)]
    varying = [site for site in network.sites if site != "proj"]
    x = (ROW, *varying, *network.input)
    output = (ROW, *network.sites, *network.output)
    return Problem((*operands, x), output, {**sizes, ROW: tokens})


def all_trees(leaves: tuple[int, ...]) -> Iterator[Tree]:
    """Every binary tree over the leaves, up to the order of branches.

    >>> sum(1 for _ in all_trees((0, 1, 2, 3)))
    15
    """
    if len(leaves) == 1:
        yield leaves[0]
        return
    first, rest = leaves[0], leaves[1:]
    for mask in range(2 ** len(rest) - 1):
        left = (first, *(v for n, v in enumerate(rest) if mask >> n & 1))
        right = tuple(v for n, v in enumerate(rest) if not mask >> n & 1)
        for a in all_trees(left):
            for b in all_trees(right):
                yield (a, b)


def _leaves(tree: Tree) -> tuple[int, ...]:
    return (tree,) if isinstance(tree, int) else (*_leaves(tree[0]), *_leaves(tree[1]))


def _walk(problem: Problem, tree: Tree) -> list[tuple[tuple[str, ...], set[str], bool]]:
    """The steps of a tree: indices of the result, indices of both sides, whether it sums."""
    every = set(range(len(problem.inputs)))
    found: list[tuple[tuple[str, ...], set[str], bool]] = []

    def visit(node: Tree) -> tuple[str, ...]:
        if isinstance(node, int):
            return problem.inputs[node]
        left, right = visit(node[0]), visit(node[1])
        outside = set(problem.output).union(
            *(problem.inputs[n] for n in every - set(_leaves(node)))
        )
        union = dict.fromkeys((*left, *right))
        kept = tuple(index for index in union if index in outside)
        found.append((kept, set(union), len(kept) < len(union)))
        return kept

    visit(tree)
    return found


def cost(problem: Problem, tree: Tree, flops: float, nbytes: float, largest: float) -> float:
    """A weighed cost of a tree, forward and backward with everything trained."""
    total, peak = 0.0, 0
    for kept, union, summed in _walk(problem, tree):
        size = math.prod(problem.sizes[i] for i in kept)
        work = math.prod(problem.sizes[i] for i in union) * (2 if summed else 1)
        total += 3 * (flops * work + nbytes * 8 * size)
        peak = max(peak, size)
    return total + largest * peak


#: Weights of FLOPs, bytes and the largest array. Candidates come from each.
_MEASURES = ((1, 0, 0), (1, 1, 0), (1, 3, 0), (1, 10, 0), (1, 30, 0), (0, 1, 0), (1, 0, 300))


def candidates(problem: Problem, each: int) -> list[Tree]:
    """The cheapest few trees by every measure, without those of 30 times the fewest FLOPs."""
    trees = list(all_trees(tuple(range(len(problem.inputs)))))
    work = [cost(problem, tree, 1, 0, 0) for tree in trees]
    fewest = min(work)
    kept = [tree for tree, flops in zip(trees, work, strict=True) if flops <= 30 * fewest]
    found: dict[Tree, None] = {}
    for weights in _MEASURES:
        ranked = sorted(kept, key=lambda tree: cost(problem, tree, *weights))
        found.update(dict.fromkeys(ranked[:each]))
    return list(found)


def planned_tree(plan: Plan) -> Tree:
    """The order that a plan chose for its first term, as a tree over the operands and x."""
    chain = plan.chains[0]
    operands = operands_of(plan.network, plan.network.terms[0])
    unused = list(range(len(operands)))
    tree: Tree = len(operands)
    for stage in chain.stages:
        known: dict[str, Tree] = {}
        for array, operand in stage.part.operands:
            number = next(n for n in unused if operands[n] == operand)
            unused.remove(number)
            known[array.name] = number
        for step in stage.part.steps:
            known[step.result.name] = (known[step.left.name], known[step.right.name])
        tree = (tree, known[stage.part.result.name])
    return tree


def canonical(tree: Tree) -> Tree:
    """The same tree with branches in one order."""
    if isinstance(tree, int):
        return tree
    left, right = canonical(tree[0]), canonical(tree[1])
    return (left, right) if min(_leaves(left)) < min(_leaves(right)) else (right, left)


def run_tree(problem: Problem, tree: Tree, values: Sequence[Tensor]) -> Tensor:
    """Contract in the order of a tree, two arrays at a time."""
    letters = dict(zip(problem.sizes, string.ascii_letters, strict=False))
    every = set(range(len(problem.inputs)))

    def text(indices: Sequence[str]) -> str:
        return "".join(letters[index] for index in indices)

    def visit(node: Tree) -> tuple[Tensor, tuple[str, ...]]:
        if isinstance(node, int):
            return values[node], problem.inputs[node]
        (left, a), (right, b) = visit(node[0]), visit(node[1])
        inside = set(_leaves(node))
        if inside == every:
            kept = problem.output
        else:
            outside = set(problem.output).union(*(problem.inputs[n] for n in every - inside))
            kept = tuple(i for i in dict.fromkeys((*a, *b)) if i in outside)
        return torch.einsum(f"{text(a)},{text(b)}->{text(kept)}", left, right), kept

    return visit(tree)[0]


def random_network(number: int) -> tuple[Network, dict[str, int], int]:
    """A network of two to five cores with random bonds and sites, its sizes and a token count."""
    draw = random.Random(number)  # noqa: S311
    while True:
        count = draw.randint(2, 5)
        cores: list[list[str]] = [[] for _ in range(count)]
        sites = draw.choice([[], ["layer"], ["layer", "proj"]])
        split = draw.random() < 0.4
        outputs = ["head", "head_dim"] if split else ["out"]
        for index in (*outputs, "in"):
            cores[draw.randrange(count)].append(index)
        for site in sites:
            for n in draw.sample(range(count), draw.randint(1, count)):
                cores[n].append(site)
        bonds = [f"r{n}" for n in range(draw.randint(max(1, count - 1), count + 1))]
        for bond in bonds:
            ends = min(count, draw.choice([2, 2, 2, 3]))
            for n in draw.sample(range(count), ends):
                cores[n].append(bond)
        sizes = {
            "layer": draw.choice([2, 4]),
            "proj": 3,
            "out": draw.choice([64, 128, 256]),
            "in": draw.choice([64, 128, 256]),
            "head": 4,
            "head_dim": draw.choice([16, 32, 64]),
            **{bond: draw.choice([2, 4, 8, 16]) for bond in bonds},
        }
        if not all(cores) or any(math.prod(sizes[i] for i in c) > 10**6 for c in cores):
            continue
        output = f"({' '.join(outputs)})" if split else "out"
        right = " ".join(f"C{n}[{' '.join(core)}]" for n, core in enumerate(cores))
        network = parse(f"W[{' '.join([*sites, output, 'in'])}] = {right}")
        used = {index: sizes[index] for index in network.indices}
        return network, used, draw.choice([16, 64, 256, 512])


def compare(
    network: Network, sizes: Mapping[str, int], tokens: int, *, each: int, rounds: int
) -> dict[str, Any]:
    """Race the candidates with the planner's tree; return its time over the best one's."""
    shared = ("proj",) if "proj" in network.sites else ()
    plan = make_plan(network, sizes, shared=shared, tokens=tokens)
    problem = make_problem(network, sizes, tokens)
    ours = canonical(planned_tree(plan))
    trees = list(dict.fromkeys([ours, *map(canonical, candidates(problem, each))]))
    generator = torch.Generator().manual_seed(0)
    values = [
        torch.randn([problem.sizes[i] for i in indices], generator=generator).requires_grad_()
        for indices in problem.inputs
    ]
    reference = run_tree(problem, ours, values)
    grad = torch.randn(reference.shape, generator=generator)
    for tree in trees[1:]:
        found = run_tree(problem, tree, values)
        torch.testing.assert_close(found, reference, rtol=1e-3, atol=1e-3 * _size(reference))

    def step(tree: Tree) -> None:
        torch.autograd.grad(run_tree(problem, tree, values), values, grad)

    steps: dict[str, Callable[[], None]] = {
        str(n): partial(step, tree) for n, tree in enumerate(trees)
    }
    first = race(steps, rounds, warmup=1, least=1e-3)
    best = min(first.seconds, key=lambda name: min(first.seconds[name]))
    ratio = 1.0
    if best != "0":
        second = race({n: steps[n] for n in ("0", best)}, 3 * rounds, warmup=1, least=2e-3)
        ratio = second.ratio("0", best).minima
    return {
        "equation": str(network),
        "sizes": dict(sizes),
        "tokens": tokens,
        "trees": len(trees),
        "ratio": ratio,
        "planned": str(trees[0]),
        "best": str(trees[int(best)]),
        "seconds": min(first.seconds[best]),
    }


def _size(tensor: Tensor) -> float:
    return float(tensor.detach().square().mean().sqrt())


def _catalogue(tokens: Sequence[int]) -> Iterator[tuple[str, Network, dict[str, int], int]]:
    wanted = {"layer": 4, "proj": 3, "site": 12, "head": 4, "head_dim": 64, "out": 256, "in": 256}
    for name in (*FACTORS, "lokr"):
        if name in ("lora", "tt_lora"):  # two cores have one sensible order; six take hours
            continue
        family = resolve(name)
        for rank in (4, 16):
            sizes = {i: wanted.get(i, rank) for i in family.network.indices}
            sizes.update({i: 16 for i in ("o1", "o2", "i1", "i2") if i in sizes})
            for count in tokens:
                yield name, family.network, sizes, count


def main(args: argparse.Namespace) -> None:
    """Compare over the catalogue and over random networks; print and keep."""
    torch.set_num_threads(1)
    rows = []
    catalogue = list(_catalogue((16,) if args.smoke else (16, 394)))
    count = 1 if args.smoke else 200
    for name, network, sizes, tokens in catalogue[:2] if args.smoke else catalogue:
        found = compare(network, sizes, tokens, each=2, rounds=2 if args.smoke else 5)
        rows.append({"name": name, "kind": "catalogue", **found})
    for number in range(count):
        found = compare(*random_network(number), each=2, rounds=2 if args.smoke else 5)
        rows.append({"name": f"random {number}", "kind": "random", **found})
    for kind in ("catalogue", "random"):
        ratios = [row["ratio"] for row in rows if row["kind"] == kind]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"{kind}: {len(ratios)} networks, geometric mean {mean:.3f}, worst {max(ratios):.2f}")
    for row in sorted(rows, key=lambda row: -row["ratio"])[:12]:
        print(f"  {row['ratio']:.2f}  {row['name']:28} {row['tokens']:4} tokens  {row['equation']}")
        print(
            f"        planned {row['planned']}  best {row['best']}  {row['seconds'] * 1e3:.2f} ms"
        )
    if args.save:
        save("trees", args.command, rows, args.out)
