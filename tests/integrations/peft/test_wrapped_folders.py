"""Folders that PEFT wrote of a family in a wrapper, read without PEFT and without the base."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import tenslora as tl
from tenslora.cli import main
from tenslora.errors import AttachError, StateError
from tenslora.nn.standin import load_alone
from tenslora.nn.tunerfile import attach_tuned, read_tuner

ALL = ["dora", "dora heads", "dora vera", "hira", "router"]
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def saved(tuned, tmp_path):
    """A model of PEFT whose adapter is not at its start, and the folder that it was saved to."""

    def made(name, kind="bert", **more):
        model = tuned(name, kind, **more)
        model.save_pretrained(tmp_path / "a")
        return model, tmp_path / "a"

    return made


@pytest.mark.parametrize("name", ALL)
def test_an_imported_folder_gives_the_numbers_of_the_tuner(name, saved, make, run, tmp_path):
    model, folder = saved(name, modules_to_save=["classifier"])
    with torch.no_grad():
        model.base_model.model.classifier.modules_to_save["default"].weight.add_(1)
    model.save_pretrained(folder)
    out = tmp_path / "i.safetensors"
    assert main(["import", str(folder), str(out)]) == 0
    base = make()
    adapter = tl.load(base, out)
    assert torch.equal(run(base), run(model))
    assert adapter.design.label.startswith(name.partition(" ")[0])
    here = make()
    attach_tuned(here, read_tuner(folder))  # the folder itself, on its base
    assert torch.equal(run(here), run(model))


@pytest.mark.parametrize("kind", ["bert", "gpt2"])  # three parts of one layer in gpt2
def test_dora_is_served_as_a_plain_lora_of_peft(kind, saved, make, run, tmp_path):
    model, folder = saved("dora heads", kind)
    report = load_alone(folder).export_lora(tmp_path / "lora", pad=False)
    assert report.exact_rank == 2
    assert peft.PeftConfig.from_pretrained(tmp_path / "lora").use_dora
    theirs = peft.PeftModel.from_pretrained(make(kind), tmp_path / "lora").eval()
    torch.testing.assert_close(run(theirs, kind), run(model, kind), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["hira", "router"])
def test_others_are_no_lora(name, saved, tmp_path, capsys):
    _, folder = saved(name)
    words = ["export", str(folder), str(tmp_path / "x"), "--to", "lora"]
    assert main(words) == 2
    assert "E520" in capsys.readouterr().err
    with pytest.raises(AttachError, match=r"E520: .*which is no LoRA"):
        load_alone(folder).export_lora(tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ALL)
def test_a_merged_model(name, saved, make, run, tmp_path, capsys):
    base = make()
    base.save_pretrained(tmp_path / "base")
    model, folder = saved(name)
    words = ["export", str(folder), str(tmp_path / "m"), "--to", "merged"]
    words += ["--model", str(tmp_path / "base")]
    if name == "router":
        assert main(words) == 2
        assert "E520" in capsys.readouterr().err
        assert not (tmp_path / "m").exists()
        return
    assert main(words) == 0
    merged = type(base).from_pretrained(tmp_path / "m").eval()
    torch.testing.assert_close(run(merged), run(model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("command", ["spectrum", "compress", "recompress"])
def test_what_reads_updates_refuses(command, name, saved, tmp_path, capsys):
    _, folder = saved(name)
    more = {
        "spectrum": ["--families", "lora"],
        "compress": [str(tmp_path / "c"), "--family", "lora", "--ranks", "2"],
        "recompress": [str(tmp_path / "r"), "--tol", "0.1"],
    }.get(command, [])
    assert main([command, str(folder), *more]) == 2
    assert "E520" in capsys.readouterr().err


@pytest.mark.parametrize("name", ALL)
def test_inspecting_says_which_wrapper(name, saved, wrapped_settings, capsys):
    """The norms are those of W, inside the wrapper."""
    model, folder = saved(name)
    assert main(["inspect", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["family"] == wrapped_settings(name)["family"]
    assert found["parameters"] == model.get_nb_trainable_parameters()[0]


def test_rows_that_an_adapter_leaves_out_have_the_lengths_of_the_base(saved, make, run, tmp_path):
    model, folder = saved("dora", "gpt2", target_modules=["c_attn.q", "c_attn.v"])
    with pytest.raises(AttachError, match=r"E519: the weight of .*c_attn is no whole"):
        load_alone(folder).export_lora(tmp_path / "lora")
    adapter = attach_tuned(make("gpt2"), read_tuner(folder))
    adapter.export_lora(tmp_path / "lora", pad=False)
    theirs = peft.PeftModel.from_pretrained(make("gpt2"), tmp_path / "lora").eval()
    torch.testing.assert_close(run(theirs, "gpt2"), run(model, "gpt2"), rtol=1e-4, atol=1e-5)


def test_a_folder_that_lacks_what_the_wrapper_trains(saved):
    _, folder = saved("dora")
    tensors = load_file(folder / WEIGHTS)
    lengths = tensors.pop("base_model.tenslora_12x12.magnitude")
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(StateError, match=r"E612: .* has no tensor base_model.*magnitude"):
        load_alone(folder)
    tensors["base_model.tenslora_12x12.magnitude"] = lengths[:1].clone()
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(StateError, match=r"E613: .*magnitude of 12x12 is .* of shape \(1, 12\)"):
        load_alone(folder)


def test_the_other_place_of_the_bank(saved, make, run, tmp_path):
    model, folder = saved("router")
    assert main(["export", str(folder), str(tmp_path / "b"), "--to", "first_layer"]) == 0
    names = load_file(tmp_path / "b" / WEIGHTS)
    assert sum("gate" in name for name in names) == 1
    again = peft.PeftModel.from_pretrained(make(), tmp_path / "b")
    assert torch.equal(run(again), run(model))
    config = json.loads((tmp_path / "b" / "adapter_config.json").read_text())
    assert config["site_map"]["wrapper"] == "router[expert]"
