"""Trained updates read from files, against the adapters and PEFT models that wrote them."""

from __future__ import annotations

import json

import numpy as np
import peft
import pytest
import torch
from torch import nn

import tenslora as tl
from tenslora.errors import FitError, StateError
from tenslora.integrations.updates import read_updates
from tenslora.nn import Site


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)


def make_model():
    model = nn.Module()
    model.layers = nn.ModuleList(Block() for _ in range(3))
    return model


@pytest.mark.filterwarnings("ignore::tenslora.errors.TensloraWarning")
@pytest.mark.parametrize("family", ["lora", "tenslora.qkv_depth", "fact_tt", "vera"])
def test_an_adapters_file_has_the_updates_of_the_adapter(tmp_path, family):
    model = make_model()
    adapter = tl.attach(model, family, targets=["q", "k", "v"], ranks=2, alpha=5.0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    adapter.save(tmp_path / "a.safetensors")
    square, flat = read_updates(tmp_path / "a.safetensors", heads=2)
    assert (square.projections, flat.projections) == (("q", "k"), ("v",))
    assert (square.layers, square.heads) == ((0, 1, 2), 2)
    for updates in (square, flat):
        for n, layer in enumerate(updates.layers):
            for p, proj in enumerate(updates.projections):
                wanted = adapter.delta(f"layers.{layer}.{proj}").detach().numpy()
                np.testing.assert_allclose(updates.array[n, p], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rslora", [False, True])
def test_a_checkpoint_of_peft_has_the_updates_of_its_model(tmp_path, rslora):
    config = peft.LoraConfig(
        r=2, lora_alpha=6, target_modules=["q", "v"], use_rslora=rslora,
        rank_pattern={"v": 3}, alpha_pattern={"v": 4}, init_lora_weights=False,
    )  # fmt: skip
    model = peft.get_peft_model(make_model(), config)
    model.save_pretrained(tmp_path)
    found = {u.projections[0]: u for u in read_updates(tmp_path)}
    for layer in range(3):
        for proj in ("q", "v"):
            module = model.get_submodule(f"base_model.model.layers.{layer}.{proj}")
            wanted = module.get_delta_weight("default").detach().numpy()
            array = found[proj].array[layer, 0]
            np.testing.assert_allclose(array, wanted, rtol=1e-5, atol=1e-6)


def test_alphas_by_module_are_those_of_peft(tmp_path):
    patterns = {"1.q": 4, "q": 3, "^layers.2.v": 5, "v": 2}
    config = peft.LoraConfig(
        r=2, lora_alpha=6, target_modules=["q", "v"], alpha_pattern=patterns,
        init_lora_weights=False,
    )  # fmt: skip
    model = peft.get_peft_model(make_model(), config)
    model.save_pretrained(tmp_path)
    found = {u.projections[0]: u for u in read_updates(tmp_path)}
    for layer in range(3):
        for proj in ("q", "v"):
            module = model.get_submodule(f"base_model.model.layers.{layer}.{proj}")
            wanted = module.get_delta_weight("default").detach().numpy()
            array = found[proj].array[layer, 0]
            np.testing.assert_allclose(array, wanted, rtol=1e-5, atol=1e-6)


def test_a_folder_of_a_run_is_its_adapter(tmp_path):
    model = make_model()
    adapter = tl.attach(model, "lora", targets=["q"], ranks=2)
    adapter.save(tmp_path / "adapter.safetensors")
    (found,) = read_updates(tmp_path)
    assert (found.projections, found.layers) == (("q",), (0, 1, 2))


def test_updates_of_low_rank_stay_of_low_rank(tmp_path):
    """In float64: what is computed in float32 has every rank, and is slow to fit."""
    model = make_model()
    adapter = tl.attach(model, "lora", targets=["q"], ranks=2)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    adapter.save(tmp_path / "a.safetensors")
    (found,) = read_updates(tmp_path / "a.safetensors")
    assert np.linalg.matrix_rank(found.array).max() == 2


def test_weights_without_places_of_their_own_are_refused(tmp_path):
    model = make_model()
    names = [f"layers.{n}.q" for n in range(2)]
    sites = [Site(path, {"expert": n}) for n, path in enumerate(names)]
    family = tl.family("W[expert out in] = B[expert out r] A[r in]", init={"B": "zeros"})
    tl.attach(model, family, sites=sites, ranks=2).save(tmp_path / "a.safetensors")
    with pytest.raises(FitError) as info:
        read_updates(tmp_path / "a.safetensors")
    assert str(info.value) == (
        "E901: two updates of 8x8 stand at layer 0, projection all\n"
        "  Give each weight a layer and a projection of its own."
    )


def test_files_that_are_no_adapter_are_refused(tmp_path):
    with pytest.raises(StateError, match=r"E610: there is no file"):
        read_updates(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(StateError, match=r"E610: .*no whole safetensors file"):
        read_updates(tmp_path / "broken.safetensors")
    with pytest.raises(StateError) as info:
        read_updates(tmp_path)
    assert str(info.value) == (
        f"E610: {tmp_path} holds neither adapter.safetensors nor adapter_config.json\n"
        "  Give the file of Adapter.save, or a folder of PEFT: a plain LoRA, or tenslora's own."
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LOHA"}))
    with pytest.raises(StateError, match=r"E620: .* is no plain LoRA: it has peft_type 'LOHA'"):
        read_updates(tmp_path)
    from safetensors.numpy import save_file

    save_file({"x": np.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(StateError, match=r"E611: .*other.safetensors"):
        read_updates(tmp_path / "other.safetensors")
