"""Checkpoints that are refused, by each way of loading: the model is as it was, hooks and all."""

from __future__ import annotations

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import tenslora as tl
from tenslora.errors import StateError
from tenslora.integrations.peft import TensLoraModel
from tenslora.integrations.peft.loading import find_loading

WEIGHTS, PICKLED = "adapter_model.safetensors", "adapter_model.bin"
HEAD = "base_model.model.classifier.bias"


@pytest.fixture
def saved(make, config, randomize, tmp_path):
    """Save an adapter with a head, with its bank on the tuner or on the first layer."""

    def save(bank="tuner"):
        settings = {"bank": bank, "modules_to_save": ["classifier"]}
        model = peft.get_peft_model(make(), config(**settings)).eval()
        randomize(model)
        model.save_pretrained(tmp_path)
        return tmp_path

    return save


def with_own_config(base, folder, **options):
    read = tl.TensLoraConfig.from_pretrained(folder)
    return peft.PeftModel.from_pretrained(base, folder, config=read, **options)


def with_new_config(base, folder, **options):
    made = tl.TensLoraConfig(
        family="tenslora.att_qkv_depth", ranks=2, target_modules=["query", "key", "value"],
        modules_to_save=["classifier"],
    )  # fmt: skip
    return peft.PeftModel.from_pretrained(base, folder, config=made, **options)


def by_transformers(base, folder):
    base.load_adapter(folder)


def by_its_state_dict(base, folder):
    read = peft.PeftConfig.from_pretrained(folder)
    base.load_adapter(peft_config=read, adapter_state_dict=load_file(folder / WEIGHTS))


WAYS = {
    "PEFT": (peft.PeftModel.from_pretrained, "tuner"),
    "PEFT with the config that is there": (with_own_config, "tuner"),
    "PEFT with a new config": (with_new_config, "tuner"),
    "transformers": (by_transformers, "first_layer"),
    "transformers with a state dict": (by_its_state_dict, "first_layer"),
}


def change(folder, act):
    tensors = load_file(folder / WEIGHTS)
    core = next(name for name in tensors if name.endswith("tenslora_12x12.D"))
    act(tensors, core)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def not_a_number(tensors, core):
    tensors[core][0, 0] = float("nan")


SPOILT = {
    "a core that is missing": (lambda t, core: t.pop(core), "E612: .* missing tensors .*12.D"),
    "an unknown core": (
        lambda t, core: t.update({f"{core}x": torch.ones(2)}), "E612: .* unknown .*Dx",
    ),
    "a head that is missing": (lambda t, core: t.pop(HEAD), f"E612: .* missing tensors {HEAD}"),
    "a tensor from elsewhere": (
        lambda t, core: t.update({"base_model.model.nowhere.weight": torch.ones(2)}),
        "E612: .* unknown tensors .*nowhere.weight",
    ),
    "a core of another shape": (
        lambda t, core: t.update({core: torch.ones(1)}), r"E613: .*12.D has shape \(1,\)",
    ),
    "a head of another shape": (
        lambda t, core: t.update({HEAD: torch.ones(5)}),
        rf"E613: .*{HEAD} has shape \(5,\), and \(2,\) is due",
    ),
    "a core that is not finite": (not_a_number, "E613: .*12.D has numbers that are not finite"),
    "a core of integers": (
        lambda t, core: t.update({core: t[core].to(torch.int32)}), "E613: .*12.D is of .*32",
    ),
    "a core of booleans": (
        lambda t, core: t.update({core: t[core] > 0}), "E613: .*12.D is of (BOOL|bool)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("load", "bank"), WAYS.values(), ids=list(WAYS))
def test_what_is_spoilt_is_refused(make, run, saved, snapshot, load, bank):
    folder = saved(bank)
    whole = (folder / WEIGHTS).read_bytes()
    base = make()
    before, output = snapshot(base), run(base)
    for act, text in SPOILT.values():
        (folder / WEIGHTS).write_bytes(whole)
        change(folder, act)
        with pytest.raises(StateError, match=rf"(?s)^{text}"):
            load(base, folder)
        before.check()
        assert not hasattr(base, "peft_config")
    assert torch.equal(run(base), output)
    (folder / WEIGHTS).write_bytes(whole)
    load(base, folder)
    assert not torch.equal(run(base), output)


FILES = [way for way in WAYS if "state dict" not in way]


@pytest.mark.parametrize(("load", "bank"), [WAYS[way] for way in FILES], ids=FILES)
def test_no_file_and_a_pickled_one(make, saved, snapshot, load, bank, monkeypatch):
    folder = saved(bank)
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    base = make()
    before = snapshot(base)
    with pytest.raises(StateError, match=rf"^E610: there is no file .*{WEIGHTS}"):
        load(base, folder)
    before.check()
    torch.save(tensors, folder / PICKLED)
    with pytest.raises(StateError) as caught:
        load(base, folder)
    before.check()
    assert str(caught.value) == (
        f"E610: {folder / PICKLED} is pickled, and no pickled file is read\n"
        "  Save the adapter with save_pretrained(..., safe_serialization=True), or write its "
        f"tensors to {WEIGHTS} with safetensors.torch.save_file."
    )
    if bank == "tuner":
        monkeypatch.setattr(TensLoraModel, "reads_pickles", True)
        load(base, folder)


def test_a_pickled_file_that_is_asked_for(make, saved, snapshot):
    folder = saved("first_layer")
    torch.save(load_file(folder / WEIGHTS), folder / PICKLED)
    base = make()
    before = snapshot(base)
    with pytest.raises(StateError, match=r"^E610: .*is pickled"):
        base.load_adapter(folder, use_safetensors=False)
    before.check()
    base.load_adapter(folder)


def test_an_id_without_tensors(make, saved, snapshot):
    folder, base = saved(), make()
    before = snapshot(base)
    settings = tl.TensLoraConfig.from_pretrained(folder)
    with pytest.raises(StateError, match=r"^E610: no/such-adapter has no adapter_model.safetens"):
        peft.PeftModel.from_pretrained(base, "no/such-adapter", config=settings)
    before.check()


def test_heads_of_another_shape_are_left_out_where_that_is_asked_for(make, saved):
    folder = saved()
    change(folder, lambda tensors, core: tensors.update({HEAD: torch.ones(5)}))
    with pytest.warns(UserWarning, match="ignore_mismatched_sizes"):
        peft.PeftModel.from_pretrained(make(), folder, ignore_mismatched_sizes=True)


def test_tensors_that_peft_renames(make, run, saved):
    folder = saved()
    want = run(peft.PeftModel.from_pretrained(make(), folder))
    tensors = load_file(folder / WEIGHTS)
    old = {name.replace("classifier", "score"): value for name, value in tensors.items()}
    save_file(old, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(StateError, match=r"^E612: .*unknown tensors .*score.bias"):
        peft.PeftModel.from_pretrained(make(), folder)
    mapping = {"^score": "classifier"}
    again = peft.PeftModel.from_pretrained(make(), folder, key_mapping=mapping)
    assert torch.equal(run(again), want)


def test_a_subfolder_and_a_second_adapter(make, run, saved, snapshot, config):
    folder = saved()
    held = peft.get_peft_model(make(), config(modules_to_save=["classifier"]))
    held.load_adapter(folder.parent, "second", subfolder=folder.name)
    change(folder, not_a_number)
    before = snapshot(held)
    with pytest.raises(StateError, match=rf"^E613: {folder}.* not finite"):
        held.load_adapter(folder.parent, "third", subfolder=folder.name)
    before.check()


def test_a_new_adapter_loads_nothing(make, saved, config):
    """What lies beside the settings is not asked about where no tensors are read."""
    folder = saved()
    change(folder, not_a_number)
    peft.get_peft_model(make(), tl.TensLoraConfig.from_pretrained(folder))
    assert find_loading("default") is None
