"""The catalogue as a list: names, sources, attributes, JSON."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tenslora as tl
from tenslora import families
from tenslora.testing import small_sizes

SEVEN = ["att", "att_depth", "att_qkv", "att_qkv_depth", "depth", "qkv", "qkv_depth"]
SINGLE = [
    "fact_tk", "fact_tt", "loha", "lokr", "lora", "lorta", "lotr",
    "metatt4", "tied_lora", "tt_lora", "vera",
]  # fmt: skip
NAMES = [*SINGLE, *(f"{group}.{n}" for group in ("tenslora", "tenslora_cp") for n in SEVEN)]


def attribute(name):
    value = families
    for part in name.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_an_attribute(name):
    family = attribute(name)
    assert family.name == name
    assert tl.resolve(name) is family
    assert tl.registered()[name] is family


def test_nothing_is_left_out():
    """The list above is the catalogue's; what other packages register is theirs."""
    exported = [n for n in families.__all__ if isinstance(attribute(n), tl.Family)]
    assert sorted(exported) == SINGLE
    assert sorted(families.tenslora.__all__) == sorted(families.tenslora_cp.__all__) == SEVEN


@pytest.mark.parametrize("name", NAMES)
def test_every_family_says_what_it_is_and_where_it_comes_from(name):
    family = attribute(name)
    assert family.summary
    assert not family.summary.endswith(".")
    assert re.search(r"arXiv \d{4}\.\d{5}", family.source)
    assert all(tl.resolve(alias) is family for alias in family.aliases)


@pytest.mark.parametrize("name", NAMES)
def test_json_round_trip(name):
    family = attribute(name)
    assert tl.Family.from_json(family.to_json()) == family


@pytest.mark.parametrize("name", NAMES)
def test_the_update_is_zero_at_the_start_by_exactly_one_trained_core(name, make):
    family = attribute(name)
    zero = [core for core, rule in family.init.items() if rule.is_zero]
    assert len(zero) == 1
    assert not family.frozen & set(zero)
    made = make(family, small_sizes(family))
    made.core = made.bound.arrays()
    assert not np.any(made.delta)


def test_calling_sets_the_ranks():
    assert families.lora(r=8).ranks == {"r": 8}
    assert families.tenslora.qkv(4).ranks == {"a": 4, "b": 4, "c": 4}
    assert families.tenslora_cp.att(r=3).bonds == ("r",)


@pytest.mark.parametrize("name", SEVEN)
def test_tenslora_starts_with_orthogonal_factors_and_a_zero_core(name):
    tucker, cp = attribute(f"tenslora.{name}"), attribute(f"tenslora_cp.{name}")
    rules = {core: str(rule) for core, rule in tucker.init.items()}
    assert rules.pop("G") == "zeros"
    assert set(rules.values()) == {"orthogonal"}
    rules = {core: str(rule) for core, rule in cp.init.items()}
    assert rules.pop("U") == "zeros"
    assert set(rules.values()) == {"orthogonal"}
    assert str(tucker.scale) == str(cp.scale) == "constant"


@pytest.mark.parametrize("name", SEVEN)
def test_cp_is_tucker_with_every_bond_the_same_and_no_core(name):
    tucker, cp = attribute(f"tenslora.{name}").network, attribute(f"tenslora_cp.{name}").network
    cores = {n: core.indices for n, core in tucker.cores.items() if n != "G"}
    merged = {n: tuple("r" if i in tucker.bonds else i for i in v) for n, v in cores.items()}
    assert {n: core.indices for n, core in cp.cores.items()} == merged
    assert cp.target == tucker.target


def test_what_a_construction_aggregates_has_a_factor_of_its_own_and_the_rest_is_on_every_core():
    words = {"att": ("head", "H"), "qkv": ("proj", "P"), "depth": ("layer", "D")}
    for name in SEVEN:
        network = attribute(f"tenslora.{name}").network
        for word, (index, core) in words.items():
            if word in name.split("_"):
                assert [c for c in network.cores.values() if index in c.indices] == [
                    network.cores[core]
                ]
            else:
                assert core not in network.cores
                everywhere = all(index in c.indices for c in network.cores.values())
                assert everywhere or index == "head"


def test_vera_trains_vectors_and_tied_lora_the_matrices_too():
    assert families.vera.frozen == {"A", "B"}
    assert families.tied_lora.frozen == frozenset()
    assert families.vera.network == families.tied_lora.network
