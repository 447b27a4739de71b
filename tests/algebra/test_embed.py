"""The search: what it finds is checked and holds in numbers; what it refutes is never true."""

from __future__ import annotations

import time
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tenslora as tl
from tenslora.algebra.align import align
from tenslora.algebra.embed import Undecided, embed_networks
from tenslora.algebra.lifting import lift_arrays, lifted_sizes
from tenslora.algebra.proof import Proof
from tenslora.algebra.refute import Refutation, refute_networks
from tenslora.algebra.search import find_witness
from tenslora.family.proving import embeds
from tenslora.spec import Core, Network, Term, complete_sizes, core_shape
from tenslora.testing import dense, networks

NAMES = sorted(tl.registered())


def agree(proof, sizes, seed=0):
    generator = np.random.default_rng(seed)
    cores = {n: generator.normal(size=core_shape(c, sizes)) for n, c in proof.special.cores.items()}
    wanted = dense(proof.special, cores, sizes)
    found = dense(proof.general, lift_arrays(proof, cores, sizes), lifted_sizes(proof, sizes))
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10 * np.abs(wanted).max())


@pytest.mark.parametrize("special", NAMES)
def test_the_catalogue_is_decided_and_the_proofs_hold_in_numbers(special):
    for general in NAMES:
        if general == special:
            continue
        start = time.perf_counter()
        verdict = embeds(special, general)
        assert time.perf_counter() - start < 5  # under a second on an idle machine
        assert not isinstance(verdict, Undecided), (special, general)
        if isinstance(verdict, Proof):
            sizes = {i: 1 + n % 2 for n, i in enumerate(verdict.special.indices)}
            agree(verdict, sizes)
            assert refute_networks(verdict.special, verdict.general) is None


@given(data=st.data())
def test_drawn_pairs_of_the_catalogue(data):
    special, general = data.draw(st.permutations(NAMES))[:2]
    verdict = embeds(special, general, free=data.draw(st.booleans()))
    if isinstance(verdict, Proof) and general != "vera":  # vera holds out * in of everything
        sizes = {i: data.draw(st.integers(1, 2), label=i) for i in verdict.special.indices}
        agree(verdict, sizes, data.draw(st.integers(0, 99), label="seed"))


@st.composite
def connected(draw, network):
    """Draw a network over the same target whose cores are joined to a tree."""
    count = draw(st.integers(1, 4))
    held = [[] for _ in range(count)]
    for index in network.target.indices:
        for n in draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=2)):
            held[n].append(index)
    for n in range(1, count):
        bond = f"z{n}"
        held[n].append(bond)
        held[draw(st.integers(0, n - 1))].append(bond)
    cores = [
        Core(f"Z{n}", tuple((i,) for i in draw(st.permutations(h)))) for n, h in enumerate(held)
    ]
    return Network(network.target, (Term(tuple(core for core in cores if core.slots)),))


@given(data=st.data())
def test_a_connected_network_holds_any_other(data):
    special = data.draw(networks(max_terms=1, max_cores=4))
    general = data.draw(connected(special))
    verdict = embed_networks(special, general)
    if any(c.name == "eye" for t in special.terms for c in t.cores):
        return  # eye over groups is not searched
    assert isinstance(verdict, Proof), str(verdict)
    agree_or_skip(verdict)


@given(networks())
def test_nothing_is_refuted_in_itself(network):
    assert refute_networks(network, network) is None


@given(networks(max_terms=2, max_cores=5))
def test_a_network_is_a_special_case_of_itself(network):
    verdict = embed_networks(network, network)
    assert not isinstance(verdict, Refutation)
    if isinstance(verdict, Proof):
        agree_or_skip(verdict)


def agree_or_skip(proof):
    """Compare at equal sizes, where equal sizes fit the network."""
    sizes = dict.fromkeys(proof.special.indices, 2)
    try:
        complete_sizes(proof.special, sizes)
    except tl.TensloraError:
        return
    agree(proof, sizes)


def test_refuted_by_rank():
    refutation = embeds("lora", "lokr")
    assert isinstance(refutation, Refutation)
    assert not refutation
    assert refutation.law == "parts"
    # the same by hand: (o1 i1) against (o2 i2) has rank 1 for LoKr at each weight
    lokr = tl.resolve("lokr").network
    sizes = dict.fromkeys(lokr.indices, 3)
    generator = np.random.default_rng(1)
    cores = {n: generator.normal(size=core_shape(c, sizes)) for n, c in lokr.cores.items()}
    w = dense(lokr, cores, sizes)[0, 0].reshape(3, 3, 3, 3).transpose(0, 2, 1, 3).reshape(9, 9)
    assert np.linalg.matrix_rank(w) == 1
    assert "drawn with seed 0 at" in str(refutation)


def test_refuted_by_a_tied_site():
    tied = "W[layer out in] = B[out r] A[r in]"
    refutation = embeds("W[layer out in] = B[layer out r] A[r in]", tied)
    assert isinstance(refutation, Refutation)
    assert refutation.law == "tied"
    assert isinstance(embeds(tied, "W[layer out in] = B[layer out r] A[r in]"), Proof)


def test_undecided_says_how_far_it_looked():
    two = "W[out in] = B[out r] A[r in] + D[out s] C[s in]"
    verdict = embeds(two, "W[out in] = B[out r] A[r in]")
    assert isinstance(verdict, Undecided)
    assert not verdict
    assert "a sum of 2 in one of 1 terms" in str(verdict)
    assert "no counterexample was found either" in str(verdict)


def test_the_bound_is_kept_and_told():
    lora, train = tl.resolve("lora").network, tl.resolve("tenslora.depth").network
    found = find_witness(lora, train, limit=3)
    assert found.tried == 3
    assert any("3 of 16 ways" in note for note in found.notes)


def test_free_ranks_are_preferred_when_asked_for():
    cheap = embeds("tenslora.qkv_depth", "tenslora_cp.qkv_depth")
    free = embeds("tenslora.qkv_depth", "tenslora_cp.qkv_depth", free=True)
    assert free.free
    assert set(free.ranks["r"]) <= set("abcd")
    assert not cheap.free or cheap.ranks == free.ranks


def test_searching_is_deterministic():
    one, two = embeds("lora", "tenslora.att_qkv"), embeds("lora", "tenslora.att_qkv")
    assert one == two


@pytest.mark.parametrize(
    ("one", "two"),
    [("fact_tt", "lotr"), ("lokr", "tt_lora"), ("lora", "tenslora.att"), ("lokr", "tenslora.att")],
)
def test_aligned_targets_are_equal(one, two):
    first, second = tl.resolve(one).network, tl.resolve(two).network
    for a, b in permutations((first, second)):
        left, right, steps = align(a, b)
        assert left.target.slots == right.target.slots
        assert steps
        assert len(left.cores) == len(a.cores)


def test_sites_that_correspond_to_nothing():
    with pytest.raises(tl.TensloraError, match=r"E130: .* have different sites") as caught:
        embeds("lora", "W[out in] = B[out r] A[r in]")
    assert "Only the first has layer proj, only the second none" in str(caught.value)
