"""Sizes in a proof: an array read in several ways, bonds that constants carry, groups of eye."""

from __future__ import annotations

import pytest

import tenslora as tl
from tenslora.algebra import Proof
from tenslora.testing import assert_special_case, holds_in_numbers

FULL = "W[out in] = T[out in]"


def refused(*pair: object) -> str:
    with pytest.raises(tl.TensloraError) as caught:
        tl.check(*pair)
    return str(caught.value)


READ_TWICE = {
    "in two terms": (
        "W[out in] = C[out] D[in] M[(c d)] u[c] v[d] "
        "+ B[out] A[in] M[(a b)] ones[b] M[(a e)] ones[e]",
        {"out": 2, "in": 3, "c": 2, "d": 3, "a": 3, "b": 2, "e": 2},
    ),
    "told by other cores": (
        "W[out in] = C[out] D[in] M[(c d)] u[c] v[d] + M[(a b)] N[a out] N[b in]",
        {"out": 3, "in": 3, "c": 1, "d": 4, "a": 2, "b": 2},
    ),
    "of the target": (
        "W[out in] = M[(out in)] + C[out] D[in] M[(c d)] u[c] v[d]",
        {"out": 2, "in": 3, "c": 1, "d": 6},
    ),
}


@pytest.mark.parametrize("name", READ_TWICE)
def test_an_array_is_read_as_the_comparison_tells(name):
    equation, sizes = READ_TWICE[name]
    proof = tl.embeds(equation, FULL)
    assert isinstance(proof, Proof), str(proof)
    assert holds_in_numbers(proof, sizes)


def test_one_array_has_one_reading_in_every_place_of_a_core():
    """T stands twice: what is inner to its value has the same sizes in both places."""
    two = "W[out in] = P[out x] P[out y] Q[x y in]"
    proof = tl.check(
        "W[out in] = M[out (c d)] K[c d] M[out (a b)] K[a b] A[in]",
        two,
        "P[out ()] = M[out (c d)] K[c d]; Q[() () in] = A[in]",
    )
    assert holds_in_numbers(proof, {"out": 2, "in": 3, "c": 2, "d": 3, "a": 2, "b": 3})


def test_sizes_of_bonds_that_only_ones_carry_are_compared():
    text = refused(
        "W[out in] = B[out s] A[s in] ones[r] ones[r]",
        "W[out in] = T[out in] w[q] v[q]",
        "T[out in] = B[out s] A[s in]; w[q] = ones[q] + zeros[q] B[x q] ones[x]; v[q] = ones[q]",
    )
    assert text.startswith(
        "E135: the witness gives another network: "
        "the size of 's' is there and that of 'r' is wanted\n"
    )


def test_a_size_that_only_the_comparison_tells():
    special = "W[out in] = T[out in] ones[r] ones[r]"
    proof = tl.check(special, special, "T[out in] = T[out in]")
    assert proof.ranks == {"r": ("r",)}
    assert_special_case(special, special)
    assert_special_case(special, "W[out in] = S[out in]")


def test_two_sizes_are_named_by_two_names():
    text = refused(
        "W[out in] = C[out c] D[c in] + N[a out] L[a in]",
        FULL,
        "T[out in] = C[out c] D[c in] + N[c out] eye[c d] L[e in] eye[d e] C[x c] ones[x]",
    )
    assert "makes the size of 'a' that of 'c'" in text


GROUPS = {
    "lengths that differ": "W[out in] = B[out x] eye[x (a b)] A[a b in]",
    "of the target": "W[out in] = eye[out (a b)] M[a b in]",
    "equal as a whole": "W[out in] = B[out a b] eye[(a b) (c d)] A[c d in]",
    "three slots": "W[out in] = B[out x] eye[x (a b) y] A[a b in] C[y]",
}


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("general", ["the full tensor", "itself"])
def test_eye_between_groups(name, general):
    special = GROUPS[name]
    proof = tl.embeds(special, FULL if general == "the full tensor" else special)
    assert isinstance(proof, Proof), str(proof)
    sizes = {"out": 6, "in": 2, "x": 6, "y": 6, "a": 2, "b": 3, "c": 3, "d": 2}
    held = {i: sizes[i] for i in proof.special.indices}
    assert holds_in_numbers(proof, held)


def test_eye_between_groups_in_a_witness():
    """As a whole where the equation says so; else name by name."""
    proof = tl.check(
        GROUPS["lengths that differ"], FULL, "T[out in] = B[out x] eye[x (a b)] A[a b in]"
    )
    assert holds_in_numbers(proof, {"out": 2, "in": 3, "x": 6, "a": 2, "b": 3})
    text = refused(
        "W[out in] = B[out x] eye[x (a b)] A[a b in] + C[out c] D[c in] E[c]",
        FULL,
        "T[out in] = B[out x] eye[x (a b)] A[a b in] + C[out c] eye[c (d e)] E[c] D[c in] K[d e]",
    )
    assert text.startswith("E131")
    text = refused(
        "W[out in] = B[out x] eye[x (a b)] A[a b in] + C[out c] D[c in]",
        FULL,
        "T[out in] = B[out x] eye[x (a b)] A[a b in] + C[out c] eye[c (d e)] eye[c (d e)] D[c in]",
    )
    assert text.startswith(("E132", "E135")), text


def test_eye_between_groups_is_taken_apart_in_pairs():
    special = "W[(h d) in] = B[(h d) r] A[r in]"
    general = "W[(h d) in] = P[(h d) s] Q[s in]"
    rest = "Q[(h d) in] = B[(h d) r] A[r in]"
    for line in ("P[(h d) (h2 d2)] = eye[(h d) (h2 d2)]", "P[(h d) (h2 d2)] = eye[h h2] eye[d d2]"):
        proof = tl.check(special, general, f"{line}; {rest}")
        assert proof.ranks == {"s": ("h", "d")}
        assert holds_in_numbers(proof, {"h": 2, "d": 3, "in": 2, "r": 2})


NAMED = "W[out in] = zeros[out r] A[r in]"


def test_a_core_that_is_called_zeros_is_no_constant():
    frozen = tl.family("W[out in] = B[out r] A[r in]", init={"A": "zeros"}, frozen="B")
    start = tl.family(NAMED, starts_nonzero=True)
    text = refused(start, frozen, "B[out r] = zeros[out r]; A[r in] = A[r in]")
    assert text.startswith("E134: core B of W[out in] = B[out r] A[r in] is frozen, zeros is train")
    given = tl.family(
        "W[out in] = B[out r] D[r in]", init={"D": "zeros"}, frozen="D", starts_nonzero=True
    )
    same = tl.family("W[out in] = B[out r] zeros[r in]", starts_nonzero=True, frozen="zeros")
    text = refused(same, given, "B[out r] = B[out r]; D[r in] = zeros[r in]")
    assert "has the value of a rule, zeros" in text
    proof = tl.check(NAMED, FULL, "T[out in] = zeros[out r] A[r in]")
    assert holds_in_numbers(proof, {"out": 2, "in": 3, "r": 2})


@pytest.mark.parametrize("value", ["ones[r] + ones[r]", "ones[r] ones[x] ones[x]"])
def test_ones_of_a_rule_are_ones(value):
    weighed = tl.family(
        "W[out in] = B[out r] d[r] A[r in]", init={"d": "ones", "B": "zeros"}, frozen="d"
    )
    twice = "W[out in] = B[out r] A[r in] + B[out r] A[r in]"
    more = "W[out in] = B[out r] A[r in] ones[r] ones[x] ones[x]"
    text = refused(
        twice if "+" in value else more,
        weighed,
        f"B[out r] = B[out r]; d[r] = {value}; A[r in] = A[r in]",
    )
    assert text.startswith("E134: core d of W[out in] = B[out r] d[r] A[r in] is frozen and has")
    tl.check(
        "W[out in] = B[out r] A[r in]",
        weighed,
        "B[out r] = B[out r]; d[r] = ones[r] ones[r]; A[r in] = A[r in]",
    )


def test_a_core_under_eye_may_carry_either_of_the_indices_that_it_ties():
    """Found by random networks: o1 and layer are equal, and A2 was wanted with the other."""
    special = (
        "W[layer proj (o1 o2 o3) (i1 i2 i3)] = eye[o1 layer e8] A0[(o2 o3) e8 i2] "
        "A1[proj (i3 i1)] ones[o2 i2] A2[layer o2 o3]"
    )
    general = (
        "W[layer proj (o1 o2 o3) (i1 i2 i3)] = Z0[z1 o1 o2] Z1[i2 i3 o1 z2 (z3 proj) z1] "
        "Z2[(layer z2 i3) o3] Z3[proj z3 (i1 o1)]"
    )
    assert_special_case(special, general)
    both = "W[out in] = eye[out in] T[out r] S[in r]"
    proof = tl.check(both, FULL, "T[out in] = eye[out in] T[in r] S[in r]")
    assert holds_in_numbers(proof, {"out": 3, "in": 3, "r": 2})
