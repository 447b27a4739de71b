"""Roles: which index is a site, a feature, a bond; which core is stored, shared, constant."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from tenslora.errors import SpecError
from tenslora.spec import Core, Network, Term, parse

TENSLORA = (
    "W[layer proj (head head_dim) in] = "
    "U[in a] V[head_dim b] H[head c] P[proj d] D[layer e] G[a b c d e]"
)


def test_roles_of_tenslora():
    n = parse(TENSLORA)
    assert n.sites == ("layer", "proj")
    assert n.output == ("head", "head_dim")
    assert n.input == ("in",)
    assert n.features == ("head", "head_dim", "in")
    assert n.bonds == ("a", "b", "c", "d", "e")
    assert n.indices == n.sites + n.features + n.bonds
    roles = ["site"] * 2 + ["output"] * 2 + ["input"] + ["bond"] * 5
    assert [n.role(index) for index in n.indices] == roles
    assert list(n.cores) == list("UVHPDG")


def test_role_of_a_name_that_is_not_there():
    with pytest.raises(KeyError):
        parse(TENSLORA).role("out")


def test_bonds_are_listed_once_over_all_terms_in_order_of_appearance():
    n = parse("W[out in] = B[out s] A[s in] + C[out r] M[r s] A[s in]")
    assert n.bonds == ("s", "r")


def test_cores_are_listed_once_and_constants_are_none():
    n = parse("W[site out in] = B[out r] eye[r s] A[s in] + ones[out] b[in] + A[out in]")
    assert list(n.cores) == ["B", "A", "b"]
    assert str(n.cores["A"]) == "A[s in]"  # the first of two ways in which it stands


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("W[layer proj out in] = B[layer proj out r] A[layer proj r in]", ("layer", "proj")),
        ("W[layer proj out in] = B[layer out r] A[layer proj r in]", ("layer",)),
        ("W[layer out in] = B[layer out r] A[r in]", ()),
        ("W[layer out in] = B[layer out r] eye[r s] A[layer s in]", ("layer",)),  # eye is no core
        ("W[layer out in] = ones[layer out] eye[out in]", ()),  # nothing is stored
        ("W[layer out in] = B[layer out in] + C[out in]", ()),
    ],
)
def test_sites_that_every_core_carries_are_independent(equation, expected):
    assert parse(equation).independent_sites == expected


def test_networks_are_values():
    n, same = parse(TENSLORA), parse(" ".join(TENSLORA.split()))
    assert n == same
    assert hash(n) == hash(same)
    assert n != parse(TENSLORA.replace("(head head_dim)", "(head_dim head)"))
    assert pickle.loads(pickle.dumps(n)) == n
    with pytest.raises(dataclasses.FrozenInstanceError):
        n.terms = ()


def test_a_network_made_by_hand_is_checked_like_a_text():
    target = Core("W", (("out",), ("in",)))
    term = Term((Core("B", (("out",), ("r",))), Core("A", (("r",), ("j",)))))
    with pytest.raises(SpecError) as info:
        Network(target, (term,))
    assert str(info.value) == (
        "E103: bond 'j' ends nowhere: it occurs in one core only.\n"
        "    W[out in] = B[out r] A[r j]\n"
        "                             ^\n"
        "  Did you mean A[r in]?"
    )


@pytest.mark.parametrize(
    ("core", "text"),
    [
        (
            Core("B", (("out",), ("in-put",))),
            "E101: 'in-put' is not a name\n"
            "    W[out in] = B[out in-put]\n"
            "                ^^^^^^^^^^^^^\n"
            "  Use letters, digits and _, with no digit in front.",
        ),
        (
            Core("B", (("out",), (), ("in",))),
            "E107: slot 1 of B is empty\n"
            "    W[out in] = B[out  in]\n"
            "                ^^^^^^^^^^\n"
            "  Drop it.",
        ),
    ],
)
def test_what_no_text_can_say_is_refused_too(core, text):
    with pytest.raises(SpecError) as info:
        Network(Core("W", (("out",), ("in",))), (Term((core,)),))
    assert str(info.value) == text


@pytest.mark.parametrize("terms", [(), (Term(()),)])
def test_a_network_without_cores(terms):
    with pytest.raises(SpecError) as info:
        Network(Core("W", (("out",), ("in",))), terms)
    assert str(info.value) == (
        "E102: a term has no core\n    W[out in]\n    ^^^^^^^^^\n  Write at least one core in it."
    )
