"""The checker: what it accepts holds in numbers, and a mutated witness is refused."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tenslora as tl
from tenslora.algebra.lifting import lift_arrays, lifted_sizes
from tenslora.algebra.proof import check_networks
from tenslora.algebra.witness import parse_witness
from tenslora.families.relations import RELATIONS, prove
from tenslora.spec import parse
from tenslora.testing import dense

LORA = parse("W[layer out in] = B[layer out r] A[layer r in]")
TRAIN = parse("W[layer out in] = V[out b] S[layer b a] U[a in]")
WITNESS = {
    "V": "V[out (layer r)] = B[layer out r]",
    "S": "S[layer (l r) (m s)] = eye[layer l m] eye[r s]",
    "U": "U[(layer r) in] = A[layer r in]",
}


def holds(proof, sizes, seed=0):
    """Whether W of both networks agree for drawn values of the special one's cores."""
    generator = np.random.default_rng(seed)
    shapes = {n: c.slots for n, c in proof.special.cores.items()}
    cores = {
        name: generator.normal(size=[int(np.prod([sizes[i] for i in s])) for s in slots])
        for name, slots in shapes.items()
    }
    wanted = dense(proof.special, cores, sizes)
    found = dense(proof.general, lift_arrays(proof, cores, sizes), lifted_sizes(proof, sizes))
    scale = np.abs(wanted).max()
    return bool(np.abs(found - wanted).max() <= 1e-10 * scale)


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda r: f"{r.number}-{r.text}")
@given(data=st.data())
def test_every_equality_holds_in_numbers(relation, data):
    proof = prove(relation)
    sizes = {i: data.draw(st.integers(1, 3), label=i) for i in proof.special.indices}
    assert holds(proof, sizes, data.draw(st.integers(0, 999), label="seed"))


def test_all_fifteen_are_there():
    assert {relation.number for relation in RELATIONS} == set(range(1, 16))


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
    assert holds(proof, {"out": 2, "in": 3, "r": 2})
    full = parse("W[out in] = T[out in]")
    assert holds(
        check_networks(two, full, "T[out in] = B[out r] A[r in] + D[out s] C[s in]"),
        {"out": 2, "in": 3, "r": 2, "s": 1},
    )


def test_a_core_in_two_places():
    square = parse("W[out in] = B[out r] M[r s] M[s t] A[t in]")
    plain = parse("W[out in] = B[out r] A[r in]")
    proof = check_networks(
        plain, square, "B[out r] = B[out r]; M[r s] = eye[r s]; A[r in] = A[r in]"
    )
    assert holds(proof, {"out": 2, "in": 3, "r": 2})
    back = check_networks(square, plain, "B[out r] = B[out x] M[x y] M[y r]; A[r in] = A[r in]")
    assert holds(back, {"out": 2, "in": 3, "r": 2, "s": 2, "t": 2})
    with pytest.raises(tl.TensloraError, match="E135"):
        check_networks(square, plain, "B[out r] = B[out x] M[x r]; A[r in] = A[r in]")


def test_an_array_that_is_read_in_two_ways():
    """Found by the long run: M is (layer out) in one place and (proj in) in the other."""
    two = parse("W[layer proj out in] = M[(layer out)] M[(proj in)] A[layer in]")
    full = parse("W[layer proj out in] = T[layer proj out in]")
    proof = check_networks(
        two, full, "T[layer proj out in] = M[(layer out)] M[(proj in)] A[layer in]"
    )
    assert holds(proof, {"layer": 2, "out": 3, "proj": 3, "in": 2})
    one = parse("W[layer (o1 o2) in] = A0[o1 in] A1[(o1 o2)] A2[layer in b] A1[b]")
    full = parse("W[layer (o1 o2) in] = T[layer o1 o2 in]")
    proof = check_networks(
        one, full, "T[layer o1 o2 in] = A0[o1 in] A1[(o1 o2)] A2[layer in b] A1[b]"
    )
    assert holds(proof, {"layer": 2, "o1": 2, "o2": 3, "in": 2, "b": 6})


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


MUTANTS = [(n, r) for n, r in enumerate(RELATIONS)]


@pytest.mark.parametrize(("n", "relation"), MUTANTS, ids=lambda v: getattr(v, "text", str(v)))
@given(data=st.data())
def test_a_mutated_witness_is_refused_or_true(n, relation, data):
    """Swap two indices, change a constant, drop or double a core: refused, or still exact."""
    definitions = parse_witness(relation.witness).definitions
    which = data.draw(st.integers(0, len(definitions) - 1))
    left, right = str(definitions[which]).split(" = ", 1)
    mutated = data.draw(st.sampled_from(sorted(_mutations(right))))
    lines = [f"{left} = {mutated}" if m == which else str(d) for m, d in enumerate(definitions)]
    try:
        proof = prove(type(relation)(**{**vars(relation), "witness": "\n".join(lines)}))
    except tl.TensloraError:
        return
    assert holds(proof, dict.fromkeys(proof.special.indices, 2))
    assert holds(proof, {i: 2 + k % 2 for k, i in enumerate(proof.special.indices)})


def _swapped(one, two, found):
    return {one: two, two: one}.get(found[0], found[0])


def _mutations(right):
    found = {right}
    names = re.findall(r"(?<=[\[ (])\w+(?=[\] )])", right)
    for one in set(names):
        for two in set(names) - {one}:
            found.add(re.sub(r"\w+(?![\w\[])", partial(_swapped, one, two), right))
            found.add(re.sub(rf"\b{one}\b(?!\[)", two, right, count=1))
    found |= {right.replace("eye[", "ones[", 1), right.replace("ones[", "zeros[", 1)}
    found |= {right.replace("eye[", "zeros[", 1), right + " " + right.split(" ")[0]}
    cores = re.findall(r"\w+\[[^\]]*\]", right)
    found |= {" ".join(cores[:k] + cores[k + 1 :]) for k in range(len(cores)) if len(cores) > 1}
    found |= {f"{right} + {right}"}
    return found
