"""Trained adapters and LoRA checkpoints as smaller adapters: the update, the error, the model."""

from __future__ import annotations

import copy

import numpy as np
import peft
import pytest
import torch
from torch import nn

import tenslora as tl
from tenslora.decompose import fit, ranking, searching
from tenslora.errors import AttachError, FitError, SizeError, StateError
from tenslora.integrations.compressing import compress, recompress


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = nn.Module()
    made.layers = nn.ModuleList(
        nn.ModuleDict({name: nn.Linear(8, 8) for name in ("q", "k")}) for _ in range(3)
    )
    return made


@pytest.fixture
def trained(model):
    adapter = tl.attach(model, "lora", targets=["q", "k"], ranks=2, alpha=6.0)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return adapter


def stacked(adapter):
    with torch.no_grad():
        return np.stack([adapter.delta(site).double().numpy() for site in adapter.sites])


def test_a_larger_shared_family_has_the_same_update(model, trained):
    found = compress(model, trained, "fact_tt", ranks=8)
    np.testing.assert_allclose(stacked(found.adapter), stacked(trained), atol=1e-4)
    assert found.error < 1e-6
    assert found.adapter.active
    assert not trained.active


def test_the_error_is_that_of_the_attached_adapter(model, trained):
    found = compress(model, trained, "tenslora.qkv_depth", params=120)
    wanted = stacked(trained)
    error = np.linalg.norm(stacked(found.adapter) - wanted) / np.linalg.norm(wanted)
    assert found.error == pytest.approx(error, rel=1e-4)
    assert 0 < found.parameters == found.adapter.trainable_parameters <= 120
    text = f"{found.parameters:,} parameters, 192 before; relative error {error:.3g}: "
    assert str(found).startswith(text)


def test_a_checkpoint_of_peft_is_read(tmp_path, model):
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["q"], init_lora_weights=False)
    theirs = peft.get_peft_model(copy.deepcopy(model), config)
    theirs.save_pretrained(tmp_path)
    found = compress(model, tmp_path, "lora", ranks=2)
    for n in range(3):
        module = theirs.get_submodule(f"base_model.model.layers.{n}.q")
        wanted = module.get_delta_weight("default").detach()
        torch.testing.assert_close(found.adapter.delta(f"layers.{n}.q").detach(), wanted)
    assert found.error < 1e-6


def test_a_file_on_its_model_is_replaced_and_its_head_comes_along(tmp_path, model):
    model.head = nn.Linear(8, 2)
    base = copy.deepcopy(model)
    trained = tl.attach(model, "lora", targets=["q"], ranks=2, train="head", dropout=0.1)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    trained.save(tmp_path / "a.safetensors")
    other = tl.attach(base, "lora", targets=["k"], ranks=1, name="other")
    found = compress(base, tmp_path / "a.safetensors", "lora", energy=0.5)
    assert list(tl.adapters(base)) == ["other", "compressed"]
    assert torch.equal(base.head.weight, model.head.weight)
    assert found.adapter.design.dropout == 0.1
    assert found.adapter.active
    assert found.parameters < found.before == trained.trainable_parameters
    assert sum(map(len, (found.errors, found.worst(2)))) == 5
    wanted = stacked(trained)
    error = np.linalg.norm(stacked(found.adapter) - wanted) / np.linalg.norm(wanted)
    assert found.error == pytest.approx(error, rel=1e-4)
    assert found.error**2 <= 0.5
    found.adapter.detach()
    assert other.attached


def test_a_file_of_another_model_leaves_this_one_as_it_was(tmp_path, model, trained):
    trained.save(tmp_path / "a.safetensors")
    other = nn.Module()
    other.layers = nn.ModuleList(nn.ModuleDict({"q": nn.Linear(8, 4)}) for _ in range(3))
    mine = tl.attach(other, "lora", targets=["q"], ranks=1)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(StateError, match="E615"):
        compress(other, tmp_path / "a.safetensors", "lora", ranks=1)
    with pytest.raises(StateError, match="E610"):
        compress(other, tmp_path / "b.safetensors", "lora", ranks=1)
    with pytest.raises(AttachError, match="E510: adapter 'default' is not on the model"):
        compress(other, trained, "lora", ranks=1)
    with pytest.raises(AttachError, match="E508"):
        compress(other, tmp_path / "a.safetensors", "lora", ranks=1, name="default")
    with pytest.raises(FitError, match="E904"):
        compress(model, tmp_path / "a.safetensors", "fact_tt", ranks=1, tolerance=1e-3)
    assert tl.adapters(model) == {"default": trained}
    assert trained.active
    after = other.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert mine.active


def test_an_energy_beside_ranks(model, trained):
    with pytest.raises(SizeError) as info:
        compress(model, trained, "lora", ranks=2, energy=0.9)
    text = "E208: energy=0.9 and ranks=2 are both given\n  Give one of them."
    assert str(info.value) == text


def test_tied_weights_are_measured_one_by_one(model, trained):
    tied = tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"})
    found = compress(model, trained, tied, ranks=8)
    wanted = stacked(trained)
    error = np.linalg.norm(wanted - wanted.mean(axis=0)) / np.linalg.norm(wanted)
    assert found.error == pytest.approx(error, rel=1e-5)


def test_frozen_cores_are_those_of_the_bank(model, trained):
    found = compress(model, trained, "vera", ranks=6)
    wanted = stacked(trained)
    error = np.linalg.norm(stacked(found.adapter) - wanted) / np.linalg.norm(wanted)
    assert found.error == pytest.approx(error, rel=1e-4)


def test_a_missed_tolerance_leaves_the_model_as_it_was(model, trained):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(FitError, match="E904"):
        compress(model, trained, "fact_tt", ranks=1, tolerance=1e-3)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert trained.active


@pytest.mark.parametrize("family", ["lora", "fact_tt", "metatt4", "tenslora.qkv_depth"])
def test_ranks_that_nothing_uses_are_cut(model, family):
    small = tl.attach(model, family, targets=["q", "k"], ranks=2, alpha=6.0, name="small")
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    large = compress(model, small, family, ranks=2, name="large").adapter
    wide = {bond: min(6, 2 + 2 * n) for n, bond in enumerate(large.family.bonds, 1)}
    wide |= {b: 2 for b in wide if family == "tenslora.qkv_depth" and b in "cd"}
    grown = compress(model, small, family, ranks=wide, name="grown").adapter
    before = stacked(small)
    found = recompress(grown, 1e-4)
    (bound,) = found.adapter.bounds.values()
    assert all(rank <= 2 for rank in bound.ranks.values())
    distance = np.linalg.norm(stacked(found.adapter) - before) / np.linalg.norm(before)
    assert distance < 1e-4
    assert found.adapter.name == "grown"
    assert not grown.attached
    assert tl.adapters(model)["grown"] is found.adapter


def test_a_tolerance_is_kept_and_lowers_parameters(model, trained):
    before = stacked(trained)
    count, scale = trained.trainable_parameters, trained.bounds["8x8"].scale
    found = recompress(trained, 0.7)
    distance = np.linalg.norm(stacked(found.adapter) - before) / np.linalg.norm(before)
    assert 0.0 < distance <= 0.7
    assert found.error == pytest.approx(distance, rel=1e-4)
    assert found.parameters < count
    assert found.adapter.bounds["8x8"].scale == scale


def test_what_cannot_be_recompressed_stays(model, trained, monkeypatch):
    for tolerance in (0.0, 1e-9, 1.0, "a"):
        with pytest.raises(FitError, match="E905"):
            recompress(trained, tolerance)
    vera = tl.attach(model, "vera", targets=["q", "k"], ranks=2, name="vera")
    with pytest.raises(FitError) as info:
        recompress(vera, 0.1)
    text = "E903: the frozen cores of vera belong to its ranks: they cannot be lowered"
    assert str(info.value).startswith(text)
    lorta = tl.attach(model, "lorta", targets=["q", "k"], ranks=2, sizes={"head": 2}, name="cp")
    with torch.no_grad():
        for parameter in lorta.parameters():
            parameter.copy_(torch.randn(parameter.shape))

    def poor(family, target, ranks, energy=None, *, sizes, **_):
        return fit(family, target, ranks, sizes=sizes, method="als", starts=1, sweeps=1)

    monkeypatch.setattr(ranking, "fit", poor)
    monkeypatch.setattr(searching, "fit_until", poor)
    with pytest.raises(FitError) as info:
        recompress(lorta, 1e-6)  # one sweep from a drawn start is not enough
    assert str(info.value) == (
        "E904: no lower ranks of lorta were found that keep its update within 1e-06\n"
        "  Raise the tolerance, or leave it as it is."
    )
    assert tl.adapters(model) == {"default": trained, "vera": vera, "cp": lorta}


def test_ranks_of_cp_are_searched_for(model):
    small = tl.attach(model, "lorta", targets=["q", "k"], ranks=2, sizes={"head": 2})
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    before = stacked(small)
    grown = compress(model, small, "lorta", ranks=4, sizes={"head": 2}, name="grown").adapter
    found = recompress(grown, 1e-3)
    assert found.adapter.bounds["8x8"].ranks == {"r": 2}
    distance = np.linalg.norm(stacked(found.adapter) - before) / np.linalg.norm(before)
    assert distance < 1e-3
