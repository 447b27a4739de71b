"""Budgets: counts are entries, ranks fit, nothing better is left, caps are ranks of matrices."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

from tenslora.algebra.redundancy import rank_cap
from tenslora.budget import count_parameters, fit_ranks, isorank
from tenslora.errors import SizeError
from tenslora.spec import core_shape, parse

LORA = parse("W[layer out in] = B[layer out r] A[layer r in]")
TUCKER = parse("W[layer out in] = U[in a] V[out b] D[layer c] G[a b c]")
HEADS = parse("W[layer (head k) in] = U[in a] V[k b] H[head c] D[layer d] G[a b c d]")
CP = parse("W[layer out in] = U[in r] V[out r] D[layer r]")
LOTR = parse("W[layer out in] = B[out s] G[layer s r] A[r in]")
SIZES = {"layer": 3, "out": 10, "in": 12}


def entries(network, sizes, frozen=()):
    shapes = {name: core_shape(core, sizes) for name, core in network.cores.items()}
    return sum(np.zeros(shape).size for name, shape in shapes.items() if name not in frozen)


def carried(network, ranks):
    """The bounds of TUCKER, LORA, CP and LOTR, written out."""
    if network is TUCKER:
        modes = {"a": 12, "b": 10, "c": 3}
        others = {b: math.prod(ranks.values()) // ranks[b] for b in ranks}
        return all(ranks[bond] <= min(modes[bond], others[bond]) for bond in ranks)
    if network is LOTR:
        # what both ends of a bond have of the layer is fixed; G carries it alone, so it counts
        return ranks["s"] <= min(10, 3 * ranks["r"]) and ranks["r"] <= min(12, 3 * ranks["s"])
    return network is CP or ranks["r"] <= 10


def every(network, highest):
    for values in itertools.product(range(1, highest + 1), repeat=len(network.bonds)):
        yield dict(zip(network.bonds, values, strict=True))


def test_isorank():
    assert isorank(TUCKER, 5) == {"a": 5, "b": 5, "c": 5}


@pytest.mark.parametrize("network", [LORA, TUCKER, CP, LOTR], ids=["lora", "tucker", "cp", "lotr"])
@pytest.mark.parametrize("frozen", [(), ("U", "A")])
def test_counts_are_entries(network, frozen):
    sizes = {**SIZES, **isorank(network, 4)}
    trained, still = count_parameters(network, sizes, frozen)
    assert trained == entries(network, sizes, frozen)
    assert trained + still == entries(network, sizes)


def test_a_core_that_stands_twice_counts_once():
    network = parse("W[a b] = B[a r] B[b r]")
    assert count_parameters(network, {"a": 5, "b": 5, "r": 2}) == (10, 0)


def test_constants_count_nothing():
    network = parse("W[layer out in] = B[out r] eye[r s] A[s in] ones[layer]")
    assert count_parameters(network, {**SIZES, "r": 2, "s": 2}) == (44, 0)


@pytest.mark.parametrize("network", [LORA, TUCKER, CP, LOTR], ids=["lora", "tucker", "cp", "lotr"])
@pytest.mark.parametrize("params", [70, 100, 173, 256, 391])
def test_against_every_choice(network, params):
    """Below the budget, carried, with no rank left to raise, and nearly the most there is."""
    found = fit_ranks(network, SIZES, params)
    count = entries(network, {**SIZES, **found})
    possible = {
        tuple(ranks.values()): entries(network, {**SIZES, **ranks})
        for ranks in every(network, 16)
        if carried(network, ranks) and entries(network, {**SIZES, **ranks}) <= params
    }
    assert tuple(found.values()) in possible
    for bond in found:
        assert tuple({**found, bond: found[bond] + 1}.values()) not in possible
    assert count >= 0.85 * max(possible.values())
    if len(found) == 1:
        assert count == max(possible.values())


@pytest.mark.parametrize("network", [TUCKER, HEADS], ids=["tucker", "heads"])
def test_what_equal_ranks_would_take_is_nearly_all_spent(network):
    sizes = {"layer": 6, "head": 4, "k": 8, "out": 32, "in": 32}
    sizes = {name: sizes[name] for name in network.target.indices}
    for rank in range(1, 7):
        together = {bond: min(rank, sizes.get(mode, rank)) for bond, mode in modes(network).items()}
        budget = entries(network, {**sizes, **together})
        found = fit_ranks(network, sizes, budget)
        assert entries(network, {**sizes, **found}) >= 0.95 * budget


def modes(network):
    factors = [core for core in network.cores.values() if core.name != "G"]
    return {core.indices[1]: core.indices[0] for core in factors}


def test_all_ranks_grow_together():
    """At 400 parameters of two modes of 32, neither rank runs away from the other."""
    found = fit_ranks(parse("W[out in] = B[out s] G[s r] A[r in]"), {"out": 32, "in": 32}, 700)
    assert abs(found["s"] - found["r"]) <= 2


def test_a_maximum_is_kept_and_the_others_go_on():
    free = fit_ranks(TUCKER, SIZES, 300)
    kept = fit_ranks(TUCKER, SIZES, 300, maximum={"b": 2})
    assert free["b"] > 2
    assert kept["b"] == 2
    assert kept["a"] > free["a"] or kept["c"] >= free["c"]


def test_frozen_cores_are_free_of_charge():
    vera = parse("W[layer out in] = b[layer out] B[out r] d[layer r] A[r in]")
    found = fit_ranks(vera, SIZES, 3 * (10 + 8) + 2, frozen={"A", "B"})
    assert found == {"r": 8}


def test_no_bonds_no_ranks():
    assert fit_ranks(parse("W[out in] = D[out in]"), {"out": 3, "in": 4}, 12) == {}


def test_the_largest_budget_stops_at_what_the_modes_carry():
    assert fit_ranks(LORA, SIZES, 10**9) == {"r": 10}
    assert fit_ranks(TUCKER, SIZES, 10**9) == {"a": 12, "b": 10, "c": 3}


def test_a_cheap_rank_takes_a_large_rest_in_leaps():
    """What is left when the dear rank r can rise no more pays for 100,000s of the cheap s."""
    network = parse(
        "W[layer out in] = B[layer out r] A[layer r in] g[layer r] + x[out s] y[in s] z[s]"
    )
    sizes, budget = {"layer": 10**6, "out": 4, "in": 2}, 1_006_000_000
    started = time.process_time()
    found = fit_ranks(network, sizes, budget)
    assert time.process_time() - started < 1.0
    dear, cheap = 10**6 * (4 + 2 + 1), 4 + 2 + 1
    assert found["r"] == 143
    assert 0 <= budget - found["r"] * dear - found["s"] * cheap < cheap


@pytest.mark.parametrize(
    ("network", "sizes", "params"),
    [
        (TUCKER, {"layer": 3, "out": 11, "in": 3}, 117),
        (TUCKER, {"layer": 4, "out": 12, "in": 5}, 232),
        (LOTR, {"layer": 6, "out": 11, "in": 3}, 122),
    ],
)
def test_where_one_rank_gave_way_for_another_the_rest_is_spent_too(network, sizes, params):
    found = fit_ranks(network, sizes, params)
    for bond in found:
        raised = {**sizes, **found, bond: found[bond] + 1}
        redundant = any(raised[b] > (rank_cap(network, b, raised) or 0) for b in found)
        assert redundant or entries(network, raised) > params


def test_too_small_a_budget_names_the_smallest():
    with pytest.raises(SizeError, match="E207") as info:
        fit_ranks(TUCKER, SIZES, 25)
    assert "params=25 is below" in str(info.value)
    assert ": 26\n" in str(info.value)  # 12 + 10 + 3 + 1
    assert fit_ranks(TUCKER, SIZES, 26) == {"a": 1, "b": 1, "c": 1}


def test_a_bond_between_frozen_cores_is_no_matter_of_trained_parameters():
    network = parse("W[layer out in] = b[layer out] B[out r] A[r in]")
    with pytest.raises(SizeError, match="E207") as info:
        fit_ranks(network, SIZES, 100, frozen={"A", "B"})
    assert "rank r stands on frozen cores only" in str(info.value)


def test_the_same_answer_every_time_and_at_once():
    sizes = {"layer": 32, "head": 32, "k": 128, "in": 4096}
    seconds, answers = [], set()
    for _ in range(3):
        started = time.process_time()
        answers.add(tuple(fit_ranks(HEADS, sizes, 4_000_000).items()))
        seconds.append(time.process_time() - started)
    assert len(answers) == 1
    assert min(seconds) < 0.1


@pytest.mark.parametrize(
    ("text", "sizes", "expected"),
    [
        ("W[layer out in] = B[layer out r] A[layer r in]", {}, 10),
        ("W[layer out in] = B[out r] A[layer r in]", {}, 10),  # A carries 3 x 12, B carries 10
        ("W[layer out in] = B[layer out r] A[r in]", {}, 12),
        ("W[layer out in] = U[in r] V[out b] D[layer c] G[r b c]", {"b": 2, "c": 3}, 6),
        ("W[layer out in] = U[in r] V[out b] D[layer c] G[r b c]", {"b": 9, "c": 3}, 12),
        ("W[layer out in] = U[in r] V[out b] D[layer c] G[r b c]", {"b": 9}, 12),  # c unknown
        ("W[layer out in] = U[in r] V[out r] D[layer r]", {}, None),
        ("W[layer out in] = V[out r] ones[r] A[layer in]", {}, 1),
        ("W[layer out in] = V[out r] eye[r s] A[s in] D[layer]", {"s": 7}, 7),
        ("W[layer out in] = B[out r] A[r in] + C[layer out r] E[r in]", {}, 12),
    ],
)
def test_caps(text, sizes, expected):
    assert rank_cap(parse(text), "r", {**SIZES, **sizes}) == expected


def test_a_cap_is_the_rank_of_the_modes_unfolding():
    """A Tucker tensor of ranks (5, 2, 2) has rank 4 along its first mode: 2 x 2."""
    rng = np.random.default_rng(0)
    ranks = {"a": 5, "b": 2, "c": 2}
    core = {n: rng.standard_normal(core_shape(c, SIZES | ranks)) for n, c in TUCKER.cores.items()}
    tensor = np.einsum("ia,ob,lc,abc->iol", *(core[n] for n in "UVDG"))
    for bond, axis in (("a", 0), ("b", 1), ("c", 2)):
        unfolded = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
        cap = rank_cap(TUCKER, bond, SIZES | ranks)
        assert np.linalg.matrix_rank(unfolded) == min(ranks[bond], cap)
