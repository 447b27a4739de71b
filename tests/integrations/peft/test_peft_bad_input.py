"""Mistakes with the tuner: each is told, and the whole state dict is as it was, bit for bit."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import tenslora as tl
from tenslora.errors import AttachError, StateError

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"


def state_of(model):
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    return {name: value.clone() for name, value in model.state_dict().items()}, flags


def same(model, before):
    values, flags = before
    after, now = state_of(model)
    assert values.keys() == after.keys()
    for name, value in values.items():
        held = after[name]
        assert value.dtype == held.dtype
        assert torch.equal(value.view(torch.uint8), held.view(torch.uint8)), name
    assert flags == now


@pytest.fixture
def saved(make, config, randomize, tmp_path):
    """A folder of an adapter with random numbers, to be spoilt."""
    model = peft.get_peft_model(make(), config())
    randomize(model)
    model.save_pretrained(tmp_path)
    return tmp_path


def change(folder, **settings):
    path = folder / SETTINGS
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def site_map(folder):
    return json.loads((folder / SETTINGS).read_text())["site_map"]


def newer(folder):
    change(folder, site_map={**site_map(folder), "schema": 99})


def no_family(folder):
    found = site_map(folder)
    found["family"]["equation"] = "W[layer proj out in] = nonsense"
    change(folder, site_map=found)


def other_shape(folder):
    found = site_map(folder)
    next(iter(found["base"].values()))["shape"] = [13, 12]
    change(folder, site_map=found)


def half_a_file(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-7])


SPOILT = {
    "newer schema": (newer, tl.TensloraError, "E601: .*99"),
    "unknown family": (no_family, tl.TensloraError, "E603: the family in the file"),
    "wrong shape of a weight": (other_shape, tl.TensloraError, r"E615: .*\[13, 12\]"),
    "no site map": (lambda f: change(f, site_map=[]), tl.TensloraError, "E603: site_map is list"),
    "an unknown place of the bank": (
        lambda f: change(f, bank="attic"), tl.TensloraError, "E531: bank='attic'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "kind", "text"), SPOILT.values(), ids=list(SPOILT))
def test_a_spoilt_folder(make, saved, spoil, kind, text):
    spoil(saved)
    base = make()
    before = state_of(base)
    with pytest.raises(kind, match=rf"(?s)^{text}"):
        peft.PeftModel.from_pretrained(base, saved)
    same(base, before)
    assert not base._forward_hooks
    held = peft.get_peft_model(base, tl.TensLoraConfig(target_modules=["query"], ranks=2))
    before = state_of(held)
    with pytest.raises(kind, match=rf"(?s)^{text}"):
        held.load_adapter(saved, "second")
    same(held, before)
    assert list(held.peft_config) == ["default"]


def test_the_wrong_base(make, saved):
    base = make("gpt2")
    before = state_of(base)
    with pytest.raises(tl.TensloraError, match="E532: 6 of the 6 modules of the adapter are no"):
        peft.PeftModel.from_pretrained(base, saved)
    same(base, before)


WRONG = {
    "a target that matches nothing": (
        {"target_modules": ["qeury"]}, ValueError,
        "(Target modules .*qeury.* not found|No modules were targeted).*Did you mean query.*Linear "
        "layers: query, key, value",
    ),
    "a module of an unsupported type": (
        {"target_modules": ["LayerNorm"]}, tl.TensloraError, "E502: .*LayerNorm is not supported",
    ),
    "an unknown family": ({"family": "lroa"}, tl.TensloraError, "E306: .*Did you mean lora"),
    "a rank of zero": ({"ranks": 0}, tl.TensloraError, "E206"),
    "several shapes": (
        {"target_modules": ["query", "dense"], "ragged": "error"}, tl.TensloraError, "E507",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "kind", "text"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_configuration(make, config, randomize, settings, kind, text):
    base = make()
    before = state_of(base)
    with pytest.raises(kind, match=rf"(?s){text}"):
        peft.get_peft_model(base, config(**settings))
    same(base, before)
    held = peft.get_peft_model(base, config())
    randomize(held)
    before = state_of(held)
    with pytest.raises(kind, match=rf"(?s){text}"):
        held.add_adapter("second", config(**settings))
    same(held, before)
    known = held.peft_config["default"]
    with pytest.raises(ValueError, match="already"):
        held.add_adapter("default", config())  # attaching twice
    same(held, before)
    assert held.peft_config["default"] is known
    with pytest.raises(AttachError) as caught:
        held.base_model.inject_adapter(held.base_model.model, "default")
    assert str(caught.value) == (
        "E508: the model has an adapter 'default' already\n"
        "  Choose another name, or delete_adapter it first."
    )
    same(held, before)
    held.add_adapter("second", config())
    held.delete_adapter("default")
    assert list(held.peft_config) == ["second"]


def test_numbers_that_are_not_finite(make, config, randomize):
    model = peft.get_peft_model(make(), config())
    randomize(model)
    with torch.no_grad():
        model.base_model.tenslora_12x12["default"].U[0, 0] = float("nan")
    before = state_of(model)
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(tl.TensloraError, match="E512: NaNs detected in the merged weights"):
            merge(safe_merge=True)
        same(model, before)


def test_merging_twice(make, config, randomize):
    model = peft.get_peft_model(make(), config())
    randomize(model)
    model.merge_adapter(safe_merge=True)
    before = state_of(model)
    with pytest.warns(UserWarning, match="already merged"):
        model.merge_adapter(safe_merge=True)
    same(model, before)


def test_unloading_while_merged_leaves_the_merged_weights(make, config, randomize):
    """As for LoRA; a detached adapter of tenslora.attach would refuse."""
    model = peft.get_peft_model(make(), config())
    randomize(model)
    model.merge_adapter()
    layer = model.base_model.model.bert.encoder.layer[0].attention.self.query
    merged = layer.get_base_layer().weight.clone()
    base = model.unload()
    assert torch.equal(base.bert.encoder.layer[0].attention.self.query.weight, merged)
    assert not torch.equal(merged, make().bert.encoder.layer[0].attention.self.query.weight)


def test_deleting_while_merged(make, config, randomize):
    model = peft.get_peft_model(make(), config())
    model.add_adapter("second", config(seed=1))
    randomize(model)
    model.merge_adapter(["default"])
    before = state_of(model)
    with pytest.raises(AttachError) as caught:
        model.delete_adapter("default")
    assert str(caught.value) == (
        "E511: Cannot delete adapter(s) ['default'] while they are merged. "
        "Please unmerge them first."
    )
    same(model, before)
    assert list(model.peft_config) == ["default", "second"]
    layer = model.base_model.model.bert.encoder.layer[0].attention.self.query
    with pytest.raises(AttachError, match="E511"):
        layer.delete_adapter("default")  # as transformers does it
    same(model, before)


def test_a_second_tuner(make, config, randomize):
    held = peft.get_peft_model(make(), config())
    randomize(held)
    before, base = state_of(held), held.get_base_model()
    with (
        pytest.warns(UserWarning, match="second time"),
        pytest.raises(AttachError, match="E534"),
    ):
        peft.get_peft_model(base, config(), adapter_name="second")
    same(held, before)


def drop(held, name):
    del held[name]


def add(held, name):
    held[name + "x"] = torch.ones(2)


def add_elsewhere(held, name):
    held["base_model.model.bert.nowhere.weight"] = torch.ones(2)


def add_outside(held, name):
    held["other.weight"] = torch.ones(2)


def cut(held, name):
    held[name] = torch.ones(1)


CORE = "base_model.tenslora_12x12.D"
TENSORS = {
    "a core that is missing": (drop, CORE, rf"E612: .* has missing tensors {CORE}\n"),
    "a head that is missing": (
        drop, "base_model.model.classifier.bias", "E612: .* missing tensors .*classifier.bias",
    ),
    "an unknown core": (add, CORE, rf"E612: .* has unknown tensors {CORE}x\n"),
    "an unknown weight": (add_elsewhere, CORE, "E612: .* unknown tensors .*bert.nowhere.weight"),
    "a tensor from elsewhere": (add_outside, CORE, "E612: .* unknown tensors other.weight"),
    "a core of another shape": (
        cut, CORE, rf"E613: .*{CORE} has shape \(1,\), and \(2, 2\) is due\n",
    ),
}  # fmt: skip


@pytest.fixture
def with_head(make, config, randomize, tmp_path):
    """A folder of an adapter with a head beside it, to be spoilt."""
    model = peft.get_peft_model(make(), config(modules_to_save=["classifier"]))
    randomize(model)
    model.save_pretrained(tmp_path)
    return tmp_path


def refused(folder, text, make, run, config):
    """Load a broken folder in every way: the error is told, and nothing has changed."""
    base = make()
    before, output = state_of(base), run(base)
    for options in ({}, {"low_cpu_mem_usage": True}, {"is_trainable": True}):
        with pytest.raises(StateError, match=rf"(?s)^{text}"):
            peft.PeftModel.from_pretrained(base, folder, **options)
        same(base, before)
    assert not base._forward_hooks
    assert torch.equal(run(base), output)
    held = peft.get_peft_model(base, config(modules_to_save=["classifier"], init_weights=False))
    before, output = state_of(held), run(held.eval())
    with pytest.raises(StateError, match=rf"(?s)^{text}"):
        held.load_adapter(folder, "second")
    same(held, before)
    assert list(held.peft_config) == ["default"]
    assert torch.equal(run(held), output)
    return held


@pytest.mark.parametrize(("spoil", "name", "text"), TENSORS.values(), ids=list(TENSORS))
def test_tensors_that_are_not_those_of_the_adapter(
    make, run, config, with_head, asks, spoil, name, text
):
    tensors = load_file(with_head / WEIGHTS)
    spoil(tensors, name)
    save_file(tensors, with_head / WEIGHTS, {"format": "pt"})
    held = refused(with_head, text, make, run, config)
    if not asks:
        return
    before = state_of(held)  # into an adapter that is there, and without a file
    kinds = KeyError if "classifier" in name else StateError  # heads are PEFT's own
    for load in (
        lambda: held.load_adapter(with_head, "default"),
        lambda: peft.set_peft_model_state_dict(held, tensors),
    ):
        with pytest.raises(kinds):
            load()
        same(held, before)


def test_half_a_file(make, run, config, with_head):
    half_a_file(with_head)
    refused(with_head, "E610: .* is no whole safetensors file", make, run, config)


def test_a_broken_copy_of_the_hub(make, run, config, with_head, tmp_path, monkeypatch):
    """The file of the hub is asked for before anything changes; PEFT then reads the same copy."""
    tensors = load_file(with_head / WEIGHTS)
    del tensors[CORE]
    commit = "0" * 40
    repository = tmp_path / "cache" / "models--someone--adapter"
    copy = repository / "snapshots" / commit
    copy.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (copy / SETTINGS).write_bytes((with_head / SETTINGS).read_bytes())
    save_file(tensors, copy / WEIGHTS, {"format": "pt"})
    base = make()
    before = state_of(base)
    options = {"cache_dir": str(tmp_path / "cache"), "local_files_only": True}
    with pytest.raises(StateError, match=f"E612: .*missing tensors {CORE}"):
        peft.PeftModel.from_pretrained(base, "someone/adapter", **options)
    same(base, before)


def test_a_configuration_is_read_where_no_tensors_are(make, run, config, with_head):
    """A folder of settings alone makes a new adapter of the same design."""
    (with_head / WEIGHTS).unlink()
    settings = tl.TensLoraConfig.from_pretrained(with_head)
    model = peft.get_peft_model(make(), settings)
    assert {bank.adapter for bank in model.base_model.tenslora_12x12.values()} == {"default"}


@pytest.mark.parametrize("name", ["rank_pattern", "alpha_pattern"])
def test_patterns_of_lora_are_refused(name, config, saved):
    """Empty ones, as LoRA's folders have them, say nothing."""
    assert name not in config(**{name: {}}).to_dict()
    with pytest.raises(AttachError, match=rf"(?s)^E531: {name}=.*share its rank.*second adapter"):
        config(**{name: {"query": 4}})
    change(saved, **{name: {"query": 4}})
    with pytest.raises(AttachError, match=f"E531: {name}="):
        peft.PeftConfig.from_pretrained(saved)


@pytest.mark.parametrize("key", ["format", "name", "train", "digests", "bsae"])
def test_keys_of_a_site_map_that_nothing_is_read_of(key, make, config, saved):
    base = make()
    before = state_of(base)
    with pytest.raises(StateError, match=f"E602: .*{key}"):
        peft.get_peft_model(base, config(site_map={**site_map(saved), key: "x"}))
    same(base, before)


def make_named():
    return tl.family(
        "W[layer proj out in] = B[layer proj out r] A[layer proj r in]", init={"B": "zeros"}
    )


CHANGED = {
    "ranks": ({}, {"ranks": 4}, r"ranks is 4, and the site map was saved with {'a': 2, "),
    "one rank": ({"ranks": {"a": 2, "b": 2, "c": 2, "d": 1, "e": 2}}, {"ranks": {"a": 3}},
                 r"ranks is {'a': 3}, and the site map was saved with {'a': 2, "),
    "true": ({"family": "lora", "ranks": 1}, {"ranks": True},
             r"ranks is True, and the site map was saved with {'r': 1}"),
    "an unknown bond": ({"family": "lora"}, {"ranks": {"s": 2}},
                        r"ranks is {'s': 2}, and the site map was saved with {'r': 2}"),
    "ranks in the family": ({"family": "lora:2", "ranks": None}, {"family": "lora:4"},
                            r"ranks is {'r': 4}, and the site map was saved with {'r': 2}"),
    "family": ({}, {"family": "lora"},
               r"family is lora, and the site map was saved with tenslora.att_qkv_depth"),
    "equation": ({"family": "W[site out in] = B[site out r] A[site r in]"},
                 {"family": "W[site out in] = B[out r] A[site r in]"},
                 r"family is W\[site out in\] = B\[out r\] A\[site r in\], and the site map"),
    "alpha": ({"family": "lora", "alpha": 16}, {"alpha": 8},
              r"alpha is 8, a factor of 4, and the site map was saved with a factor of 8"),
}  # fmt: skip


@pytest.mark.parametrize(("made", "changed", "told"), CHANGED.values(), ids=list(CHANGED))
def test_settings_that_were_edited_beside_the_site_map(
    made, changed, told, make, config, randomize, run, tmp_path
):
    settings = config(**made)
    model = peft.get_peft_model(make(), settings)
    randomize(model)
    model.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(make(), tmp_path)
    assert torch.equal(run(loaded.eval()), run(model.eval()))
    change(tmp_path, **changed)
    base = make()
    before = state_of(base)
    with pytest.raises(StateError, match=rf"^E602: {told}"):
        peft.PeftModel.from_pretrained(base, tmp_path)
    same(base, before)


WRITTEN = {
    "a family": {"family": make_named(), "target_modules": ["query", "key"]},
    "ranks of the family": {"family": make_named()(r=3), "ranks": None},
    "some ranks": {"family": make_named()(r=3), "ranks": {}},
    "a budget": {"family": "tenslora.qkv_depth", "like": "lora:2"},
    "so many": {"family": "tenslora.qkv_depth", "params": 500, "alpha": 3.0},
    "several shapes": {
        "family": "lora",
        "target_modules": ["query", "intermediate.dense"],
        "alpha": 5,
    },
}


@pytest.mark.parametrize("made", WRITTEN.values(), ids=list(WRITTEN))
def test_what_the_tuner_writes_agrees(made, make, config, randomize, run, tmp_path):
    model = peft.get_peft_model(make(), config(**made))
    randomize(model)
    model.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(make(), tmp_path)
    assert torch.equal(run(loaded.eval()), run(model.eval()))


def test_a_base_of_other_heads(make, saved):
    base = make()
    other = type(base)(type(base.config)(**{**base.config.to_dict(), "num_attention_heads": 2}))
    before = state_of(other)
    told = r"E615: the adapter was made with head=3, and bert\..*query.* has 2 heads in this Bert"
    with pytest.raises(StateError, match=rf"^{told}"):
        peft.PeftModel.from_pretrained(other, saved)
    same(other, before)
    change(saved, sizes={"head": 3})  # said by hand, it holds on any base
    peft.PeftModel.from_pretrained(other, saved)
