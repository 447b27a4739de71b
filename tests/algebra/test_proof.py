"""The checker: what it accepts holds in numbers, and a mutated witness is refused."""

from __future__ import annotations

import pytest

import tenslora as tl
from tenslora.algebra.proof import check_networks
from tenslora.spec import parse
from tenslora.testing import holds_in_numbers

LORA = parse("W[layer out in] = B[layer out r] A[layer r in]")
TRAIN = parse("W[layer out in] = V[out b] S[layer b a] U[a in]")
WITNESS = {
    "V": "V[out (layer r)] = B[layer out r]",
    "S": "S[layer (l r) (m s)] = eye[layer l m] eye[r s]",
    "U": "U[(layer r) in] = A[layer r in]",
}


def test_steps_are_printed():
    text = str(check_networks(LORA, TRAIN, WITNESS))
    assert text.splitlines()[-4:] == [
        "  general     W[layer out in] = V[out b] S[layer b a] U[a in]",
        "  substitute  W[layer out in] = B[layer2 out r] eye[layer layer2 m] eye[r s] A[m s in]",
        "  copy, unit  W[layer out in] = B[layer out s] A[layer s in]",
        "  special     W[layer out in] = B[layer out r] A[layer r in]",
    ]


REFUSED = {
    "constant changed": ({"S": "S[layer (l r) (m s)] = eye[layer l m] ones[r s]"}, "E135"),
    "copies apart": ({"S": "S[layer (l r) (m s)] = eye[l m] eye[r s] ones[layer]"}, "E135"),
    "indices swapped": ({"V": "V[out (r layer)] = B[layer out r]"}, "E135"),
    "a core too much": (
        {"U": "U[(layer r) in] = A[layer r in] A[layer r in]"},
        r"E135: the witness gives another network: there is A\[layer . in\] too much",
    ),
    "a core is missing": (
        {"V": "V[out (layer r)] = ones[out] ones[layer r]"},
        "E13[35]",
    ),
    "the other core": ({"V": "V[out (layer r)] = A[layer r out]"}, "E135"),
    "no line": ({"V": ""}, "E131: the witness says nothing of core V"),
    "unknown core": ({"V": "V[out (layer r)] = C[layer out r]"}, "E131"),
    "unknown line": ({"X": "X[out r] = B[layer out r]"}, "E13"),
    "free on the left": ({"V": "V[out (layer r x)] = B[layer out r]"}, "E133"),
    "free on the right": ({"V": "V[out layer] = B[layer out r]"}, "E133"),
    "too few slots": ({"V": "V[(out layer r)] = B[layer out r]"}, "E132"),
    "feature renamed": ({"V": "V[o (layer r)] = B[layer o r]"}, "E132"),
    "slots of a core": ({"V": "V[out (layer r)] = B[(layer out) r]"}, "E132"),
    "groups of eye": ({"S": "S[layer (l r) (m s)] = eye[layer (l m)] eye[r s]"}, "E132"),
    "twice": ({"X": WITNESS["V"]}, "E131"),
    "twice on the left": ({"V": "V[out (r r)] = B[r out r]"}, "E132"),
    "no witness": ({"V": 3}, "E102"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    changes, code = REFUSED[name]
    lines = [line for line in {**WITNESS, **changes}.values() if line != ""]
    with pytest.raises(tl.TensloraError, match=code):
        check_networks(LORA, TRAIN, lines)


def test_the_first_core_that_differs_is_named():
    lines = {**WITNESS, "V": "V[out (layer r)] = B[layer out s] eye[r s]", "U": WITNESS["U"]}
    check_networks(LORA, TRAIN, lines)  # the same in other words
    with pytest.raises(tl.TensloraError) as caught:
        check_networks(LORA, TRAIN, {**lines, "U": "U[(layer r) in] = ones[layer r in]"})
    assert "A[layer r in] is missing" in str(caught.value)


def test_sizes_that_differ_are_not_joined():
    square = parse("W[out in] = T[out in]")
    with pytest.raises(tl.TensloraError, match="makes the size of 'out' that of 'in'"):
        check_networks(
            parse("W[out in] = B[out r] A[r in]"),
            square,
            "T[out in] = B[out r] A[r out] eye[out in]",
        )


def test_sums():
    two = parse("W[out in] = B[out r] A[r in] + D[out s] C[s in]")
    one = parse("W[out in] = B[out r] A[r in]")
    proof = check_networks(
        one,
        two,
        "B[out r] = B[out r]; A[r in] = A[r in]; D[out ()] = zeros[out]; C[() in] = ones[in]",
    )
    assert proof.ranks == {"r": ("r",), "s": ()}
    assert holds_in_numbers(proof, {"out": 2, "in": 3, "r": 2})
    full = parse("W[out in] = T[out in]")
    assert holds_in_numbers(
        check_networks(two, full, "T[out in] = B[out r] A[r in] + D[out s] C[s in]"),
        {"out": 2, "in": 3, "r": 2, "s": 1},
    )


def test_a_core_in_two_places():
    square = parse("W[out in] = B[out r] M[r s] M[s t] A[t in]")
    plain = parse("W[out in] = B[out r] A[r in]")
    proof = check_networks(
        plain, square, "B[out r] = B[out r]; M[r s] = eye[r s]; A[r in] = A[r in]"
    )
    assert holds_in_numbers(proof, {"out": 2, "in": 3, "r": 2})
    back = check_networks(square, plain, "B[out r] = B[out x] M[x y] M[y r]; A[r in] = A[r in]")
    assert holds_in_numbers(back, {"out": 2, "in": 3, "r": 2, "s": 2, "t": 2})
    with pytest.raises(tl.TensloraError, match="E135"):
        check_networks(square, plain, "B[out r] = B[out x] M[x r]; A[r in] = A[r in]")


def test_an_array_that_is_read_in_two_ways():
    """Found by the long run: M is (layer out) in one place and (proj in) in the other."""
    two = parse("W[layer proj out in] = M[(layer out)] M[(proj in)] A[layer in]")
    full = parse("W[layer proj out in] = T[layer proj out in]")
    proof = check_networks(
        two, full, "T[layer proj out in] = M[(layer out)] M[(proj in)] A[layer in]"
    )
    assert holds_in_numbers(proof, {"layer": 2, "out": 3, "proj": 3, "in": 2})
    one = parse("W[layer (o1 o2) in] = A0[o1 in] A1[(o1 o2)] A2[layer in b] A1[b]")
    full = parse("W[layer (o1 o2) in] = T[layer o1 o2 in]")
    proof = check_networks(
        one, full, "T[layer o1 o2 in] = A0[o1 in] A1[(o1 o2)] A2[layer in b] A1[b]"
    )
    assert holds_in_numbers(proof, {"layer": 2, "o1": 2, "o2": 3, "in": 2, "b": 6})


def test_frozen_cores_are_not_filled_from_trained_ones():
    with pytest.raises(tl.TensloraError, match=r"E134: core B of .* is frozen, b is trained"):
        check_networks(
            parse("W[out in] = b[out r] A[r in]"),
            parse("W[out in] = B[out r] A[r in]"),
            "B[out r] = b[out r]; A[r in] = A[r in]",
            frozen_general=("B",),
        )


def test_other_targets_are_refused():
    with pytest.raises(tl.TensloraError, match="E130"):
        check_networks(LORA, parse("W[out in] = T[out in]"), "T[out in] = ones[out in]")


MESSAGES = {
    "other targets": (
        lambda: tl.check("lora", "W[out in] = B[out r] A[r in]", ""),
        "E130: W[layer proj out in] and W[out in] have different sites\n"
        "  The first has layer proj, which the second has not: split or restrict one.",
    ),
    "an unknown core": (
        lambda: tl.check("W[out in] = B[out r] A[r in]", "W[out in] = T[out in]",
                         "T[out in] = C[out r] A[r in]"),
        "E131: C in T[out in] = C[out r] A[r in] is no core of W[out in] = B[out r] A[r in]\n"
        "  A value is made of B, A, eye, ones, zeros.",
    ),
    "a free index": (
        lambda: tl.check("W[out in] = B[out r] A[r in]", "W[out in] = T[out in]",
                         "T[out in] = B[out r] A[s in]"),
        "E133: index 'r' is free in T[out in] = B[out r] A[s in]: it occurs in one core only\n"
        "  Put it among the slots on the left, or give it to a second core.",
    ),
    "a wrong witness": (
        lambda: tl.check("W[out in] = B[out r] A[r in]", "W[out in] = T[out in]",
                         "T[out in] = B[out r] ones[r in]"),
        "E135: the witness gives another network: A[r in] is missing\n"
        "  It gives W[out in] = B[out r] ones[in r]; wanted is W[out in] = B[out r] A[r in].",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_said(name):
    call, text = MESSAGES[name]
    with pytest.raises(tl.TensloraError) as caught:
        call()
    assert str(caught.value) == text


def test_a_witness_that_makes_too_many_products_is_refused_at_once():
    bare = "W[out in] = " + " ".join(f"B{n}[out]" for n in range(14)) + " A[in]"
    sums = "".join(f"B{n}[out] = B[out] + B[out];" for n in range(14))
    with pytest.raises(tl.TensloraError) as caught:
        tl.check("W[out in] = B[out] A[in]", bare, f"{sums} A[in] = A[in]")
    assert str(caught.value) == (
        "E137: the witness makes 16,384 products; the limit is 1,000\n"
        "  Write fewer sums, or prove it in two steps."
    )


def test_the_key_of_an_entry_is_its_core():
    lora, full = "W[out in] = B[out r] A[r in]", "W[out in] = T[out in]"
    assert tl.check(lora, full, {"T": "T[out in] = B[out r] A[r in]"})
    with pytest.raises(tl.TensloraError, match="E131: the entry 'X' of the witness defines T"):
        tl.check(lora, full, {"X": "T[out in] = B[out r] A[r in]"})
    with pytest.raises(tl.TensloraError, match="E131: the entry 'T' of the witness defines no"):
        tl.check(lora, full, {"T": " "})
