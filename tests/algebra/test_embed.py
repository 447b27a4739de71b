"""The search: what it finds is checked and holds in numbers; what it refutes is never true."""

from __future__ import annotations

import sys
import time
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tenslora as tl
from tenslora.algebra import check_networks
from tenslora.algebra.align import align, assignments
from tenslora.algebra.embed import Undecided, embed_networks
from tenslora.algebra.proof import Proof
from tenslora.algebra.refute import Refutation, refute_networks
from tenslora.algebra.search import find_witness
from tenslora.family.proving import embeds
from tenslora.spec import core_shape, parse
from tenslora.testing import (
    assert_special_case,
    dense,
    holds_in_numbers,
    networks,
    sizes,
    witnesses,
)

NAMES = sorted(tl.registered())


PAIRS = list(permutations(NAMES, 2))
# By a fixed rule, so that every run asks the same; the catalogue has some thousand pairs.
SAMPLE = PAIRS[:: max(1, len(PAIRS) // 150)]


def decide(pairs):
    """Prove or refute each pair, in time; what is proved holds in numbers."""
    for special, general in pairs:
        start = time.process_time()
        verdict = embeds(special, general, free=True)
        spent = time.process_time() - start
        assert spent < 3, (special, general)  # under a second on an idle machine
        assert "refused" not in str(verdict), str(verdict)
        if isinstance(verdict, Proof):
            assert_special_case(special, general, verdict.witness)
            assert refute_networks(verdict.special, verdict.general) is None
        elif isinstance(verdict, Undecided):
            assert verdict.notes or verdict.tried, str(verdict)


def test_pairs_of_the_catalogue():
    decide(SAMPLE)


@pytest.mark.slow
@pytest.mark.parametrize("special", NAMES)
def test_every_pair_of_the_catalogue(special):
    decide(pair for pair in PAIRS if pair[0] == special)


@given(witnesses(), st.data())
def test_a_connected_network_holds_any_other(proof, data):
    drawn = data.draw(sizes(proof.special, max_size=2))
    assert holds_in_numbers(proof, drawn)
    again = check_networks(proof.special, proof.general, str(proof.witness))
    assert again.ranks == proof.ranks


def test_an_array_in_two_places_is_read_in_the_one_that_the_other_cores_tell():
    special = "W[layer (head head_dim) in] = A[(head in)] A[(b c)] G[head_dim b c]"
    proof = embeds(special, "W[layer (head head_dim) in] = Z[layer head head_dim in]")
    assert isinstance(proof, Proof), str(proof)
    sized = {"layer": 2, "head": 2, "head_dim": 2, "in": 3, "b": 3, "c": 2}
    assert holds_in_numbers(proof, sized)


@given(networks())
def test_nothing_is_refuted_in_itself(network):
    assert refute_networks(network, network) is None


@given(networks(max_terms=2, max_cores=5), st.data())
def test_a_network_is_a_special_case_of_itself(network, data):
    verdict = embed_networks(network, network)
    assert not isinstance(verdict, Refutation)
    assert "refused" not in str(verdict)
    if isinstance(verdict, Proof):
        assert holds_in_numbers(verdict, data.draw(sizes(network, max_size=2)))


def test_a_network_with_a_group_in_two_orders_is_a_special_case_of_itself():
    network = parse("W[layer out (i1 i2 i3)] = A0[out i1 (b a)] A1[(a b) i2 i3]")
    proof = embed_networks(network, network)
    assert isinstance(proof, Proof), str(proof)
    ones = dict.fromkeys(["layer", "i1", "i2", "i3"], 2)
    assert holds_in_numbers(proof, {**ones, "out": 3, "a": 2, "b": 3})


def test_refuted_by_rank():
    product = "W[layer proj out in] = C[layer out] B[proj in r] A[r]"
    refutation = embeds("lora", product)
    assert isinstance(refutation, Refutation)
    assert not refutation
    assert refutation.law == "parts"
    assert refutation.reason == (
        "the larger network has rank 1 at most between layer out | proj in; here it is 9"
    )
    # the same by hand: (layer out) against (proj in) has rank 1
    network = parse(product)
    sizes = dict.fromkeys(network.indices, 3)
    generator = np.random.default_rng(1)
    cores = {n: generator.normal(size=core_shape(c, sizes)) for n, c in network.cores.items()}
    w = dense(network, cores, sizes).transpose(0, 2, 1, 3).reshape(9, 9)
    assert np.linalg.matrix_rank(w) == 1
    assert "drawn with seed 0 at" in str(refutation)


def test_refuted_by_dimension():
    """Three matrices that overlap in a ring: no cut has rank 1, but they are too few numbers.

    In logarithms the ring is a sum of three matrices, of dimension 27 - 9 + 1 = 19 by hand: the
    common parts are three vectors of 3, one constant of each of them counted twice.
    """
    ring = "W[layer out in] = X[layer out] Y[out in] Z[layer in]"
    refutation = embeds("W[layer out in] = B[layer out r] A[r in]", ring)
    assert isinstance(refutation, Refutation)
    assert refutation.law == "dimension"
    assert refutation.reason == (
        "the larger network has 19 dimensions and no rank to raise; here W has 27"
    )
    assert isinstance(embeds("W[layer out in] = b[layer] c[out] a[in]", ring), Proof)


def test_refuted_by_a_tied_site():
    tied = "W[layer out in] = B[out r] A[r in]"
    refutation = embeds("W[layer out in] = B[layer out r] A[r in]", tied)
    assert isinstance(refutation, Refutation)
    assert refutation.law == "tied"
    assert isinstance(embeds(tied, "W[layer out in] = B[layer out r] A[r in]"), Proof)


def test_undecided_says_how_far_it_looked():
    square = "W[out in] = B[out r] M[r s] M[s t] A[t in]"
    verdict = embeds("W[out in] = B[out r] A[r in]", square)
    assert isinstance(verdict, Undecided)
    assert not verdict
    assert "the larger network has one core in two places" in str(verdict)
    assert "no counterexample was found either" in str(verdict)


def test_a_sum_is_held_whole_by_one_core():
    two = "W[layer out in] = B[out r] A[r in] + d[layer out] e[in]"
    proof = assert_special_case(two, "W[layer out in] = B[layer out r] A[layer r in]")
    assert len(proof.witness.definitions[1].terms) + len(proof.witness.definitions[0].terms) == 3
    three = "W[out in] = T[out in] + S[out in] + B[out r] A[r in]"
    assert_special_case(three, "W[out in] = T[out in] + S[out in]")
    refuted = embeds(two, "W[layer out in] = d[layer out] e[layer in]")
    assert isinstance(refuted, Refutation)


def test_a_term_of_frozen_cores_may_vanish():
    less = tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"})
    more = tl.family(
        "W[out in] = B[out r] A[r in] + D[out s] C[s in]", frozen=("C", "D"), starts_nonzero=True
    )
    assert_special_case(less, more)


def test_constants_of_the_larger_network_are_eliminated():
    cp = "W[layer out in] = V[out r] S[layer r] U[in r]"
    tucker = "W[layer out in] = V[out a] S[layer b] U[in c] eye[a b c]"
    assert_special_case(cp, tucker)
    assert_special_case(tucker, cp)
    kept = "W[out in] = d[out] ones[in]"
    assert isinstance(embeds(kept, kept), Proof)
    verdict = embeds(kept, "W[out in] = f[out] ones[in]")
    assert "the larger network has constant cores" in str(verdict)


def test_the_bound_is_kept_and_told():
    lora, train = tl.resolve("lora").network, tl.resolve("tenslora.depth").network
    found = find_witness(lora, train, limit=3)
    assert found.tried == 3
    assert found.notes == ["stopped after 3; there are 16 ways in all"]


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
    assert "The first has layer proj, which the second has not: split or" in str(caught.value)


CHOSEN = {
    "LoRA is LoKr": ("lora", "lokr", "o1 is 1, o2 is out, i1 is 1, i2 is in"),
    "LoRA is C3A of blocks of 1": ("lora", "c3a", "m is out, o is 1, n is in, i is 1"),
    "a family whose first part is split": (
        "lokr", tl.split("lokr", "o1", "h1", "h2"),
        "h1 is 1, h2 is o1, o2 is o2, i1 is i1, i2 is i2"),
    "parts that fall elsewhere": (
        "W[(a b) in] = C[a] B[b in]", "W[(x y z) in] = C[x y] B[z in]", "x is 1, y is a, z is b"),
    "names that change places": (
        "W[(z y) in] = C[z] B[y in]", "W[(x y z) in] = C[x y] B[z in]", "x is 1, y is z, z is y"),
    "as many parts": (
        "W[(a b) in] = T[a b in]", "W[(a b) in] = C[s a] B[s b in] D[a]",
        ""),
    "a site that is several": (
        "W[site out in] = s[site] T[out in]", "W[layer proj out in] = s[layer] T[out in]",
        "layer is site, proj is 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOSEN)
def test_sizes_of_parts_are_chosen(name):
    """Refuted by mistake once: that parts of equal sizes do not go says nothing of others."""
    special, general, steps = CHOSEN[name]
    proof = assert_special_case(special, general)
    assert ", ".join(text for law, text in proof.steps if law == "align") == steps
    assert tl.check(special, general, proof.witness) == proof


def test_what_is_refuted_is_so_for_all_sizes_of_the_parts():
    """By hand: two sites cannot be told apart by C alone, whichever of its parts is the output."""
    two = "W[layer (o1 o2) in] = C[o1 in] B[o2 in]"
    refutation = embeds("W[layer out in] = B[layer out r] A[r in]", two)
    assert isinstance(refutation, Refutation)
    assert refutation.reason == (
        "no core of the larger network carries 'layer'; here W differs along it; "
        "refuted for all 2 ways to size its parts"
    )
    left_out = embeds(
        "W[layer out in] = B[layer out r] A[r in]", "W[layer (o1 o2) in] = C[o1] B[o2 in]"
    )
    assert isinstance(left_out, Undecided)
    assert "1 of 2 ways to size its parts are refuted" in str(left_out)


def test_what_is_proved_is_not_refuted_on_the_way():
    """The order is transitive where it is decided: tera in lora in lokr, so tera in lokr."""
    for one, two, three in (("tera", "lora", "lokr"), ("gralora", "lora", "c3a")):
        assert embeds(one, two)
        assert embeds(two, three)
        assert embeds(one, three)


SELVES = [
    "W[out in] = B[out (r s)] A[(r s) in] + B[out t] C[t in]",
    "W[out in] = A[a] B[(out a)] B[in] B[in]",
    "W[out in] = T[out in] ones[r] ones[r]",
    *("c3a", "fourierft", "craft"),
]


@pytest.mark.parametrize("one", SELVES)
def test_everything_is_a_special_case_of_itself(one):
    proof = assert_special_case(one, one)
    assert proof.ranks == {bond: (bond,) for bond in proof.general.bonds}
    assert isinstance(embeds(one, one, free=True), Proof)


def test_a_network_that_is_trained_is_not_itself_with_a_frozen_core():
    """No witness can be written, and a frozen core is not filled from a trained one."""
    network = parse(SELVES[0])
    assert isinstance(embed_networks(network, network), Proof)
    assert not embed_networks(network, network, frozen_general=("B",))
    assert embed_networks(network, network, frozen_special=("B",))


def test_the_order_of_families_with_one_name():
    free = tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"})
    held = tl.freeze(free, "A")
    with pytest.raises(tl.TensloraError) as caught:
        tl.lattice([free, held])
    assert str(caught.value) == (
        "E138: two different families are called W[out in] = B[out r] A[r in]\n"
        "  Give them names: tl.family(..., name='frozen')."
    )
    assert len(tl.lattice([free, free, "W[out in] = T[out in]"]).names) == 2
    with pytest.raises(tl.TensloraError, match="E138: there are no families to put in order"):
        tl.lattice([])


TIED = {
    "features": (
        "W[out in] = B[out r] A[r in]",
        "W[(o1 o2) (i1 i2)] = eye[o1 i1 z] R[z o2] C[z i2]",
    ),
    "sites": ("W[s out in] = T[s out in]", "W[l p out in] = eye[l p] R[l out in]"),
}


@pytest.mark.parametrize("name", TIED)
def test_a_part_of_1_makes_1_what_an_eye_ties_to_it(name):
    """W of the larger is of rank 1 for z = 1, and has at most as many entries as l * l."""
    assert isinstance(embeds(*TIED[name]), Undecided)


def test_a_witness_is_not_read_where_an_eye_would_lose_a_part():
    """W is diagonal there: with o1 = i1 = 1 it is a number a block of 1 by 1."""
    diagonal = "W[(o1 o2) (i1 i2)] = eye[o1 i1] eye[o2 i2] d[i1 i2]"
    with pytest.raises(tl.TensloraError, match="E13"):
        tl.check("W[out in] = b[in] ones[out]", diagonal, "d[in] = b[in]")


def test_ways_that_an_eye_forbids_are_refuted_with_the_others():
    """Each block of W is diagonal: a dense W of 3 by 3 is neither one block nor nine."""
    blocks = "W[l (o1 o2) (i1 i2)] = eye[o1 i1] d[l o1] b[l o2] c[l i2]"
    verdict = embeds("W[l out in] = B[l out r] A[l r in]", blocks)
    assert isinstance(verdict, Refutation), str(verdict)
    assert "all 4 ways" in verdict.reason


def test_numbers_are_those_of_the_network_before_it_was_aligned():
    proof = assert_special_case("lora", "lokr")
    sizes = dict.fromkeys(proof.special.indices, 2)
    lokr = tl.resolve("lokr").network
    assert holds_in_numbers(proof, sizes, general=lokr)
    tied = parse(str(lokr).replace("= C", "= eye[o1 i1 i2] C"))  # sizes that it cannot have
    assert not holds_in_numbers(proof, sizes, general=tied)


@pytest.mark.parametrize("eye", ["", " eye[layer z]"])
def test_ways_are_refuted_at_the_same_sizes_where_an_eye_ties_them(monkeypatch, eye):
    """At other sizes one of the ways may go, where a smaller W is not a piece of a larger one."""

    embed_module = sys.modules["tenslora.algebra.embed"]
    columns = iter([3, 3, 2, 3])

    def refute(special, general, **known):
        sizes = {**dict.fromkeys(special.indices, 3), "in": next(columns)}
        return Refutation(special, general, "parts", "at these sizes", sizes, 0)

    special = "W[layer out in] = B[layer out r] A[layer r in]"
    general = f"W[layer (o1 o2) in] = C[layer o1] D[{'z' if eye else 'layer'} o2] A[layer in]{eye}"
    monkeypatch.setattr(embed_module, "refute_networks", refute)
    assert isinstance(embeds(special, general), Refutation)
    assert isinstance(embeds(special, general), Undecided if eye else Refutation)


HEADS = "W[layer (head head_dim) in] = B[layer (head head_dim) r] A[layer r in]"
ONE_A_HEAD = "W[layer (head head_dim) in] = C[layer head] B[layer head_dim r] A[layer r in]"


def test_parts_of_one_name_are_one_thing_where_they_can_be():
    """Where they cannot, a proof says what it chose: one head is what C has one number for."""
    apart = "W[layer (head x y) in] = C[layer x] B[layer (head y) r] A[layer r in]"
    proof = assert_special_case(HEADS, apart)
    assert proof.parts == {"head": ("head",), "x": (), "y": ("head_dim",)}
    assert embeds(HEADS, ONE_A_HEAD).parts == {"head": (), "head_dim": ("head", "head_dim")}
    ways = assignments(parse("W[(b h) in] = T[b h in]"), parse("W[(e h x) in] = T[e h x in]"))
    assert next(ways) == {"e": ("b",), "h": ("h",), "x": ()}
