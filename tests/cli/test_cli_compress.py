"""``tenslora compress`` and ``recompress``: from files to a file that loads on the base."""

from __future__ import annotations

import copy
import json

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

import tenslora as tl

CONFIG = BertConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, vocab_size=20
)


def fill(module):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))


@pytest.fixture
def base():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BertForSequenceClassification(CONFIG).to(torch.bfloat16)


@pytest.fixture
def trained(base, tmp_path):
    """A trained adapter with a trained head, and the folder that holds its file."""
    model = copy.deepcopy(base)
    adapter = tl.attach(model, "lora", targets=["query", "value"], ranks=3, train="classifier")
    fill(adapter)
    (tmp_path / "run").mkdir()
    adapter.save(tmp_path / "run" / "adapter.safetensors")
    return adapter


def distance(adapter, wanted):
    """Over all weights: the norm of the difference over that of what is wanted."""
    pairs = [(adapter.delta(site).detach().double(), w.double()) for site, w in wanted.items()]
    lost = sum(float(((a - w) ** 2).sum()) for a, w in pairs)
    return (lost / sum(float((w**2).sum()) for _, w in pairs)) ** 0.5


def updates(adapter):
    return {site.path: adapter.delta(site).detach() for site in adapter.sites}


def test_a_file_without_its_base_becomes_one_that_loads_on_it(cli, base, trained, tmp_path):
    out = tmp_path / "small.safetensors"
    words = ("compress", str(tmp_path / "run"), str(out), "--family", "lotr", "--params", "200")
    found = cli(*words, "--json").data
    loaded = tl.load(base, out)  # the weights are of the dtype that the first file told
    assert loaded.family.label == "lotr"
    assert loaded.trainable_parameters == found["parameters"] <= 200
    assert found["before"] == trained.trainable_parameters == 4 * 3 * 32
    assert found["error"] == pytest.approx(distance(loaded, updates(trained)), rel=1e-4)
    for path, wanted in updates(trained).items():
        error = distance(loaded, {path: wanted})
        assert found["errors"][path] == pytest.approx(error, rel=1e-4)
    head = trained.model.classifier.weight
    assert torch.equal(loaded.model.classifier.weight, head)
    text = cli(*words).out
    worst = max(found["errors"], key=found["errors"].get)
    assert f"largest errors of 4 weights: {worst} {found['errors'][worst]:.3g}" in text
    assert f"{found['parameters']:,} parameters, 384 before; relative error" in text
    assert text.splitlines()[-1] == f"written to {out}"


def test_a_checkpoint_of_peft_becomes_a_file_that_loads_on_its_base(cli, base, tmp_path):
    config = peft.LoraConfig(
        r=2, lora_alpha=6, target_modules=["query"], init_lora_weights=False,
        modules_to_save=["classifier"], task_type="SEQ_CLS",
    )  # fmt: skip
    theirs = peft.get_peft_model(copy.deepcopy(base), config)
    theirs.save_pretrained(tmp_path / "peft")
    out = str(tmp_path / "small.safetensors")
    words = ("compress", str(tmp_path / "peft"), out, "--family", "lora")
    found = cli(*words, "--energy", "0.9999999", "--json").data
    assert found["shapes"]["16x16"]["ranks"] == {"r": 2}
    loaded = tl.load(base, out)  # PEFT does not tell the dtype of the base: any will do
    for layer in range(2):
        path = f"bert.encoder.layer.{layer}.attention.self.query"
        wanted = theirs.get_submodule(f"base_model.model.{path}").get_delta_weight("default")
        torch.testing.assert_close(
            loaded.delta(path), wanted.detach().float(), rtol=0.02, atol=0.02
        )
    saved = theirs.base_model.model.classifier.modules_to_save["default"].weight
    assert torch.equal(loaded.model.classifier.weight, saved)


def test_weights_that_are_kept_transposed(cli, tmp_path):
    """GPT-2's Conv1D: the checkpoint of PEFT says it, and the file fits the base."""
    base = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=12, n_layer=2, n_head=3))
    config = peft.LoraConfig(
        r=2, target_modules=["c_attn"], init_lora_weights=False, fan_in_fan_out=True
    )
    theirs = peft.get_peft_model(copy.deepcopy(base), config)
    theirs.save_pretrained(tmp_path / "peft")
    out = str(tmp_path / "small.safetensors")
    found = cli("compress", str(tmp_path / "peft"), out, "--family", "fact_tt", "--ranks", "4")
    assert found.code == 0, found.err
    loaded = tl.load(base, out)
    for site in loaded.sites:
        module = theirs.get_submodule(f"base_model.model.{site.path}")
        wanted = module.get_delta_weight("default").detach().mT
        torch.testing.assert_close(loaded.delta(site), wanted, rtol=1e-3, atol=1e-4)


def test_heads_are_given_or_come_from_the_file(cli, refused, base, trained, tmp_path):
    run, out = str(tmp_path / "run"), str(tmp_path / "small.safetensors")
    words = ("--family", "tenslora.att_qkv_depth", "--ranks", "a=3", "b=2", "c=2", "d=2", "e=2")
    assert "E506" in refused("compress", run, out, *words)
    assert cli("compress", run, out, *words, "--sizes", "head=4").code == 0
    assert tl.load(base, out).bounds["16x16"].sizes["head"] == 4
    again = str(tmp_path / "again.safetensors")
    assert cli("compress", out, again, "--family", "lorta", "--ranks", "2").code == 0


def test_ranks_go_down_to_what_is_used(cli, base, trained, tmp_path):
    run, wide, out = (str(tmp_path / name) for name in ("run", "w.safetensors", "s.safetensors"))
    assert cli("compress", run, wide, "--family", "lora", "--ranks", "6").code == 0
    found = cli("recompress", wide, out, "--tol", "1e-4", "--json").data
    assert found["before"] == 2 * trained.trainable_parameters
    assert found["parameters"] == trained.trainable_parameters
    loaded = tl.load(base, out)
    assert distance(loaded, updates(trained)) < 1e-4
    assert torch.equal(loaded.model.classifier.weight, trained.model.classifier.weight)
    assert cli("recompress", wide, out, "--tol", "0.3").out.count("\n") == 4


def test_mistakes_are_one_line_and_write_nothing(refused, trained, tmp_path):
    run, out = str(tmp_path / "run"), str(tmp_path / "small.safetensors")
    lotr = ("--family", "lotr")
    cases = {
        ("compress", f"{run}x", out, *lotr, "--ranks", "2"): "E610: there is no file",
        ("compress", run, run, *lotr, "--ranks", "2"): "E616: ",
        ("compress", run, f"{run}x/y", *lotr, "--ranks", "2"): "E616: there is no folder",
        ("compress", run, out, *lotr): "E801: no ranks are chosen. Give one of --ranks",
        ("compress", run, out, *lotr, "--ranks", "2", "--params", "9"): "E801: --ranks and --pa",
        ("compress", run, out, *lotr, "--ranks", "x"): "E206: ranks 'x' cannot be read",
        ("compress", run, out, *lotr, "--params", "9"): "E207: params=9 is below the smallest",
        ("compress", run, out, *lotr, "--energy", "2"): "E905: energy=2.0 is out of range",
        ("compress", run, out, "--family", "lor", "--ranks", "2"): "E306: ",
        ("compress", run, out, *lotr, "--ranks", "1", "--tolerance", "1e-3"): "E904: lotr at",
        ("compress", run, out, *lotr, "--energy", "0.9", "--tolerance", "1"): "E208: energy=0.9",
        ("recompress", run, out, "--tol", "0"): "E905: tolerance=0.0 is out of range",
        ("recompress", f"{run}x", out, "--tol", "0.1"): "E610: there is no file",
        ("recompress", run, out): "E801: ",
    }
    for words, text in cases.items():
        assert text in refused(*words)
    assert not (tmp_path / "small.safetensors").exists()


def test_a_diverged_checkpoint_is_named(refused, base, tmp_path):
    config = peft.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False)
    peft.get_peft_model(copy.deepcopy(base), config).save_pretrained(tmp_path / "peft")
    file = tmp_path / "peft" / "adapter_model.safetensors"
    tensors = load_file(file)
    key = next(k for k in tensors if "layer.1" in k and "lora_A" in k)
    tensors[key][0, 0] = float("nan")
    save_file(tensors, file, {"format": "pt"})
    out = str(tmp_path / "small.safetensors")
    said = refused("compress", str(tmp_path / "peft"), out, "--family", "lora", "--ranks", "2")
    named = "lora_A of bert.encoder.layer.1.attention.self.query has numbers that are not finite"
    assert f"peft: {named}" in said
    assert "E613" in refused("recompress", str(tmp_path / "peft"), out, "--tol", "0.1")
    assert json.loads((tmp_path / "peft" / "adapter_config.json").read_text())["r"] == 2
