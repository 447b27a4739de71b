"""transformers' own add_adapter and load_adapter: the bank on the first layer that it covers."""

from __future__ import annotations

import copy
import json

import peft
import pytest
import torch
from safetensors.torch import load_file

import tenslora as tl
from tenslora.errors import AttachError, StateError
from tenslora.integrations.peft import convert_bank

FAMILIES = ["tenslora.att_qkv_depth", "lotr", "vera", "pissa"]
OWNER = "bert.encoder.layer.0.attention.self.query.tenslora_12x12"
LABELS = torch.tensor([0, 1])


@pytest.fixture
def here(config):
    """A configuration with the bank on the first layer."""

    def made(**settings):
        return config(bank="first_layer", **settings)

    return made


def loaded(model, folder, name="default"):
    """Load as transformers does, and lay the numbers where torch lays its own.

    They come as views of the file's memory; where one begins decides how BLAS rounds.
    """
    said = model.load_adapter(folder, name)
    assert said.unexpected_keys == said.mismatched_keys == set()
    # it counts those of other adapters as missing, for LoRA too, and leaves them alone
    assert not any(f".{name}." in key for key in said.missing_keys)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


def steps(model, run, count=3):
    """Train what asks for gradients, and return the losses."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.05)
    losses = []
    for _ in range(count):
        loss = torch.nn.functional.cross_entropy(run(model), LABELS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("family", FAMILIES)
def test_train_save_and_load_as_transformers_does_it(make, run, here, config, family, tmp_path):
    settings = {"family": family, "modules_to_save": ["classifier"]}
    model, wrapped = make(), peft.get_peft_model(make(), config(**settings)).eval()
    model.add_adapter(here(**settings))
    start = run(model)
    assert steps(model, run) == steps(wrapped, run)  # the numbers of the other layout
    trained = run(model)
    assert torch.equal(trained, run(wrapped))
    assert not torch.equal(trained, start)
    model.save_pretrained(tmp_path / "a")
    again = loaded(make(), tmp_path / "a")
    assert torch.equal(run(again), trained)
    assert not any(p.requires_grad for n, p in again.named_parameters() if "tenslora_" in n)
    by_peft = peft.PeftModel.from_pretrained(make(), tmp_path / "a")
    assert torch.equal(run(by_peft), trained)


def test_a_checkpoint_has_as_many_numbers_as_are_trained(make, here, tmp_path):
    model = make()
    model.add_adapter(here())
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {name.rpartition(".")[0] for name in trained} == {f"{OWNER}.default"}
    model.save_pretrained(tmp_path)
    held = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(t.numel() for t in held.values()) == sum(p.numel() for p in trained.values())
    assert {name.rpartition(".")[0] for name in held} == {f"base_model.model.{OWNER}"}


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5"])
def test_other_models(make, run, kinds, here, kind, tmp_path):
    """Fused layers, two shapes with a bank each, and an encoder-decoder."""
    settings = {"target_modules": kinds[kind].targets, "init_weights": False}
    model, base = make(kind), run(make(kind), kind)
    model.add_adapter(here(family="lotr", **settings))
    assert not torch.equal(run(model, kind), base)
    model.save_pretrained(tmp_path)
    again = loaded(make(kind), tmp_path)
    assert torch.equal(run(again, kind), run(model, kind))


def test_a_second_adapter_and_switching(make, run, here, tmp_path):
    model, base = make(), run(make())
    model.add_adapter(here(init_weights=False))
    first = run(model)
    model.add_adapter(here(family="lotr", target_modules=["value"], init_weights=False), "second")
    second = run(model)
    assert not torch.equal(first, second)
    assert {n for n, p in model.named_parameters() if p.requires_grad and ".second." in n} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }
    model.set_adapter("default")
    assert torch.equal(run(model), first)
    model.set_adapter(["default", "second"])
    both = run(model)
    model.disable_adapters()
    assert torch.equal(run(model), base)
    assert not any(p.requires_grad for p in model.parameters())
    model.enable_adapters()
    assert torch.equal(run(model), both)
    model.set_adapter("second")
    model.save_pretrained(tmp_path)
    assert torch.equal(run(copy.deepcopy(model)), second)
    model.delete_adapter("default")
    assert torch.equal(run(model), second)
    assert not any(".default." in name for name in model.state_dict())
    loaded(model, tmp_path, "third")
    model.set_adapter("third")
    assert torch.equal(run(model), second)
    model.set_adapter("second")
    assert torch.equal(run(model), second)


def test_an_adapter_after_all_were_deleted(make, run, here):
    model, base = make(), run(make())
    model.add_adapter(here(init_weights=False))
    first = run(model)
    model.delete_adapter("default")
    assert torch.equal(run(model), base)
    model.add_adapter(here(init_weights=False))
    assert torch.equal(run(model), first)
    assert len(model._forward_hooks) == len(model._forward_pre_hooks) == 1


def test_the_layers_merge(make, run, here):
    model = make()
    model.add_adapter(here(init_weights=False))
    before = run(model)
    layers = [m for m in model.modules() if hasattr(m, "merged_adapters")]
    for layer in layers:
        layer.merge(safe_merge=True)
    torch.testing.assert_close(run(model), before, rtol=1e-5, atol=1e-6)
    for layer in layers:
        layer.unmerge()
    assert torch.equal(run(model), before)


def test_a_peft_model_of_this_layout_is_merged_and_unloaded(make, run, here):
    model = peft.get_peft_model(make(), here(init_weights=False)).eval()
    before = run(model)
    merged = model.merge_and_unload(safe_merge=True)
    assert merged.state_dict().keys() == make().state_dict().keys()
    assert not merged._forward_hooks
    torch.testing.assert_close(run(merged), before, rtol=1e-5, atol=1e-6)


def test_the_default_layout_is_refused(make, run, config, tmp_path):
    base = make()
    before = {name: value.clone() for name, value in base.state_dict().items()}
    with pytest.raises(AttachError) as caught:
        base.add_adapter(config())
    assert str(caught.value) == (
        "E536: model.add_adapter and load_adapter keep no tuner, on which this adapter has its "
        "cores\n  Use peft.get_peft_model or PeftModel.from_pretrained; or put the cores on a "
        "layer: TensLoraConfig(..., bank='first_layer'), and `tenslora export ADAPTER OUT --to "
        "first_layer` for a checkpoint."
    )
    peft.get_peft_model(make(), config()).save_pretrained(tmp_path)
    with pytest.raises(AttachError, match=r"E536: .* and load_adapter keep no tuner"):
        base.load_adapter(tmp_path)
    after = base.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not hasattr(base, "peft_config")
    assert all(p.requires_grad for p in base.parameters())
    base.add_adapter(config(bank="first_layer"))  # and nothing is in the way of the next try


def test_a_mistake_leaves_the_adapters_that_are_there(make, run, here):
    model = make()
    model.add_adapter(here(init_weights=False))
    before, names = run(model), list(model.state_dict())
    with pytest.raises(tl.TensloraError, match="E502"):
        model.add_adapter(here(target_modules=["LayerNorm"]), "second")
    assert list(model.state_dict()) == names
    assert list(model.peft_config) == ["default"]
    assert torch.equal(run(model), before)


def test_cores_on_a_tuner_and_on_a_layer_of_one_model(make, run, config, here):
    """One PeftModel may hold both; two tuners may not."""
    model = peft.get_peft_model(make(), config(init_weights=False)).eval()
    first = run(model)
    model.add_adapter("second", here(init_weights=False, seed=1))
    model.set_adapter("second")
    assert not torch.equal(run(model), first)
    model.delete_adapter("second")
    assert torch.equal(run(model), first)
    with (
        pytest.warns(UserWarning, match="second time"),
        pytest.raises(AttachError, match="E534: the model has adapters of another tuner"),
    ):
        peft.get_peft_model(model.base_model.model, here(), adapter_name="third")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("old", "new"), [("tuner", "first_layer"), ("first_layer", "tuner")])
def test_a_checkpoint_is_converted_both_ways(make, run, config, family, old, new, tmp_path):
    settings = {"family": family, "modules_to_save": ["classifier"], "init_weights": False}
    model = peft.get_peft_model(make(), config(bank=old, **settings)).eval()
    steps(model, run)
    model.save_pretrained(tmp_path / "old")
    made = convert_bank(tmp_path / "old", tmp_path / "new", to=new)
    assert str(made) == f"{made.tensors} tensors in {tmp_path / 'new'}, with bank={new!r}"
    again = peft.PeftModel.from_pretrained(make(), tmp_path / "new")
    assert again.peft_config["default"].bank == new
    assert torch.equal(run(again), run(model))
    if new == "first_layer":
        assert torch.equal(run(loaded(make(), tmp_path / "new")), run(model))
    convert_bank(tmp_path / "new", tmp_path / "back", to=old)
    name = "adapter_model.safetensors"
    before, back = (load_file(tmp_path / folder / name) for folder in ("old", "back"))
    assert before.keys() == back.keys()
    assert all(torch.equal(before[key], back[key]) for key in before)
    configs = [
        json.loads((tmp_path / f / "adapter_config.json").read_text()) for f in ("old", "back")
    ]
    assert configs[0] == configs[1]


def test_frozen_cores_in_a_checkpoint_are_converted_too(make, run, config, tmp_path):
    model = peft.get_peft_model(make(), config(family="vera", save_frozen=True)).eval()
    model.save_pretrained(tmp_path / "old")
    made = convert_bank(tmp_path / "old", tmp_path / "new", to="first_layer")
    held = load_file(tmp_path / "new" / "adapter_model.safetensors")
    assert {name.rpartition(".")[0] for name in held} == {f"base_model.model.{OWNER}"}
    assert len(held) == made.tensors == 4
    assert torch.equal(run(loaded(make(), tmp_path / "new")), run(model))


def test_what_cannot_be_converted(make, config, tmp_path):
    def refused(code, **changed):
        text = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
        (tmp_path / "b" / "adapter_config.json").write_text(json.dumps({**text, **changed}))
        with pytest.raises(StateError, match=code) as caught:
            convert_bank(tmp_path / "b", tmp_path / "new", to="tuner")
        assert not (tmp_path / "new").exists()
        return str(caught.value)

    peft.get_peft_model(make(), config()).save_pretrained(tmp_path / "a")
    peft.get_peft_model(make(), config()).save_pretrained(tmp_path / "b")
    assert "has peft_type 'LORA', not 'TENSLORA'" in refused("E611", peft_type="LORA")
    assert "has bank='nix'" in refused("E603", bank="nix")
    assert "has no site_map" in refused("E603", site_map=None)
    refused("E601", site_map={})
    assert f"has no tensor base_model.model.{OWNER}.U" in refused("E612", bank="first_layer")
    with pytest.raises(ValueError, match="to='nix' is none of tuner, first_layer"):
        convert_bank(tmp_path / "a", tmp_path / "new", to="nix")
    with pytest.raises(StateError, match="E616"):
        convert_bank(tmp_path / "a", tmp_path / "b", to="tuner")


def test_settings_of_the_bank(config, here, make, tmp_path):
    with pytest.raises(AttachError) as caught:
        config(bank="layer")
    assert str(caught.value) == "E531: bank='layer'\n  Choose one of tuner, first_layer."
    model = make()
    model.add_adapter(here())
    model.save_pretrained(tmp_path)
    settings = peft.PeftConfig.from_pretrained(tmp_path)
    with pytest.raises(AttachError, match="E531: with bank='first_layer' the tensors in the file"):
        settings.rename("query", "q_proj")
