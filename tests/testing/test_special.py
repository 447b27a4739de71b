"""assert_special_case, and the strategies for sizes, ranks and witnesses."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tenslora as tl
from tenslora.algebra import parse_witness
from tenslora.spec import complete_sizes, parse
from tenslora.testing import (
    assert_special_case,
    families,
    holds_in_numbers,
    random_bound,
    ranks,
    sizes,
    special,
    witnesses,
)

LORA, FULL = "W[out in] = B[out r] A[r in]", "W[out in] = T[out in]"


def test_names_equations_families_and_witnesses():
    assert assert_special_case("lotr", tl.resolve("tenslora.depth")).free is False
    proof = assert_special_case(LORA, FULL, "T[out in] = B[out r] A[r in]")
    assert str(proof.witness) == "T[out in] = B[out r] A[r in]"
    assert assert_special_case(LORA, FULL, proof.witness) == proof


def test_what_is_no_special_case_is_told_with_its_counterexample():
    with pytest.raises(AssertionError, match=r"not a special case .*\n.*\ndimension: .* bound"):
        assert_special_case("lora", "lora_xs")
    square = "W[out in] = B[out r] M[r s] M[s t] A[t in]"
    with pytest.raises(AssertionError, match="undecided"):
        assert_special_case(LORA, square)
    with pytest.raises(tl.TensloraError, match="E135"):
        assert_special_case(LORA, FULL, "T[out in] = B[out r] ones[r in]")


def test_a_proof_that_is_false_in_numbers_is_found(monkeypatch):
    proof = tl.check(LORA, FULL, "T[out in] = B[out r] A[r in]")
    wrong = dataclasses.replace(proof, witness=parse_witness("T[out in] = B[out r] ones[r in]"))
    assert holds_in_numbers(proof, {"out": 2, "in": 3, "r": 2})
    assert not holds_in_numbers(wrong, {"out": 2, "in": 3, "r": 2})
    monkeypatch.setattr(special, "check", lambda *given: wrong)
    with pytest.raises(AssertionError, match="false in numbers, at out=1 in=1 r=1"):
        assert_special_case(LORA, FULL, "")


@given(families(max_cores=4, max_terms=2), st.data())
def test_drawn_sizes_fit(family, data):
    drawn = data.draw(sizes(family))
    assert complete_sizes(family.network, drawn) == drawn
    assert set(data.draw(ranks(family, max_rank=3))) == set(family.bonds)


@given(st.data())
def test_sizes_that_an_equation_ties_to_each_other(data):
    drawn = data.draw(sizes(parse("W[(a b) in] = d[a] eye[(a b) in]"), max_size=3))
    assert drawn["a"] * drawn["b"] == drawn["in"]


@given(witnesses(max_cores=3))
def test_witnesses_are_proofs(proof):
    assert proof
    assert proof.special.target == proof.general.target


def test_a_random_family_is_that_of_its_seed():
    drawn = [random_bound(seed) for seed in range(50)]
    assert drawn == [random_bound(seed) for seed in range(50)]
    assert len({bound.network for bound in drawn}) > 40


def test_a_proof_is_tried_at_sizes_that_an_equation_ties_to_each_other(monkeypatch):
    tied = "W[out in] = B[out x] eye[x (a b)] A[a b in]"
    drawn = list(special._sizes(parse(tied)))
    assert sum(max(sizes.values()) > 1 for sizes in drawn) >= 2
    assert assert_special_case(tied, FULL)
    monkeypatch.setattr(special, "_sizes", lambda network: [dict.fromkeys(network.indices, 1)])
    with pytest.raises(AssertionError, match="no sizes above 1 were found to try the proof at"):
        assert_special_case(tied, FULL)


def test_a_frozen_core_that_changes_with_a_trained_one_is_found(monkeypatch):
    held = tl.family(LORA, frozen="A", starts_nonzero=True)
    proof = tl.check(held, held, "B[out r] = B[out r]; A[r in] = A[r in]")
    assert_special_case(held, held)
    monkeypatch.setattr(special, "check", lambda *given: proof)
    with pytest.raises(AssertionError, match="a frozen core with another value, A, at out=1"):
        assert_special_case(LORA, held, "")
    monkeypatch.undo()
    ones = tl.family(LORA, init={"A": "ones"}, frozen="A", starts_nonzero=True)
    false = dataclasses.replace(proof, witness=parse_witness(str(proof.witness)))
    monkeypatch.setattr(special, "check", lambda *given: false)
    with pytest.raises(AssertionError, match="a frozen core with another value, A"):
        assert_special_case(held, ones, "")


def test_a_rank_that_frozen_cores_do_not_have_is_found(monkeypatch):
    xs = tl.resolve("lora_xs")
    drawn = tl.family(xs.network, frozen=("U", "V"), starts_nonzero=True)
    proof = tl.check(drawn, drawn, "\n".join(f"{c} = {c}" for c in xs.network.cores.values()))
    monkeypatch.setattr(special, "check", lambda *given: proof)
    with pytest.raises(AssertionError, match=r"a frozen core with another value, [sr], at"):
        assert_special_case(drawn, xs, "")
