"""The bounded search for the cheapest way of hosting cores, beside trying them all."""

from __future__ import annotations

import math
from itertools import combinations, product

import pytest
from hypothesis import given

import tenslora as tl
from tenslora.algebra import eliminate
from tenslora.algebra.align import align
from tenslora.algebra.hosting import best_hostings
from tenslora.algebra.routing import Graph, nominal_sizes
from tenslora.testing import witnesses

NOTHING = frozenset(), frozenset()


def everything(small, large):
    """The least cost of all ways, and of those without a size in a rank, from the definition.

    An index is brought by bonds, as few as may be, to all cores whose hosted cores carry it; a core
    then has as many entries as the sizes on it, the indices on a bond being its size.
    """
    sizes = nominal_sizes(small)
    known = set(small.target.indices)
    hosts = large.terms[0].cores
    bonds = [i for i in large.terms[0].indices if i not in known]

    def joined(chosen):
        part = list(range(len(hosts)))
        for bond in chosen:
            meet = {part[n] for n, core in enumerate(hosts) if bond in core.indices}
            part = [min(meet) if p in meet else p for p in part]
        return part

    routes = [
        (chosen, joined(chosen))
        for count in range(len(bonds) + 1)
        for chosen in combinations(bonds, count)
    ]

    def carried(index, at):
        """The fewest bonds over which `index` meets all cores of `at`; none where they cannot."""
        natives = [n for n, core in enumerate(hosts) if index in core.indices]
        for chosen, part in routes:
            ends = {part[n] for n in at}
            have = {part[n] for n in natives}
            if ends <= have if index in known else len(ends) < 2:
                return chosen
        return None

    least = {False: math.inf, True: math.inf}
    cores = small.terms[0].cores
    for way in product(range(len(hosts)), repeat=len(cores)):
        on = {}
        for index in small.terms[0].indices:
            held = [n for n, core in zip(way, cores, strict=True) if index in core.indices]
            on[index] = carried(index, held)
        if any(chosen is None for chosen in on.values()):
            continue
        size = {bond: math.prod(sizes[i] for i in on if bond in on[i]) for bond in bonds}
        cost = sum(math.prod(size.get(i, sizes.get(i)) for i in core.indices) for core in hosts)
        free = not any(on[i] for i in on if i in known)
        for kind in {free, False}:
            least[kind] = min(least[kind], cost)
    return least


def cost(small, large, way):
    sizes = nominal_sizes(small)
    if way is None:
        return math.inf
    bonds = {b: [i for i, on in way.routes.items() if b in on] for b in large.bonds}
    size = {b: math.prod(sizes[i] for i in held) for b, held in bonds.items()}
    cores = large.terms[0].cores
    return sum(math.prod(size.get(i, sizes.get(i)) for i in core.indices) for core in cores)


def agrees(one, two):
    graph = Graph(two, two.terms[0])
    found = best_hostings(one, one.terms[0], graph, NOTHING, 10**6)
    wanted = everything(one, two)
    assert cost(one, two, found.cheapest) == pytest.approx(wanted[False], rel=1e-9)
    assert cost(one, two, found.free) == pytest.approx(wanted[True], rel=1e-9)
    assert found.tried <= found.ways


@pytest.mark.parametrize(
    ("special", "general"),
    [
        ("lora", "tenslora.att"),
        ("lora", "tenslora.qkv_depth"),
        ("tenslora.depth", "lotr"),
        ("tenslora.qkv_depth", "metatt4"),
        ("metatt4", "lorta"),
        ("lotr", "tt_lora"),
    ],
)
def test_pairs_of_the_catalogue(special, general):
    one, two, _ = align(tl.resolve(special).network, tl.resolve(general).network)
    agrees(one, two)


@given(witnesses(max_cores=4))
def test_random_pairs_over_one_target(proof):
    one, two = eliminate(proof.special), eliminate(proof.general)
    if len(one.terms) == len(two.terms) == 1:
        agrees(one, two)


def test_most_ways_are_given_up_together():
    one, two, _ = align(
        tl.resolve("tenslora.att_qkv_depth").network,
        tl.resolve("tenslora_cp.att_qkv_depth").network,
    )
    found = best_hostings(one, one.terms[0], Graph(two, two.terms[0]), NOTHING, 10**6)
    assert found.ways == 5**6
    assert found.tried < found.ways / 10
