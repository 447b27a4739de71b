"""The order of contraction is the cheapest there is: against every tree, on random networks."""

from __future__ import annotations

import inspect
import math
import random

import pytest

from tenslora.plan.cost import CPU, H200_BF16, Profile
from tenslora.plan.path import best_order


def step_cost(left, right, kept, sizes, profile, passes, last):
    size = math.prod(sizes[i] for i in kept)
    union = left | right
    flops = math.prod(sizes[i] for i in union) * (2 if union - kept else 1)
    traffic = 0 if last else 2 * profile.itemsize * size
    return passes * (flops + profile.flops_per_byte * traffic)


def cheapest(arrays, output, sizes, profile):
    """The least cost over every tree, trying every pair; arrays are (indices, needs gradient)."""
    if len(arrays) == 1:
        return 0.0
    best = math.inf
    for a in range(len(arrays)):
        for b in range(a):
            rest = [x for n, x in enumerate(arrays) if n not in (a, b)]
            needed = output.union(*(indices for indices, _ in rest))
            (left, left_grad), (right, right_grad) = arrays[a], arrays[b]
            kept = (left | right) & needed
            passes = 1 + left_grad + right_grad
            cost = step_cost(left, right, kept, sizes, profile, passes, not rest)
            if cost >= best:
                continue
            joined = (frozenset(kept), left_grad or right_grad)
            best = min(best, cost + cheapest([*rest, joined], output, sizes, profile))
    return best


def cost_of(order, arrays, output, sizes, profile):
    nodes = dict(enumerate(arrays))
    total = 0.0
    for number, (a, b) in enumerate(order, start=len(arrays)):
        (left, left_grad), (right, right_grad) = nodes.pop(a), nodes.pop(b)
        kept = (left | right) & output.union(*(indices for indices, _ in nodes.values()))
        passes = 1 + left_grad + right_grad
        total += step_cost(left, right, kept, sizes, profile, passes, not nodes)
        nodes[number] = (frozenset(kept), left_grad or right_grad)
    assert len(nodes) == 1
    return total


def random_problem(rng):
    count = rng.randint(2, 5)
    names = "abcdefg"[: rng.randint(1, 7)]
    arrays = [set() for _ in range(count)]
    output = set()
    for name in names:
        where = rng.sample(range(count), rng.randint(1, min(3, count)))
        for n in where:
            arrays[n].add(name)
        if len(where) == 1 or rng.random() < 0.3:
            output.add(name)
    arrays = [indices for indices in arrays if indices]
    sizes = {name: rng.choice([1, 2, 3, 7, 40, 300]) for name in names}
    return [(frozenset(i), rng.random() < 0.6) for i in arrays], frozenset(output), sizes


@pytest.mark.parametrize("profile", [CPU, H200_BF16, Profile("arithmetic", 0.0, 4)])
def test_no_tree_is_cheaper(profile):
    rng = random.Random(profile.name)
    for _ in range(150):
        arrays, output, sizes = random_problem(rng)
        inputs = [indices for indices, _ in arrays]
        trained = [needed for _, needed in arrays]
        order = best_order(inputs, output, sizes, profile, trained)
        found = cost_of(order, arrays, output, sizes, profile)
        assert found == pytest.approx(cheapest(arrays, output, sizes, profile)), (arrays, sizes)


def test_the_callable_of_opt_einsum_has_the_arguments_that_we_take():
    from opt_einsum import paths

    expected = list(inspect.signature(paths._dp_compare_flops).parameters)
    assert expected == [
        "cost1", "cost2", "i1_union_i2", "size_dict", "cost_cap", "s1", "s2", "xn", "g",
        "all_tensors", "inputs", "i1_cut_i2_wo_output", "memory_limit", "contract1", "contract2",
    ]  # fmt: skip


def test_one_array_needs_no_step():
    assert best_order([{"a"}], {"a"}, {"a": 3}, CPU, [True]) == []
