"""Families in wrappers before any array exists: text, counts, budgets, JSON."""

from __future__ import annotations

import json

import pytest

import tenslora as tl
from tenslora.errors import FamilyError, SizeError, StateError
from tenslora.family import WRAPPERS, Wrapped, unwrap

SIZES = {"layer": 3, "proj": 2, "out": 10, "in": 6}
EXPERTS = "W[layer expert out in] = B[layer expert out r] A[layer r in]"


def test_text_names_the_wrapper_and_the_family():
    for text in ("dora(lora)", "hira( lora )", "router[expert](" + EXPERTS + ")"):
        family, wrapper = unwrap(text)
        assert Wrapped(wrapper, family).label.replace(" ", "") == text.replace(" ", "")
    assert unwrap("lora") == (tl.families.lora, None)
    assert unwrap(tl.dora("lora:4"))[0].ranks == {"r": 4}
    assert repr(tl.hira("lora")).startswith("hira: W' = W0 + W0 * W")
    assert tl.dora("lora")(r=3).family.ranks == {"r": 3}


def test_counts_have_what_the_wrapper_trains():
    plain = tl.families.lora.bind(SIZES, r=2).trainable_parameters
    assert plain == 3 * 2 * 2 * (10 + 6)
    assert tl.dora("lora").bind(SIZES, r=2).trainable_parameters == plain + 3 * 2 * 10
    assert tl.hira("lora").bind(SIZES, r=2).trainable_parameters == plain
    tied = tl.dora("W[out in] = B[out r] A[r in]").bind({"out": 10, "in": 6}, r=1, weights=24)
    assert tied.own_shapes == {"magnitude": (24, 10)}
    mixture = tl.router(EXPERTS).bind({"layer": 3, "expert": 4, "out": 10, "in": 6}, r=2)
    assert mixture.trainable_parameters == 3 * 4 * 10 * 2 + 3 * 2 * 6 + 3 * 4 * 6
    assert mixture.nbytes == 4 * mixture.trainable_parameters
    assert "gate 3x4x6: 72 trained" in repr(mixture)
    assert mixture.to_dict()["own"] == {"gate": [3, 4, 6]}


@pytest.mark.parametrize("name", ["dora", "hira"])
def test_a_budget_is_for_cores_and_wrapper_together(name):
    wrapped = tl.wrap(name, "lora")
    for budget in (192, 300, 500):
        bound = wrapped.bind(SIZES, params=budget)
        larger = wrapped.bind(SIZES, r=bound.ranks["r"] + 1)
        assert bound.trainable_parameters <= budget < larger.trainable_parameters
    like = tl.families.lora(r=4)
    bound = wrapped.bind(SIZES, like=like)
    assert bound.trainable_parameters <= like.bind(SIZES).trainable_parameters


def test_json_reads_back():
    for wrapped in (tl.dora("lora"), tl.router(EXPERTS)):
        again = Wrapped.from_json(json.loads(json.dumps(wrapped.to_json())))
        assert again == wrapped
    with pytest.raises(StateError, match=r"E603: .*'wrapper' is int"):
        Wrapped.from_json({**tl.dora("lora").to_json(), "wrapper": 3})


def test_mistakes_are_told():
    with pytest.raises(FamilyError, match="E313: there is no wrapper 'dorra'"):
        tl.wrap("dorra", "lora")
    with pytest.raises(FamilyError, match="E313: the wrapper router is over a site index"):
        tl.wrap("router", "lora")
    with pytest.raises(FamilyError, match="E313: the wrapper dora is over no site index"):
        tl.wrap("dora[layer]", "lora")
    with pytest.raises(FamilyError, match=r"E313: 'do ra' is no wrapper"):
        tl.wrap("do ra", "lora")
    with pytest.raises(FamilyError, match=r"E313: router.expert. is over 'expert', no site index"):
        tl.router("lora")
    for twice in (tl.hira("lora"), "hira(lora)"):
        with pytest.raises(FamilyError, match="E313: dora goes around a family, not around hira"):
            tl.dora(twice)
    with pytest.raises(SizeError, match="E207: the budget of 60 is not above the 60"):
        tl.dora("lora").bind(SIZES, params=60)
    with pytest.raises(SizeError, match="E208"):
        tl.dora("lora").bind(SIZES, params=600, like=tl.families.lora(r=1))
    with pytest.raises(SizeError, match="E203: weights=0"):
        tl.dora("lora").bind(SIZES, r=1, weights=0)


@pytest.mark.parametrize("value", [tl.dora("lora"), "dora(lora)", "hira(lora:8)"])
def test_what_is_about_equations_refuses_a_wrapped_one(value):
    for do in (tl.resolve, lambda f: tl.embeds(f, "lora"), lambda f: tl.ranks(f, SIZES, params=9)):
        with pytest.raises(FamilyError, match=r"E312: (dora|hira)\(lora(:8)?\) is a family in a"):
            do(value)


def test_the_table_says_what_each_is():
    assert list(WRAPPERS) == ["dora", "hira", "router"]
    for kind in WRAPPERS.values():
        assert "W" in kind.formula
        assert kind.summary
        assert kind.source
