"""Norms and spectra against numpy on the dense updates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tenslora as tl
from tenslora.nn.portrait import measures
from tenslora.nn.portrait.values import stacks_of
from tenslora.plan.cut import mode_rank

pytestmark = pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")

TWO_TERMS = "W[layer proj out in] = B[proj out r] A[layer r in] + C[out s] D[layer proj s in]"
FAMILIES = {
    "lora": {},
    "lotr": {},
    "loha": {},
    "tenslora.att_qkv_depth": {"sizes": {"head": 2}},
    "tenslora_cp.att_qkv_depth": {"sizes": {"head": 4}},
    "metatt5": {"sizes": {"head": 2}},
    TWO_TERMS: {},
    "W[out in] = B[out r] A[r in]": {},
    "W[site out in] = B[out r] d[site r] A[r in]": {},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_is_what_numpy_finds_on_the_dense_updates(family, attached, dense, unfolded):
    adapter = attached(family, **FAMILIES[family])
    found, updates = tl.portrait(adapter), dense(adapter)
    assert found.norms.layers == ("0", "1", "2")
    assert found.norms.projections == ("q", "k")
    for layer in range(3):
        for n, name in enumerate(("q", "k")):
            wanted = np.linalg.norm(updates[f"layers.{layer}.{name}"])
            np.testing.assert_allclose(found.norms.values[layer, n], wanted, rtol=1e-5)
    (bank,) = adapter.banks.values()
    network, sizes = bank.bound.network, bank.bound.sizes
    array = np.zeros([sizes[i] for i in (*network.sites, *network.output, *network.input)])
    for site, place in zip(bank.sites, bank.grid.positions, strict=True):
        at = tuple(place[i] for i in network.sites)
        array[at] = updates[site.path].reshape(array.shape[len(at) :])
    (shape,) = found.shapes
    for axis, mode in enumerate(network.target.indices):
        wanted = unfolded(array, axis)
        np.testing.assert_allclose(
            shape.spectrum.values[mode], wanted, rtol=1e-4, atol=1e-5 * wanted[0]
        )
        assert (wanted > 1e-5 * wanted[0]).sum() <= shape.ranks[mode]
    for row, site in zip(shape.weights, bank.sites, strict=True):
        values = np.linalg.svd(updates[site.path], compute_uv=False)
        np.testing.assert_allclose(row, values[: len(row)], rtol=1e-4, atol=1e-5)
        assert (values > 1e-4).sum() <= shape.cut


def test_the_ranks_allowed_are_reached(attached):
    """A bound that is never reached would mark nothing; Tucker reaches every one of its ranks."""
    ranks = {"a": 4, "b": 3, "c": 2, "d": 2, "e": 3}
    adapter = attached("tenslora.att_qkv_depth", ranks=ranks, sizes={"head": 2})
    (shape,) = tl.portrait(adapter).shapes
    assert shape.ranks == {"layer": 3, "proj": 2, "head": 2, "head_dim": 3, "in": 4}
    for mode, values in shape.spectrum.values.items():
        assert (values > 1e-6 * values[0]).sum() == shape.ranks[mode], mode


def test_a_hadamard_product_allows_the_product_of_its_ranks():
    network = tl.resolve("loha").network
    sizes = {"layer": 1, "proj": 1, "out": 64, "in": 64, **dict.fromkeys(network.bonds, 3)}
    assert mode_rank(network, sizes, "out") == 9


def test_heads_are_rows_of_the_update(attached, dense):
    adapter = attached("tenslora.att_qkv_depth", sizes={"head": 4})
    found, updates = tl.portrait(adapter), dense(adapter)
    assert list(found.heads) == ["q", "k"]
    for name, values in found.heads.items():
        for layer in range(3):
            rows = updates[f"layers.{layer}.{name}"].reshape(4, 2, 6)
            wanted = np.sqrt((rows**2).sum(axis=(1, 2)))
            np.testing.assert_allclose(values[layer], wanted, rtol=1e-5)
    asked = tl.portrait(attached("lora", seed=1), heads=2).heads
    assert asked["q"].shape == (3, 2)
    assert tl.portrait(attached("lora")).heads == {}


def test_heads_that_no_weight_has(attached):
    with pytest.raises(tl.TensloraError, match=r"E213: no weight .* multiple of heads=3"):
        tl.portrait(attached("lora"), heads=3)


@pytest.mark.parametrize("ragged", ["group", "prefix"])
def test_weights_of_several_shapes(ragged, attached, dense, unfolded):
    out = {"q": 8, "k": 4}
    adapter = attached("tenslora.att_qkv_depth", out=out, ragged=ragged, sizes={"head_dim": 2})
    found, updates = tl.portrait(adapter), dense(adapter)
    assert found.heads["q"].shape == (3, 4)
    assert found.heads["k"].shape == (3, 2)
    wanted = [[np.linalg.norm(updates[f"layers.{n}.{p}"]) for p in out] for n in range(3)]
    np.testing.assert_allclose(found.norms.values, wanted, rtol=1e-5)
    assert len(found.shapes) == (2 if ragged == "group" else 1)
    array = np.zeros((3, len(adapter.sites) // 3 if ragged == "prefix" else 1, 8, 6))
    for layer in range(3):
        for n, name in enumerate(out if ragged == "prefix" else ["q"]):
            update = updates[f"layers.{layer}.{name}"]
            array[layer, n, : len(update)] = update
    values = found.shapes[0].spectrum.values["layer"]
    np.testing.assert_allclose(values, unfolded(array, 0), rtol=1e-4, atol=1e-5)


def test_wide_updates_are_compared_some_rows_at_a_time(attached, monkeypatch):
    (stack,) = stacks_of(attached("loha", out={"q": 8, "k": 8}))
    thin = measures.overlap(stack)
    monkeypatch.setattr(measures, "_THIN", 0)
    monkeypatch.setattr(measures, "_BLOCK", 150)
    np.testing.assert_allclose(measures.overlap(stack), thin, rtol=1e-10)
    products = [[float((a.b @ a.a * (b.b @ b.a)).sum()) for b in stack.apart] for a in stack.apart]
    np.testing.assert_allclose(thin, products, rtol=1e-10)


def test_an_adapter_before_training_has_no_norm():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    adapter = tl.attach(model, "lora", targets="all-linear", ranks=1)
    found = adapter.portrait()
    assert not found.norms.values.any()
    assert "·" in found.text()
    for what in found.pictures:
        pytest.importorskip("matplotlib", reason="needs the plot extra")
        assert found.plot(what).svg().startswith("<?xml")


def test_nothing_of_the_model_is_changed(attached):
    adapter = attached("lotr")
    before = {name: value.clone() for name, value in adapter.model.state_dict().items()}
    state = torch.random.get_rng_state()
    adapter.portrait()
    assert torch.equal(state, torch.random.get_rng_state())
    after = adapter.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
