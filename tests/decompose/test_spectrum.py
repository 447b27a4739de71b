"""Spectra of trained updates, the ranks that keep their energy, and what families need for it."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tenslora as tl
from tenslora.decompose import (
    Updates,
    bond_spectra,
    keep_energy,
    needed,
    ranking,
    spectrum,
    stack,
)
from tenslora.errors import FitError

GENERATOR = np.random.default_rng(0)
ARRAY = np.einsum(
    "lpab,oa,ib->lpoi",
    GENERATOR.standard_normal((4, 3, 6, 6)),
    GENERATOR.standard_normal((12, 6)) * 0.5 ** np.arange(6),
    GENERATOR.standard_normal((10, 6)),
)
EXPERTS = tl.family("W[expert o i] = A[expert o i]", init={"A": "zeros"})
UPDATES = Updates(ARRAY, (0, 1, 2, 3), ("q", "k", "v"), heads=3)


@pytest.mark.parametrize(("mode", "axis"), [("layer", 0), ("proj", 1), ("out", 2), ("in", 3)])
def test_values_are_those_of_the_unfoldings(mode, axis):
    found = spectrum(UPDATES)
    matrix = np.moveaxis(ARRAY, axis, 0).reshape(ARRAY.shape[axis], -1)
    s = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(found.values[mode], s[: len(found.values[mode])], atol=1e-9)
    np.testing.assert_allclose(s[len(found.values[mode]) :], 0, atol=1e-9)
    for energy in (0.5, 0.9, 0.999):
        rank = found.rank(mode, energy)
        assert (s[:rank] ** 2).sum() >= energy * (s**2).sum() > (s[: rank - 1] ** 2).sum()
    part = s / s.sum()
    expected = np.exp(-(part[part > 1e-12] * np.log(part[part > 1e-12])).sum())
    assert found.effective_rank(mode) == pytest.approx(expected)


def test_heads_are_modes_where_they_are_known():
    found = spectrum(UPDATES)
    cut = ARRAY.reshape(4, 3, 3, 4, 10)
    for mode, axis in (("head", 2), ("head_dim", 3)):
        s = np.linalg.svd(np.moveaxis(cut, axis, 0).reshape(cut.shape[axis], -1), compute_uv=False)
        np.testing.assert_allclose(found.values[mode], s)
    assert "head" not in spectrum(Updates(ARRAY, (0, 1, 2, 3), ("q", "k", "v"))).values


def test_shares_add_up_and_belong_to_their_parts():
    found = spectrum(UPDATES)
    energy = (ARRAY**2).sum(axis=(2, 3)) / (ARRAY**2).sum()
    np.testing.assert_allclose(found.sites, energy)
    assert found.layers["2"] == pytest.approx(energy[2].sum())
    assert found.projections["k"] == pytest.approx(energy[:, 1].sum())
    assert sum(found.layers.values()) == pytest.approx(1.0)


def test_bonds_of_a_tree_have_the_values_of_their_cuts():
    found = bond_spectra("metatt4", ARRAY)  # a train over out, proj, layer, in
    cuts = {"c": (2, 1, 0, 3), "b": (2, 1, 0, 3), "a": (3, 0, 1, 2)}
    rows = {"c": 12, "b": 36, "a": 10}
    for bond, order in cuts.items():
        matrix = ARRAY.transpose(order).reshape(rows[bond], -1)
        s = np.linalg.svd(matrix, compute_uv=False)
        (values,) = found[bond]
        np.testing.assert_allclose(values, s[: len(values)], atol=1e-9)


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("name", ["lora", "lotr", "metatt4", "tenslora.qkv_depth", "fact_tt"])
def test_the_energy_is_kept_and_no_bond_can_be_cut_by_its_tail(name, energy):
    family, array, sizes = UPDATES.read_by(tl.resolve(name))
    found = keep_energy(family, array, energy, sizes=sizes)
    assert found.energy >= energy
    whole = keep_energy(family, array, 1 - (1 - energy) / 50, sizes=sizes)
    assert found.parameters <= whole.parameters


def test_lora_needs_the_rank_of_the_worst_cut():
    s = np.linalg.svd(ARRAY, compute_uv=False) ** 2
    kept = np.cumsum(s.sum(axis=(0, 1))) / s.sum()
    found = keep_energy("lora", ARRAY, 0.99)
    assert found.bound.ranks == {"r": int(np.argmax(kept >= 0.99)) + 1}


def cp(rank, seed=1):
    """A planted CP tensor over layer, proj, out, in, with components that fall off."""
    generator = np.random.default_rng(seed)
    factors = [generator.standard_normal((n, rank)) for n in (4, 3, 12, 10)]
    factors = [factor / np.linalg.norm(factor, axis=0) for factor in factors]
    return np.einsum("lr,pr,or,ir,r->lpoi", *factors, 0.5 ** np.arange(rank))


CP = tl.family("W[layer proj out in] = B[out r] L[layer r] P[proj r] A[in r]", init={"B": "zeros"})


def test_cp_needs_the_rank_that_was_planted():
    """No spectrum tells it: it is searched for, and the step below misses."""
    planted = cp(5)
    found = keep_energy(CP, planted, 1 - 1e-8)
    assert found.bound.ranks == {"r": 5}
    assert keep_energy(CP, planted, 0.7).bound.ranks["r"] < 5


#: Two projections that one matrix cannot serve: no rank of it keeps much more than a half.
NOISE = Updates(GENERATOR.standard_normal((2, 2, 5, 4)), (0, 1), ("q", "k"))
TIED = tl.family("W[layer proj out in] = B[out r] A[r in] d[layer r]", init={"B": "zeros"})


@pytest.mark.parametrize("name", ["tensor_ring", "loha", "vera", "block_term"])
def test_a_search_keeps_the_energy_and_says_where_it_ends(name):
    family, array, sizes = NOISE.read_by(tl.resolve(name))
    found = keep_energy(family, array, 0.4, sizes=sizes)
    assert found.energy >= 0.4
    assert found.parameters == found.bound.trainable_parameters
    again = keep_energy(family, array, 0.4, sizes=sizes)
    assert again.bound.ranks == found.bound.ranks
    least = tl.fit(family, array, 1, sizes=sizes)
    with pytest.raises(FitError, match=f"E904: {family.label} keeps .* % of the energy at"):
        keep_energy(family, array, 0.999, sizes=sizes, most=least.parameters)


def test_a_search_tries_no_more_than_a_few_budgets(monkeypatch):
    from tenslora.decompose import searching

    made, usual = [], searching.fit_until
    monkeypatch.setattr(searching, "fit_until", lambda *a, **k: made.append(a) or usual(*a, **k))
    family, array, sizes = NOISE.read_by(CP)
    ranking.keep_energies(family, array, (0.5, 0.9, 0.99), sizes=sizes)
    asked = [(tuple(ranks.values()), energy) for _, _, ranks, energy in made]
    assert len(asked) == len({*asked}) <= 3 * 8  # none twice


def test_a_search_that_misses_the_least_part_looks_no_further(monkeypatch):
    from tenslora.decompose import searching

    made, usual = [], searching.fit_until
    monkeypatch.setattr(searching, "fit_until", lambda *a, **k: made.append(a) or usual(*a, **k))
    family, array, sizes = NOISE.read_by(TIED)
    found = ranking.keep_energies(family, array, (0.99, 0.9, 0.999), sizes=sizes)
    assert len(made) == 1
    assert all(one.energy < 0.9 for one in found)


def test_a_search_ends_where_frozen_cores_grow_too_large(monkeypatch):
    """The reason says how large they are: vera's are r (out + in), whatever it trains."""
    from tenslora.decompose import searching

    monkeypatch.setattr(searching, "MOST_FROZEN", 9 * 3)
    found = needed([NOISE], ["vera"], [0.999])
    said = re.fullmatch(
        r"it keeps [\d.]+ % of the energy at (\d+) parameters beside (\d+) frozen ones, "
        "where the search ends",
        found.left_out["vera"],
    )
    trained, frozen = map(int, said.groups())
    assert frozen <= 9 * 3
    assert trained == 4 * (5 + frozen // 9)
    family, array, sizes = NOISE.read_by(tl.resolve("vera"))
    with pytest.raises(FitError) as info:  # more parameters would not help
        keep_energy(family, array, 0.999, sizes=sizes)
    assert f"its frozen cores, of {frozen} numbers, end the search\n  Fit it at" in str(info.value)
    with pytest.raises(FitError, match=r"is wanted\n  Search further: most=\.\.\."):
        keep_energy(family, array, 0.999, sizes=sizes, most=trained - 1)


def test_a_search_ends_where_there_are_no_more_waves():
    """At 2 x 5 x 4 numbers for each of two weights, of 20 pairs of frequencies."""
    family, array, sizes = NOISE.read_by(tl.resolve("fourierft"))
    assert keep_energy(family, array, 0.3, sizes=sizes).bound.ranks["n"] < 20
    with pytest.raises(FitError, match=r"E904: .* at n=20, "):
        keep_energy(family, array, 0.9999999, sizes=sizes)


def test_cores_from_weights_have_no_place_in_updates():
    with pytest.raises(FitError) as info:
        keep_energy("lora_xs", ARRAY, 0.9)
    assert str(info.value) == (
        "E903: cores U, V of lora_xs are filled from the weights of the model, "
        "which the updates do not hold\n  Fit it with cores= and ranks of your choice."
    )


def test_the_table_of_families():
    families = ["lora", CP, "lora_xs", "fact_tt", TIED]
    found = needed([NOISE, NOISE], families, [0.9, 0.99])
    assert list(found.rows) == ["lora", CP.label, "fact_tt"]
    one = needed([NOISE], ["lora", CP], [0.9, 0.99])
    for name in ("lora", CP.label):
        for both, single in zip(found.rows[name], one.rows[name], strict=True):
            assert both["parameters"] == 2 * single["parameters"]
            assert both["energy"] == pytest.approx(single["energy"])
            assert both["enough"]
    assert [row[0]["found"] for row in found.rows.values()] == ["spectra", "search", "spectra"]
    assert "from the weights" in found.left_out["lora_xs"]
    assert "where the search ends" in found.left_out[TIED.label]
    assert found.to_dict()["energies"] == [0.9, 0.99]
    first, _, starred, _, note, *_ = repr(found).splitlines()
    assert " ".join(first.split()) == "family 90 % 99 % ranks at the last that is kept"
    assert starred.startswith(f"{CP.label} *")
    assert note.startswith("* found by fits at budgets")


def test_what_a_search_did_not_reach_is_said():
    found = needed([NOISE], [TIED], [0.1, 0.99])
    first, last = found.rows[TIED.label]
    assert first["enough"]
    assert not last["enough"]
    assert f"> {last['parameters']:,}" in repr(found)


def test_a_tied_family_is_measured_on_every_site():
    family, array, sizes = UPDATES.read_by(
        tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"})
    )
    found = tl.fit(family, array, 10, sizes=sizes)
    mean = ARRAY.mean(axis=(0, 1))
    assert found.error == pytest.approx(np.linalg.norm(ARRAY - mean) / np.linalg.norm(ARRAY))


def test_pieces_are_stacked_by_shape():
    shapes = (("q", (4, 4)), ("k", (2, 4)), ("v", (2, 4)))
    pieces = [
        ({"layer": n, "proj": proj}, np.full(shape, float(n)))
        for n in range(2)
        for proj, shape in shapes
    ]
    first, second = stack(pieces, heads=4)
    assert (first.name, first.projections, first.heads) == ("4x4", ("q",), 4)
    assert (second.name, second.projections, second.heads) == ("2x4", ("k", "v"), None)
    assert second.array[1].tolist() == np.ones((2, 2, 4)).tolist()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: bond_spectra("lorta", ARRAY, sizes={"head": 3}),
            "E903: the cores of lorta are no tree with one bond between two trained cores\n"
            "  Choose its ranks by a budget: params=...",
        ),
        (
            lambda: keep_energy("lora", ARRAY, 1.0),
            "E905: energy=1.0 is out of range\n  Give a part between 0 and 1, such as 0.99.",
        ),
        (
            lambda: needed([UPDATES], ["lora"], [2.0]),
            "E905: energy=2.0 is out of range\n  Give a part between 0 and 1, such as 0.99.",
        ),
        (
            lambda: needed([], ["lora"]),
            "E905: no updates or no energies are given\n  Give some of each.",
        ),
        (
            lambda: UPDATES.read_by(EXPERTS),
            "E901: the updates have layer and proj, and W[expert o i] = A[expert o i] expert\n"
            "  Rename its sites, or join them to one: site.",
        ),
        (
            lambda: stack([({"layer": n, "proj": "qk"[n]}, np.eye(2)) for n in range(2)]),
            "E901: updates of 2x2: layer 0 has no k\n  Give the projections that all layers have.",
        ),
    ],
)
def test_the_text_of_a_refusal(call, text):
    with pytest.raises(FitError) as info:
        call()
    assert str(info.value) == text
