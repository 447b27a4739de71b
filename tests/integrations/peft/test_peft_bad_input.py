"""Mistakes with the tuner: each is told, and the whole state dict is as it was, bit for bit."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import tenslora as tl

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
        {"target_modules": ["qeury"]}, ValueError, "Target modules .*qeury.* not found",
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
    with pytest.raises(ValueError, match="already exists"):
        held.add_adapter("default", config())  # attaching twice
    same(held, before)


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


@pytest.mark.parametrize("spoil", ["missing", "shape", "half"])
def test_tensors_that_are_not_those_of_the_adapter(make, saved, spoil):
    """PEFT reads the file: it warns of what is missing, and refuses the rest."""
    held = load_file(saved / WEIGHTS)
    name = min(held)
    if spoil == "missing":
        held.pop(name)
    elif spoil == "shape":
        held[name] = torch.ones(1)
    save_file(held, saved / WEIGHTS, {"format": "pt"})
    if spoil == "half":
        half_a_file(saved)
    base = make()
    before = {name: value.clone() for name, value in base.state_dict().items()}
    if spoil == "missing":
        with pytest.warns(UserWarning, match="Found missing adapter keys"):
            peft.PeftModel.from_pretrained(base, saved)
    else:
        with pytest.raises((RuntimeError, ValueError, SafetensorError)):
            peft.PeftModel.from_pretrained(base, saved)
    after = {name.replace(".base_layer", ""): value for name, value in base.state_dict().items()}
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
