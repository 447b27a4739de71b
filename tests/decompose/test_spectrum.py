"""Spectra of trained updates, the ranks that keep their energy, and what families need for it."""

from __future__ import annotations

import numpy as np
import pytest

import tenslora as tl
from tenslora.decompose import Updates, bond_spectra, keep_energy, needed, spectrum, stack
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


def test_the_table_of_families():
    found = needed([UPDATES, UPDATES], ["lora", "lorta", "tied_lora", "fact_tt"], [0.9, 0.99])
    assert list(found.rows) == ["lora", "fact_tt"]
    one = needed([UPDATES], ["lora"], [0.9, 0.99])
    for both, single in zip(found.rows["lora"], one.rows["lora"], strict=True):
        assert both["parameters"] == 2 * single["parameters"]
        assert both["energy"] == pytest.approx(single["energy"])
    assert "no tree" in found.left_out["lorta"]
    assert found.to_dict()["energies"] == [0.9, 0.99]
    assert repr(found).splitlines()[0].split() == [
        "family",
        "90",
        "%",
        "99",
        "%",
        "ranks",
        "at",
        "99",
        "%",
    ]


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
            lambda: keep_energy("lorta", ARRAY, 0.9, sizes={"head": 3}),
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
