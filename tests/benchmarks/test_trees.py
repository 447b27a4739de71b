"""The executor of the comparison of orders, and the planner's order as a tree."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.cases import resolve
from benchmarks.trees import (
    ROW,
    all_trees,
    canonical,
    make_problem,
    planned_tree,
    random_network,
    run_tree,
)
from tenslora import backends
from tenslora.plan import make_plan


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_every_binary_tree_is_there_once(count):
    trees = [canonical(tree) for tree in all_trees(tuple(range(count)))]
    assert len(set(trees)) == len(trees) == math.prod(range(1, 2 * count - 2, 2))


@pytest.mark.parametrize("number", [0, 1, 2, 3, 6])
def test_any_tree_and_the_planned_one_give_what_the_plan_gives(number):
    network, sizes, tokens = random_network(number)
    shared = ("proj",) if "proj" in network.sites else ()
    plan = make_plan(network, sizes, shared=shared, tokens=tokens)
    problem = make_problem(network, sizes, 3)
    generator = torch.Generator().manual_seed(number)
    values = [
        torch.randn([problem.sizes[i] for i in indices], generator=generator, dtype=torch.float64)
        for indices in problem.inputs
    ]
    # the plan reads one x at a site: give every layer the same
    varying = [i for i in problem.inputs[-1] if i not in (ROW, *network.input)]
    x = values[-1].reshape(3, -1, sizes["in"])[:, 0]
    values[-1] = x.reshape(3, *[1] * len(varying), -1).expand(values[-1].shape).contiguous()
    names = [core.name for core in network.terms[0].cores]
    cores = dict(zip(names, values[:-1], strict=True))
    run = backends.executable(plan, backends.get("torch"))
    expected = run.apply_stacked(cores, x)
    trees = list(all_trees(tuple(range(len(values)))))
    for tree in (planned_tree(plan), trees[0], trees[-1], trees[len(trees) // 2]):
        found = run_tree(problem, tree, values)
        sites = len(network.sites)
        found = found.permute(*range(1, sites + 1), 0, *range(sites + 1, found.dim()))
        torch.testing.assert_close(found.reshape(expected.shape), expected, rtol=1e-9, atol=1e-9)


def test_the_planned_tree_of_lora_goes_through_the_rank():
    family = resolve("lora")
    sizes = {"layer": 2, "proj": 3, "out": 64, "in": 64, "r": 2}
    plan = make_plan(family.network, sizes, shared=("proj",))
    assert canonical(planned_tree(plan)) == (0, (1, 2))
