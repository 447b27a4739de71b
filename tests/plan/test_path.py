"""The search for an order: cases worked out by hand, limits, and that names do not matter."""

from __future__ import annotations

import random

import pytest

from tenslora.plan.cost import CPU, Profile
from tenslora.plan.path import Contraction, _solve, find_order, order_cost, smallest_peak

ARITHMETIC = Profile("arithmetic", 0.0, 4)
LORA = [("o", "r"), ("r", "i"), ("n", "i")]
SIZES = {"o": 8, "r": 2, "i": 16, "n": 10}


def lora(**changes):
    given = {"inputs": LORA, "output": ("n", "o"), "sizes": SIZES, "trained": [True] * 3}
    return Contraction(**{**given, **changes})


def test_the_cost_of_lora_by_hand():
    order = find_order(lora(), ARITHMETIC)
    assert order.pairs == ((1, 2), (0, 3))
    # two products of two FLOPs each, forward and two gradients
    assert order.cost == 3 * 2 * (10 * 16 * 2 + 10 * 2 * 8)
    # frozen B and A: forward, and the gradient of x
    frozen = find_order(lora(trained=[False, False, True]), ARITHMETIC)
    assert frozen.cost == 2 * 2 * (10 * 16 * 2 + 10 * 2 * 8)


def test_bytes_are_those_of_both_arrays_and_of_the_result():
    moved = order_cost(((1, 2), (0, 3)), lora(), Profile("bytes", 1.0, 2))
    arithmetic = order_cost(((1, 2), (0, 3)), lora(), ARITHMETIC)
    first, second = 2 * 16 + 10 * 16 + 10 * 2, 8 * 2 + 10 * 2 + 10 * 8
    assert moved - arithmetic == 3 * 2 * (first + second)


def test_what_meets_x_is_called_site_by_site():
    inputs = [("l", "o", "r"), ("s", "r"), ("l", "s", "i"), ("l", "n", "i")]
    sizes = {**SIZES, "l": 12, "s": 3}
    calls = Profile("calls", 0.0, 4, flops_per_call=1e6)
    asked = Contraction(inputs, ("l", "n", "o"), sizes, [True] * 4, x=3, sites=("l",))
    # all cores first: two calls for all sites, then one a site; each with two gradients
    assert find_order(asked, calls).cost // 1e6 == 3 * (1 + 1 + 12)
    assert find_order(asked, calls).pairs[-1][0] == 3


def test_one_array_needs_no_step():
    alone = Contraction([("a",)], ("a",), {"a": 3}, [True])
    assert find_order(alone, CPU).pairs == ()
    assert smallest_peak(alone, CPU) == 0


def test_a_limit_chooses_another_order():
    free = find_order(lora(sizes={**SIZES, "n": 1000}), CPU)
    assert free.pairs == ((1, 2), (0, 3))  # x A: 1000 x 2
    bound = find_order(lora(sizes={**SIZES, "n": 1000}), CPU, limit=4 * 8 * 16)
    assert bound.pairs == ((0, 1), (2, 3))  # B A: 8 x 16
    assert find_order(lora(sizes={**SIZES, "n": 1000}), CPU, limit=4 * 8 * 16 - 1) is None
    assert smallest_peak(lora(sizes={**SIZES, "n": 1000}), CPU) == 4 * 8 * 16


def test_a_result_may_be_bound_too():
    half = lora(bounded=True)
    assert find_order(half, CPU, limit=4 * 10 * 8) is not None
    assert find_order(half, CPU, limit=4 * 10 * 8 - 1) is None
    assert smallest_peak(half, CPU) == 4 * 10 * 8


@pytest.mark.parametrize("seed", range(20))
def test_other_names_and_another_order_of_the_arrays_ask_the_same(seed):
    draw = random.Random(seed)
    inputs = [("l", "o", "r"), ("p", "r", "s"), ("s", "i", "l"), ("e", "p"), ("l", "n", "i")]
    sizes = {"l": 4, "o": 8, "r": 2, "p": 3, "s": 5, "i": 16, "e": 7, "n": 10}
    trained = [True, False, True, True, True]
    first = Contraction(inputs, ("l", "n", "o", "e"), sizes, trained, x=4, sites=("l", "e"))
    found = find_order(first, CPU)
    searches = _solve.cache_info().misses
    new = dict(zip(sizes, draw.sample("abcdefgh", 8), strict=True))
    places = draw.sample(range(5), 5)
    other = Contraction(
        [tuple(draw.sample([new[i] for i in inputs[n]], len(inputs[n]))) for n in places],
        [new[i] for i in ("o", "e", "n", "l")],
        {new[i]: size for i, size in sizes.items()},
        [trained[n] for n in places],
        x=places.index(4),
        sites=[new["e"], new["l"]],
    )
    again = find_order(other, CPU)
    assert _solve.cache_info().misses == searches
    assert again.cost == found.cost == pytest.approx(order_cost(again.pairs, other, CPU))
