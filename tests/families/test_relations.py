"""Equalities and inclusions between published methods: proofs, and the same in numbers."""

from __future__ import annotations

import re
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tenslora as tl
from tenslora.algebra import parse_witness
from tenslora.errors import SpecError
from tenslora.families.inclusions import INCLUSIONS
from tenslora.families.relation import Relation, prove
from tenslora.families.relations import RELATIONS
from tenslora.testing import assert_special_case, holds_in_numbers, sizes

EVERY = [*RELATIONS, *INCLUSIONS]
SEVEN = ["att", "att_depth", "att_qkv", "att_qkv_depth", "depth", "qkv", "qkv_depth"]
FULL = "W[layer proj out in] = T[layer proj out in]"


@pytest.fixture(params=EVERY, ids=lambda r: f"{r.number}-{r.text}", scope="module")
def relation(request):
    return request.param


def test_it_is_proved_and_holds_in_numbers(relation):
    proof = prove(relation)

    @settings(max_examples=max(1, settings().max_examples // 4))
    @given(sizes(proof.special, max_size=3), st.integers(0, 2**32 - 1))
    def holds(drawn, seed):
        assert holds_in_numbers(proof, drawn, seed)

    holds()


def test_every_mutated_witness_is_refused_or_says_the_same(relation):
    """One index for another, two swapped, a constant changed, a core dropped or doubled.

    What is accepted all the same has to be true: it is another way to write the witness.
    """
    definitions = parse_witness(relation.witness).definitions
    for which, definition in enumerate(definitions):
        left, right = str(definition).split(" = ", 1)
        refused = 0
        for mutated in sorted(_mutations(right)):
            lines = [
                f"{left} = {mutated}" if n == which else str(d) for n, d in enumerate(definitions)
            ]
            try:
                proof = prove(_with(relation, lines))
            except SpecError:
                refused += 1
                continue
            for twos in (0, 1):
                drawn = {i: 2 + twos * (n % 2) for n, i in enumerate(proof.special.indices)}
                assert holds_in_numbers(proof, drawn), "\n".join(lines)
        assert refused, f"nothing is wrong with any {left} = ..."


def _with(relation: Relation, lines: list[str]) -> Relation:
    return Relation(**{**vars(relation), "witness": "\n".join(lines)})


def _swapped(one, two, found):
    return {one: two, two: one}.get(found[0], found[0])


def _mutations(right):
    found = set()
    names = sorted(set(re.findall(r"(?<=[\[ (])\w+(?=[\] )])", right)))
    for one in names:
        for two in names:
            found.add(re.sub(r"\w+(?![\w\[])", partial(_swapped, one, two), right))
            for place in re.finditer(rf"\b{one}\b(?!\[)", right):
                found.add(right[: place.start()] + two + right[place.end() :])
    for one in ("eye[", "ones["):
        for two in ("eye[", "ones[", "zeros["):
            found.add(right.replace(one, two, 1))
    cores = re.findall(r"\w+\[[^\]]*\]", right)
    found |= {" ".join(cores[:n] + cores[n + 1 :]) for n in range(len(cores)) if len(cores) > 1}
    found |= {" ".join([*cores, core]) for core in cores}
    found.add(f"{right} + {right}")
    found.add(right.replace(cores[0], f"zeros[{cores[0].split('[', 1)[1]}", 1))
    return found - {right}


def test_all_fifteen_equalities_are_there():
    assert {relation.number for relation in RELATIONS} == set(range(1, 16))


def test_an_equality_has_both_directions():
    """As far as the list says "=": the converse is a relation as well."""
    for number in (1, 2, 4, 5, 7, 8, 10, 11, 13, 14):
        assert sum(relation.number == number for relation in RELATIONS) >= 2


@pytest.mark.parametrize("name", SEVEN)
def test_every_construction_is_in_the_full_tucker_and_holds_lora(name):
    if name != "att_qkv_depth":
        assert_special_case(f"tenslora.{name}", "tenslora.att_qkv_depth")
    assert_special_case("lora", f"tenslora.{name}")
    assert_special_case(f"tenslora_cp.{name}", f"tenslora.{name}")


def test_every_family_is_in_the_full_tensor_and_in_lora():
    for name, family in tl.registered().items():
        if set(family.network.sites) in ({"layer", "proj"}, {"site"}):
            assert_special_case(name, FULL)
            assert_special_case(name, "lora")


NOT_INCLUDED = {
    ("lora", "lora_xs"): "frozen cores bound the larger network to 4",
    ("tenslora.att_qkv_depth", "fourierft"): "frozen cores bound",
    ("lora", "W[layer proj out in] = C[layer out] B[proj in]"): "rank 1 at most between",
    ("lora", "W[layer proj out in] = B[proj out r] A[proj r in]"): "no core .* carries 'layer'",
    ("lotr", "W[layer proj out in] = B[out r] A[r in]"): "no core .* carries",
    ("lora", "W[layer proj out in] = D[layer] B[proj out r] A[proj r in]"): "rank 1 at most",
}


@pytest.mark.parametrize(("special", "general"), NOT_INCLUDED)
def test_what_is_not_included_has_a_counterexample(special, general):
    found = tl.embeds(special, general)
    assert type(found).__name__ == "Refutation"
    assert re.search(NOT_INCLUDED[special, general], found.reason)
    with pytest.raises(AssertionError, match="not a special case"):
        assert_special_case(special, general)
