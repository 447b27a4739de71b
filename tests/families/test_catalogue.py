"""The catalogue as a list: names, sources, attributes, JSON."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tenslora as tl
from tenslora import families
from tenslora.families.outside import OUTSIDE
from tenslora.testing import small_sizes

SEVEN = ["att", "att_depth", "att_qkv", "att_qkv_depth", "depth", "qkv", "qkv_depth"]
GROUPS = ["tenslora", "tenslora_cp", "tenslora_tr", "tenslora_tt"]
SINGLE = [
    "block_term", "c3a", "cara", "cp_matrix", "craft", "dota", "fact_tk", "fact_tt", "fourierft",
    "gralora", "hierarchical_tucker", "loha", "lokr", "lora", "lora_xs", "loretta", "lorta", "lotr",
    "metatt4", "metatt5", "monarch", "moslora", "pissa", "quanta", "randlora", "share_a", "share_b",
    "tensor_ring", "tera", "tied_lora", "tinylora", "tt_lora", "tt_matrix", "vera",
]  # fmt: skip
NAMES = [*SINGLE, *(f"{group}.{n}" for group in GROUPS for n in SEVEN)]
#: Families whose start is taken away by a frozen copy, and the one that means to start elsewhere.
CANCELLED, NONZERO = {"craft", "dota", "pissa", "quanta"}, {"lora_xs"}


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
    for group in GROUPS:
        assert sorted(getattr(families, group).__all__) == SEVEN


@pytest.mark.parametrize("name", NAMES)
def test_every_family_says_what_it_is_and_where_it_comes_from(name):
    family = attribute(name)
    assert family.summary
    assert not family.summary.endswith(".")
    assert re.search(r"arXiv \d{4}\.\d{5}|https://(doi\.org/10\.|openreview)", family.source)
    assert not family.notes.endswith(".")
    assert re.fullmatch(r"([\w.-]+/[\w.-]+)?", family.repository)
    assert all(tl.resolve(alias) is family for alias in family.aliases)


@pytest.mark.parametrize("name", NAMES)
def test_json_round_trip(name):
    family = attribute(name)
    assert tl.Family.from_json(family.to_json()) == family


@pytest.mark.parametrize("name", sorted(set(NAMES) - CANCELLED - NONZERO))
def test_the_update_is_zero_at_the_start_by_exactly_one_trained_core(name, make):
    family = attribute(name)
    zero = [core for core, rule in family.init.items() if rule.is_zero]
    assert len(zero) == 1
    assert not family.frozen & set(zero)
    made = make(family, small_sizes(family))
    made.core = made.bound.arrays()
    assert not np.any(made.delta)


@pytest.mark.parametrize("name", sorted(CANCELLED))
def test_the_update_is_zero_at_the_start_by_what_is_taken_away(name, make):
    family = attribute(name)
    assert not family.starts_nonzero
    made = make(family, small_sizes(family))
    made.core = made.bound.arrays()
    size = sum(np.abs(core).max() for core in made.core.values())
    assert np.abs(made.delta).max() <= 1e-12 * size
    for core, rule in family.init.items():
        if rule.of is not None:
            assert core in family.frozen
            np.testing.assert_array_equal(np.abs(made.core[core]), np.abs(made.core[rule.of]))
            made.core[rule.of] = made.core[rule.of] + 0.5
    assert np.any(np.abs(made.delta) > 1e-3)


def test_a_family_that_starts_elsewhere_says_so():
    assert {name for name in NAMES if attribute(name).starts_nonzero} == NONZERO


def test_what_is_no_equation_has_a_reason_and_a_source():
    names = [method.name for method in OUTSIDE]
    assert len(set(names)) == len(names) > 10
    for method in OUTSIDE:
        assert method.reason
        assert not method.reason.endswith(".")
        assert re.search(r"arXiv \d{4}\.\d{5}|https://openreview", method.source)
        assert method.name.casefold() not in tl.registered()


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


@pytest.mark.parametrize("name", SEVEN)
def test_trains_and_rings_have_a_core_a_mode_and_are_zero_at_the_inputs(name):
    cp = attribute(f"tenslora_cp.{name}").network
    modes = {n: set(core.indices) - set(cp.bonds) for n, core in cp.cores.items()}
    for group, extra in (("tenslora_tt", -1), ("tenslora_tr", 0)):
        family = attribute(f"{group}.{name}")
        cores = family.network.cores
        assert {n: set(c.indices) - set(family.bonds) for n, c in cores.items()} == modes
        assert len(family.bonds) == len(cores) + extra
        assert family.init["U"].is_zero
    train = attribute(f"tenslora_tt.{name}")
    (first, *_, last) = train.network.cores.values()
    ends = [len(set(c.indices) & set(train.bonds)) for c in (first, last)]
    assert ends == [1, 1]


def test_vera_trains_vectors_and_tied_lora_the_matrices_too():
    assert families.vera.frozen == {"A", "B"}
    assert families.tied_lora.frozen == frozenset()
    assert families.vera.network == families.tied_lora.network
