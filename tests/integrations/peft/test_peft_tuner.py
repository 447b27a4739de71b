"""The tuner against tenslora.attach, to the last bit, and against the equation in numpy."""

from __future__ import annotations

import copy
import json

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

import tenslora as tl
from tenslora.errors import AttachError


def train(run, kind, parameters, steps=4):
    """Take steps of AdamW, and return the losses."""
    optimizer = torch.optim.AdamW(parameters, lr=0.05)
    losses = []
    for _ in range(steps):
        out = run()
        loss = cross_entropy(out.flatten(0, -2), torch.arange(out[..., 0].numel()) % 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "plain", "t5"])
@pytest.mark.parametrize("family", ["tenslora.att_qkv_depth", "lotr", "vera"])
def test_training_gives_the_numbers_of_attach_to_the_last_bit(make, run, kinds, kind, family):
    targets = kinds[kind].targets
    sizes = {"head": 3} if kind == "plain" and "att" in family else None
    by_hand, wrapped = make(kind), make(kind)
    adapter = tl.attach(by_hand, family, targets=targets, ranks=2, seed=3, sizes=sizes)
    config = tl.TensLoraConfig(family=family, target_modules=targets, ranks=2, seed=3, sizes=sizes)
    model = peft.get_peft_model(wrapped, config).eval()
    mine = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in mine) == adapter.trainable_parameters
    assert model.get_nb_trainable_parameters()[0] == adapter.trainable_parameters
    expected = train(lambda: run(by_hand, kind), kind, list(adapter.parameters()))
    assert train(lambda: run(model, kind), kind, mine) == expected
    assert len(set(expected)) == len(expected)  # it did learn something
    assert torch.equal(run(model, kind), run(by_hand, kind))
    adapter.merge()
    assert torch.equal(run(model.merge_and_unload(), kind), run(by_hand, kind))


def test_the_update_is_the_equation(make, config, randomize):
    model = peft.get_peft_model(make(), config())
    randomize(model)
    (bank,) = model.base_model.shared.adapters["default"].values()
    cores = {name: core.detach().double().numpy() for name, core in bank.cores().items()}
    equation = "ia,jb,hc,pd,le,abcde->lphji"
    dense = np.einsum(equation, *(cores[name] for name in "UVHPDG")).reshape(2, 3, 12, 12)
    for n, layer in enumerate(model.base_model.model.bert.encoder.layer):
        for m, name in enumerate(("query", "key", "value")):
            found = getattr(layer.attention.self, name).get_delta_weight("default")
            expected = bank.bound.scale * dense[n, m]
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_a_checkpoint_holds_the_trained_numbers_and_gives_them_back(
    make, run, config, randomize, tmp_path
):
    model = peft.get_peft_model(make(), config()).eval()
    randomize(model)
    model.save_pretrained(tmp_path)
    held = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(t.numel() for t in held.values()) == model.get_nb_trainable_parameters()[0]
    assert sorted(held) == [f"base_model.tenslora_12x12.{core}" for core in "DGHPUV"]
    again = peft.PeftModel.from_pretrained(make(), tmp_path)
    assert torch.equal(run(again), run(model))
    assert not any(p.requires_grad for p in again.parameters())
    trainable = peft.PeftModel.from_pretrained(make(), tmp_path, is_trainable=True)
    assert trainable.get_nb_trainable_parameters() == model.get_nb_trainable_parameters()


def test_frozen_cores_follow_from_the_seed_or_are_saved(make, run, config, randomize, tmp_path):
    model = peft.get_peft_model(make(), config(family="vera", seed=5)).eval()
    randomize(model)
    model.save_pretrained(tmp_path / "lean")
    held = load_file(tmp_path / "lean" / "adapter_model.safetensors")
    assert sum(t.numel() for t in held.values()) == model.get_nb_trainable_parameters()[0]
    assert torch.equal(run(peft.PeftModel.from_pretrained(make(), tmp_path / "lean")), run(model))
    whole = peft.get_peft_model(make(), config(family="vera", seed=5, save_frozen=True)).eval()
    randomize(whole)
    whole.save_pretrained(tmp_path / "whole")
    held = load_file(tmp_path / "whole" / "adapter_model.safetensors")
    assert sum(t.numel() for t in held.values()) > whole.get_nb_trainable_parameters()[0]
    assert torch.equal(run(peft.PeftModel.from_pretrained(make(), tmp_path / "whole")), run(model))


def test_merging_is_undone_bit_for_bit(make, run, config, randomize):
    model = peft.get_peft_model(make().bfloat16(), config()).eval()
    randomize(model)
    before = copy.deepcopy(model.state_dict())
    for _ in range(3):
        model.merge_adapter(safe_merge=True)
        model.unmerge_adapter()
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_unloading_leaves_the_base_alone(make, run, config, randomize):
    base = make()
    expected, keys = run(base), list(base.state_dict())
    model = peft.get_peft_model(base, config()).eval()
    randomize(model)
    assert not torch.equal(run(model), expected)
    merged = copy.deepcopy(model).merge_and_unload(safe_merge=True)
    torch.testing.assert_close(run(merged), run(model), rtol=1e-4, atol=1e-5)
    bare = model.unload()
    assert bare is base
    assert torch.equal(run(bare), expected)
    for left in (merged, bare):
        assert list(left.state_dict()) == keys
        assert not left._forward_hooks
        assert not left._forward_pre_hooks


def test_a_broken_adapter_is_not_merged_safely(make, config, randomize):
    model = peft.get_peft_model(make(), config())
    randomize(model)
    layers = model.base_model.model.bert.encoder.layer
    with torch.no_grad():  # the last layer alone is broken
        model.base_model.tenslora_12x12["default"].D[1] = torch.nan
    before = {name: w.clone() for name, w in model.state_dict().items() if "base_layer" in name}
    for call in (
        lambda: model.merge_adapter(safe_merge=True),
        lambda: model.merge_and_unload(safe_merge=True),
    ):
        with pytest.raises(AttachError, match="E512: NaNs detected in the merged weights"):
            call()
        held = model.state_dict()
        assert all(torch.equal(w, held[name]) for name, w in before.items())
        assert not layers[0].attention.self.query.merged


def test_adapters_are_switched_added_and_deleted(make, run, config, randomize):
    model = peft.get_peft_model(make(), config()).eval()
    randomize(model)
    first = run(model)
    base = run(make())
    model.add_adapter("second", config(seed=9))
    randomize(model, "second", seed=2)
    assert torch.equal(run(model), first)  # added, not active
    state = model.state_dict()
    sizes = {
        name: sum(t.numel() for key, t in state.items() if f".{name}." in key)
        for name in ("default", "second")
    }
    assert sizes["default"] == sizes["second"] == model.get_nb_trainable_parameters()[0]
    model.set_adapter("second")
    second = run(model)
    assert not torch.equal(second, first)
    trained = {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"second"}
    with model.disable_adapter():
        assert torch.equal(run(model), base)
    model.base_model.set_adapter(["default", "second"])
    both = run(model)
    assert not torch.equal(both, first)
    assert not torch.equal(both, second)
    model.set_adapter("default")
    model.delete_adapter("second")
    assert torch.equal(run(model), first)
    assert not any(".second" in key for key in model.state_dict())
    assert list(model.peft_config) == ["default"]
    model.add_adapter("second", config(seed=9))  # the name is free again
    assert torch.equal(run(model), first)


def test_the_last_adapter_may_go(make, run, config, randomize):
    model = peft.get_peft_model(make(), config()).eval()
    randomize(model)
    model.add_adapter("second", config())
    model.set_adapter("second")
    with pytest.warns(UserWarning, match="Setting active adapter to default"):
        model.delete_adapter("second")
    assert [p.requires_grad for p in model.base_model.tenslora_12x12.parameters()] == [True] * 6


def test_a_new_adapter_leaves_the_trained_one_trainable(make, config):
    model = peft.get_peft_model(make(), config())
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    model.add_adapter("frozen", config(inference_mode=True))
    now = dict(model.named_parameters())
    assert {name: now[name].requires_grad for name in before} == before
    assert not any(p.requires_grad for name, p in now.items() if ".frozen." in name)


def test_rows_of_a_batch_use_their_own_adapters(make, run, config, randomize):
    model = peft.get_peft_model(make(), config()).eval()
    model.add_adapter("second", config(family="lora", target_modules=["query"], seed=1))
    for seed, name in enumerate(("default", "second")):
        randomize(model, name, seed)
    names = ["second", "default", "__base__", "default"]
    batch = torch.arange(20).reshape(4, 5) % 17
    mixed = model(batch, adapter_names=names).logits
    for row, name in enumerate(names):
        if name == "__base__":
            with model.disable_adapter():
                alone = model(batch).logits[row]
        else:
            model.set_adapter(name)
            alone = model(batch).logits[row]
        torch.testing.assert_close(mixed[row], alone, rtol=1e-4, atol=1e-5)


def test_mistakes_in_a_mixed_batch(make, run, config):
    model = peft.get_peft_model(make(), config())
    with pytest.raises(AttachError, match="E533: Cannot pass `adapter_names` when the model is in"):
        run(model.train(), adapter_names=["default", "default"])
    model.eval()
    with pytest.raises(AttachError, match=r"E533: Trying to infer with non-existing adapter.*nix"):
        run(model, adapter_names=["default", "nix"])
    with pytest.raises(AttachError, match="E533: Length of `adapter_names` should be the same"):
        run(model, adapter_names=["default"])
    model.merge_adapter()
    with pytest.raises(AttachError, match=r"E533: .*please call `unmerge_adapter` first"):
        run(model, adapter_names=["default", "default"])


def test_a_config_is_read_back_as_it_was(config, tmp_path):
    family = tl.family("W[layer out in] = B[layer out r] A[r in]", init={"B": "zeros"})
    made = config(family=family, ranks={"r": 3}, layers_to_transform=[0], alpha=4.0)
    made.save_pretrained(tmp_path)
    text = json.loads((tmp_path / "adapter_config.json").read_text())
    assert text["peft_type"] == "TENSLORA"
    again = peft.PeftConfig.from_pretrained(tmp_path)
    assert type(again) is tl.TensLoraConfig
    assert again == made
    assert again.equation == family


def test_the_config_of_a_family_of_the_catalogue_holds_its_name(config):
    assert config(family=tl.resolve("lotr")).family == "lotr"
    assert config(family="W[out in] = B[out r] A[r in]").family == "W[out in] = B[out r] A[r in]"


def test_ranks_by_a_budget_are_kept_in_the_file(make, run, config, randomize, tmp_path):
    model = peft.get_peft_model(make(), config(like="lora:2")).eval()
    randomize(model)
    assert 0 < model.get_nb_trainable_parameters()[0] <= 6 * 2 * 24
    model.save_pretrained(tmp_path)
    assert torch.equal(run(peft.PeftModel.from_pretrained(make(), tmp_path)), run(model))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"bias": "lora_only"},
            "E531: bias='lora_only'\n  Choose one of none, all, tenslora_only.",
        ),
        (
            {"layers_pattern": "layer"},
            "E531: layers_pattern is given, and layers_to_transform is not\n"
            "  When `layers_pattern` is specified, `layers_to_transform` must be, too.",
        ),
        (
            {"target_modules": ".*query", "layers_to_transform": [0]},
            "E531: layers_to_transform goes with a list of target_modules, and that is a `str`\n"
            "  Write the layers into the regular expression.",
        ),
    ],
)
def test_settings_that_do_not_go_together(config, settings, text):
    with pytest.raises(AttachError) as caught:
        config(**settings)
    assert str(caught.value) == text


def test_a_refused_configuration_changes_nothing(make, config):
    base = make()
    before = {name: (id(p), p.requires_grad, p.clone()) for name, p in base.named_parameters()}
    modules = list(base.modules())
    for wrong in (
        config(target_modules=["query", "LayerNorm"]),
        config(ranks=10**9),
        config(target_modules=["query", "dense"], ragged="error"),
    ):
        with pytest.raises(tl.TensloraError):
            peft.get_peft_model(base, wrong)
        assert [id(m) for m in base.modules()] == [id(m) for m in modules]
        assert not base._forward_hooks
        assert not hasattr(base, "peft_config")
        for name, p in base.named_parameters():
            assert (id(p), p.requires_grad) == before[name][:2]
            assert torch.equal(p, before[name][2])


def test_modules_that_moved_are_named(make, config, tmp_path):
    model = peft.get_peft_model(make(), config())
    model.save_pretrained(tmp_path)
    renamed = make()
    for layer in renamed.bert.encoder.layer:
        attention = layer.attention.self
        attention.query_proj = attention.query
        del attention.query
    with pytest.raises(tl.TensloraError) as caught:
        peft.PeftModel.from_pretrained(renamed, tmp_path)
    assert str(caught.value) == (
        "E532: 2 of the 6 modules of the adapter are no linear layers of this "
        "BertForSequenceClassification: bert.encoder.layer.0.attention.self.query (nearest: "
        "bert.encoder.layer.0.attention.self.query_proj), "
        "bert.encoder.layer.1.attention.self.query (nearest: "
        "bert.encoder.layer.1.attention.self.query_proj)\n"
        "  Load the class and version of model that it was made on. Where they have other names "
        "now, read the config, say config.rename(old, new), and load with config=config."
    )
    assert not any("base_layer" in name for name, _ in renamed.named_modules())


def test_the_way_out_that_the_error_names(make, run, config, randomize, tmp_path):
    model = peft.get_peft_model(make(), config()).eval()
    randomize(model)
    model.save_pretrained(tmp_path)
    renamed = make()
    for layer in renamed.bert.encoder.layer:
        old = layer.attention.self
        old.query_proj = old.query
        del old.query
    settings = peft.PeftConfig.from_pretrained(tmp_path)
    with pytest.raises(AttachError, match="E531: there is no module 'quer' in the site map"):
        settings.rename("quer", "x")
    settings.rename("query", "query_proj")
    again = peft.PeftModel.from_pretrained(renamed, tmp_path, config=settings)
    there = again.base_model.model.bert.encoder.layer[1].attention.self
    here = model.base_model.model.bert.encoder.layer[1].attention.self
    for mine, other in ((there.query_proj, here.query), (there.key, here.key)):
        expected = other.get_delta_weight("default")
        assert torch.count_nonzero(expected)
        assert torch.equal(mine.get_delta_weight("default"), expected)


def test_an_adapter_may_not_be_called_like_a_core(make, config):
    with pytest.raises(AttachError) as caught:
        peft.get_peft_model(make(), config(), adapter_name="G")
    assert str(caught.value) == (
        "E535: 'G' is the name of an adapter and of a core\n  Give the adapter another name."
    )


def test_a_second_tuner_on_one_model_is_refused(make, config):
    base = make()
    peft.get_peft_model(base, config())
    with (
        pytest.warns(UserWarning, match="second time"),
        pytest.raises(AttachError, match="E534: the model has adapters of another tuner"),
    ):
        peft.get_peft_model(base, config(), adapter_name="other")


def test_parts_of_a_fused_layer_have_names(make, run, config):
    model = peft.get_peft_model(
        make("gpt2"), config(family="lora", target_modules=["c_attn.q", "c_attn.v"])
    )
    (bank,) = model.base_model.shared.adapters["default"].values()
    assert bank.grid.labels["proj"] == ("q", "v")
    assert model.peft_config["default"].fan_in_fan_out


def test_deep_copies_are_apart(make, run, config, randomize):
    model = peft.get_peft_model(make(), config()).eval()
    randomize(model)
    other = copy.deepcopy(model)
    before = run(model)
    randomize(other, seed=4)
    assert torch.equal(run(model), before)
    assert not torch.equal(run(other), before)


@pytest.mark.parametrize("disabled", [False, True])
def test_what_is_not_trained_is_not_trained_after_another_is_deleted(
    make, config, tmp_path, disabled
):
    for name in ("first", "second"):
        peft.get_peft_model(make(), config()).save_pretrained(tmp_path / name)
    model = peft.PeftModel.from_pretrained(make(), tmp_path / "first")
    model.load_adapter(tmp_path / "second", "second")
    if disabled:
        model.base_model.disable_adapter_layers()
    assert not any(p.requires_grad for p in model.parameters())
    model.delete_adapter("second")
    assert not any(p.requires_grad for p in model.parameters())
