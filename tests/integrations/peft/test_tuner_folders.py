"""Folders that PEFT wrote of the tuner, read without PEFT and without the base.

What is read is held against PEFT itself: its outputs, and the merged weights of its tuner.
"""

from __future__ import annotations

import json
import re

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import tenslora as tl
from tenslora.cli import main
from tenslora.errors import SizeError, StateError
from tenslora.integrations.compressing import compress
from tenslora.integrations.importing import import_lora
from tenslora.integrations.updates import read_updates
from tenslora.nn.standin import load_alone

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
FAMILIES = (
    "lora",
    "tenslora.att_qkv_depth",
    "tenslora_cp.qkv_depth",
    "tenslora_tt.qkv_depth",
    "lotr",
    "tt_lora",
    "vera",
)


def tuned(make, kinds, kind="bert", **settings):
    """A model of PEFT with the tuner, in evaluation."""
    if kind == "plain" and "att" in settings["family"]:
        settings["sizes"] = {"head": 3}
    chosen = {"ranks": 2, "target_modules": kinds[kind].targets, **settings}
    return peft.get_peft_model(make(kind), tl.TensLoraConfig(**chosen)).eval()


SOME = ("tenslora.att_qkv_depth", "tenslora_tt.qkv_depth")
CASES = [(kind, family) for kind in ("bert", "gpt2") for family in FAMILIES]
CASES += [(kind, family) for kind in ("llama", "plain", "t5") for family in SOME]


@pytest.mark.parametrize(("kind", "family"), CASES)
def test_the_exported_lora_says_what_the_tuner_said(
    kind, family, make, kinds, run, randomize, tmp_path
):
    model = tuned(make, kinds, kind, family=family)
    randomize(model)
    model.save_pretrained(tmp_path / "a")
    report = load_alone(tmp_path / "a").export_lora(tmp_path / "lora")
    fused_apart = kind == "gpt2" and family in ("lora", "tt_lora", "lotr")
    assert (report.rank, report.exact_rank) == (8, 6 if fused_apart else 2)
    settings = json.loads((tmp_path / "lora" / SETTINGS).read_text())
    assert (settings["r"], settings["lora_alpha"], settings["rank_pattern"]) == (8, 8, {})
    assert settings["fan_in_fan_out"] == (kind == "gpt2")
    read = peft.PeftConfig.from_pretrained(tmp_path / "lora")
    read.task_type = None  # what peft 0.20 has for it asks transformers 5 for what went
    theirs = peft.PeftModel.from_pretrained(make(kind), tmp_path / "lora", config=read).eval()
    with torch.no_grad():
        output, start = run(model, kind), run(make(kind), kind)
        far = (output - start).abs().max()
        assert far > 1e-4
        assert (run(theirs, kind) - output).abs().max() < 1e-5
    merged, expected = theirs.merge_and_unload(), model.merge_and_unload()
    for name, weight in expected.named_parameters():
        torch.testing.assert_close(merged.get_parameter(name), weight, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("bert", {"bank": "first_layer"}),
        ("bert", {"target_modules": ["query", "intermediate.dense"]}),
        ("llama", {"ragged": "prefix"}),
        ("gpt2", {"target_modules": ["c_attn.q", "c_attn.v"]}),
        ("gpt2", {"target_modules": ["c_attn", "c_proj"]}),
        ("bert", {"save_frozen": True, "family": "vera"}),
        ("bert", {"alpha": 3.0, "seed": 4, "family": "vera"}),
        ("plain", {"block": 6, "family": "tenslora.qkv_depth"}),
    ],
)
def test_every_layout_of_a_checkpoint(kind, settings, make, kinds, run, randomize, tmp_path):
    model = tuned(make, kinds, kind, **{"family": "lotr", **settings})
    randomize(model)
    model.save_pretrained(tmp_path / "a")
    load_alone(tmp_path / "a").export_lora(tmp_path / "lora", pad=False)
    theirs = peft.PeftModel.from_pretrained(make(kind), tmp_path / "lora").eval()
    torch.testing.assert_close(run(theirs, kind), run(model, kind), rtol=1e-4, atol=1e-5)


def test_a_lower_rank_is_the_nearest_and_its_error_is_said(
    make, kinds, randomize, tmp_path, capsys
):
    model = tuned(make, kinds, family="lora", ranks=4)
    randomize(model)
    model.save_pretrained(tmp_path / "a")
    words = ["export", str(tmp_path / "a"), str(tmp_path / "b"), "--rank", "2", "--no-pad"]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rank"], report["exact_rank"], report["modules"]) == (2, 4, 6)
    held, errors = load_file(tmp_path / "b" / WEIGHTS), []
    for layer in model.base_model._layers():
        (path,) = (n for n, m in model.base_model.model.named_modules() if m is layer)
        whole = layer.get_delta_weight("default").double()
        u, s, v = torch.linalg.svd(whole)
        b, a = (held[f"base_model.model.{path}.lora_{x}.weight"].double() for x in "BA")
        torch.testing.assert_close(b @ a, u[:, :2] * s[:2] @ v[:2], rtol=1e-4, atol=1e-5)
        errors.append((s[2:].norm() / s.norm()).item())
    assert report["error"] == pytest.approx(max(errors), rel=1e-4)


@pytest.fixture
def with_head(make, kinds, randomize, tmp_path):
    """A tuner with a trained classifier, and its folder."""
    model = tuned(make, kinds, family="lotr", modules_to_save=["classifier"])
    randomize(model)
    with torch.no_grad():
        model.base_model.model.classifier.modules_to_save["default"].weight.add_(1)
    model.save_pretrained(tmp_path / "a")
    return model, tmp_path / "a"


def test_modules_that_were_trained_whole(with_head, make, run, tmp_path):
    model, folder = with_head
    inside = load_alone(folder).export_lora(tmp_path / "inside")
    assert inside.train == ("classifier",)
    theirs = peft.PeftModel.from_pretrained(make(), tmp_path / "inside").eval()
    torch.testing.assert_close(run(theirs), run(model), rtol=1e-4, atol=1e-5)
    load_alone(folder).export_lora(tmp_path / "beside", apart=True)
    assert not any("classifier" in name for name in load_file(tmp_path / "beside" / WEIGHTS))
    theirs = peft.PeftModel.from_pretrained(make(), tmp_path / "beside").eval()
    trained = load_file(tmp_path / "beside" / "trained_modules.safetensors")
    assert set(trained) == {"classifier.weight", "classifier.bias"}
    theirs.base_model.model.load_state_dict(trained, strict=False)
    torch.testing.assert_close(run(theirs), run(model), rtol=1e-4, atol=1e-5)


def test_every_command_about_adapters_reads_one(with_head, make, run, tmp_path, capsys):
    """The numbers are those of the tuner's own get_delta_weight."""
    model, folder = with_head
    layers = model.base_model._layers()
    deltas = torch.stack([layer.get_delta_weight("default") for layer in layers]).double()
    (updates,) = read_updates(folder)
    assert updates.array.size == deltas.numel()
    assert (updates.array**2).sum() == pytest.approx(deltas.square().sum().item(), rel=1e-5)
    for words in (
        ["inspect", str(folder)],
        ["spectrum", str(folder), "--families", "lora"],
        [
            "compress",
            str(folder),
            str(tmp_path / "c.safetensors"),
            *["--family", "lora", "--ranks", "2"],
        ],
        ["recompress", str(folder), str(tmp_path / "r.safetensors"), "--tol", "0.1"],
        ["import", str(folder), str(tmp_path / "i.safetensors")],
    ):
        assert main(words) == 0, capsys.readouterr().err
    for name in ("c", "i"):
        base = make()
        tl.load(base, tmp_path / f"{name}.safetensors")
        torch.testing.assert_close(run(base), run(model), rtol=1e-4, atol=1e-5)
    base = make()
    found = compress(base, folder, "lora", ranks=2)
    assert found.error < 1e-5
    torch.testing.assert_close(run(base), run(model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["pissa", "craft"])
def test_a_start_from_the_weights_wants_the_base_or_the_frozen_cores(
    family, make, kinds, run, tmp_path
):
    base = make()
    base.save_pretrained(tmp_path / "base")
    base.config._name_or_path = str(tmp_path / "base")
    settings = {"family": family, "target_modules": ["query", "key", "value"], "ranks": 2}
    for keep in (True, False):
        model = peft.get_peft_model(base, tl.TensLoraConfig(save_frozen=keep, **settings)).eval()
        bank = next(iter(model.base_model.shared.adapters["default"].values()))
        with torch.no_grad():
            for core in bank.parameters():
                core.add_(0.1 * torch.randn(core.shape, generator=torch.Generator().manual_seed(2)))
        model.save_pretrained(tmp_path / str(keep))
        output = run(model)
        base = model.unload()
    with pytest.raises(StateError, match=r"E612: .* does not hold the frozen core .* follows from"):
        load_alone(tmp_path / "False")
    words = ["export", str(tmp_path / "False"), str(tmp_path / "x"), "--no-pad"]
    assert main([*words, "--model", str(tmp_path / "base")]) == 0
    load_alone(tmp_path / "True").export_lora(tmp_path / "y", pad=False)
    for name in "xy":
        theirs = peft.PeftModel.from_pretrained(make(), tmp_path / name).eval()
        torch.testing.assert_close(run(theirs), output, rtol=1e-4, atol=1e-5)
    words = ["import", str(tmp_path / "False"), str(tmp_path / "z.safetensors"), "--model"]
    assert main([*words, str(tmp_path / "base")]) == 0
    other = make()
    tl.load(other, tmp_path / "z.safetensors")
    torch.testing.assert_close(run(other), output, rtol=1e-4, atol=1e-5)


def test_a_merged_model(make, kinds, run, randomize, tmp_path, capsys):
    base = make()
    base.save_pretrained(tmp_path / "base")
    base.config._name_or_path = str(tmp_path / "base")
    settings = tl.TensLoraConfig(
        family="tenslora.att_qkv_depth", ranks=2, target_modules=kinds["bert"].targets,
        modules_to_save=["classifier"],
    )  # fmt: skip
    model = peft.get_peft_model(base, settings).eval()
    randomize(model)
    with torch.no_grad():
        model.base_model.model.classifier.modules_to_save["default"].weight.add_(1)
    model.save_pretrained(tmp_path / "a")
    assert main(["export", str(tmp_path / "a"), str(tmp_path / "b"), "--to", "merged"]) == 0
    found = type(base).from_pretrained(tmp_path / "b").eval()
    torch.testing.assert_close(run(found), run(model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tuner", [True, False])
def test_a_merged_model_has_the_classes_of_its_head(tuner, make, kinds, run, randomize, tmp_path):
    """The base has two classes, or none yet, and the head that was trained on it has five."""
    kind = type(make())
    make().save_pretrained(tmp_path / "base")
    base = kind.from_pretrained(tmp_path / "base", num_labels=5, ignore_mismatched_sizes=True)
    family, targets = "tenslora.att_qkv_depth", kinds["bert"].targets
    if tuner:
        settings = {"ranks": 2, "target_modules": targets, "modules_to_save": ["classifier"]}
        model = peft.get_peft_model(base, tl.TensLoraConfig(family=family, **settings)).eval()
        randomize(model)
        model.save_pretrained(tmp_path / "a")
    else:
        model = base.eval()
        held = tl.attach(model, family, targets=targets, ranks=2, train=["classifier"])
        (tmp_path / "a").mkdir()
        held.save(tmp_path / "a" / "adapter.safetensors")
    assert main(["export", str(tmp_path / "a"), str(tmp_path / "b"), "--to", "merged"]) == 0
    found = kind.from_pretrained(tmp_path / "b").eval()
    assert found.config.num_labels == 5
    torch.testing.assert_close(run(found), run(model), rtol=1e-4, atol=1e-5)


def test_a_base_that_does_not_fit_its_own_settings_is_not_merged(make, kinds, tmp_path, capsys):
    base = make()
    base.save_pretrained(tmp_path / "base")
    base.config._name_or_path = str(tmp_path / "base")
    tuned(lambda kind: base, kinds, family="lotr").save_pretrained(tmp_path / "a")
    broken = load_file(tmp_path / "base" / "model.safetensors")
    broken["bert.encoder.layer.0.attention.self.key.weight"] = torch.ones(12, 11)
    save_file(broken, tmp_path / "base" / "model.safetensors", {"format": "pt"})
    assert main(["export", str(tmp_path / "a"), str(tmp_path / "b"), "--to", "merged"]) == 2
    text = "E707: .*layer.0.attention.self.key.weight has another shape than its settings"
    assert re.search(text, capsys.readouterr().err)
    assert not (tmp_path / "b").exists()


def test_a_base_in_bfloat16(make, kinds, randomize, tmp_path):
    """Cores that were kept in bfloat16 are read in float32, as PEFT reads them."""
    settings = tl.TensLoraConfig(family="lotr", ranks=2, target_modules=kinds["bert"].targets)
    model = peft.get_peft_model(make().bfloat16(), settings, autocast_adapter_dtype=False)
    randomize(model)
    model.save_pretrained(tmp_path / "a")
    held = load_alone(tmp_path / "a")
    again = peft.PeftModel.from_pretrained(make().bfloat16(), tmp_path / "a")
    (bank,) = again.base_model.shared.adapters["default"].values()
    for name, core in held.banks["12x12"].cores().items():
        assert torch.equal(core, bank.cores()[name])


def test_frozen_cores_are_drawn_as_the_tuner_draws_them(make, kinds, randomize, tmp_path):
    """Cores of one shape among several are drawn otherwise than of one alone."""
    for kind, groups in (("llama", 2), ("bert", 1)):
        model = tuned(make, kinds, kind, family="vera", seed=7)
        randomize(model)
        model.save_pretrained(tmp_path / kind)
        held = load_alone(tmp_path / kind)
        assert len(held.banks) == groups
        for group, bank in model.base_model.shared.adapters["default"].items():
            for name, core in bank.cores().items():
                assert torch.equal(core, held.banks[group].cores()[name])


def change(folder, **settings):
    path = folder / SETTINGS
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def without(folder, ending):
    held = load_file(folder / WEIGHTS)
    save_file({n: t for n, t in held.items() if not n.endswith(ending)}, folder / WEIGHTS)


def with_more(folder, name):
    held = load_file(folder / WEIGHTS)
    save_file({**held, name: torch.zeros(2)}, folder / WEIGHTS)


def of_other_shape(folder):
    held = load_file(folder / WEIGHTS)
    save_file({n: t[..., :-1].contiguous() for n, t in held.items()}, folder / WEIGHTS)


def of_no_numbers(folder):
    held = load_file(folder / WEIGHTS)
    save_file({n: torch.full_like(t, torch.nan) for n, t in held.items()}, folder / WEIGHTS)


def mapped(folder, **keys):
    found = json.loads((folder / SETTINGS).read_text())["site_map"]
    change(folder, site_map={**found, **keys})


SPOILT = {
    "no configuration": (lambda f: (f / SETTINGS).unlink(), "E610: .*holds neither"),
    "no tensors": (lambda f: (f / WEIGHTS).unlink(), "E610: there is no file"),
    "another method": (lambda f: change(f, peft_type="LOHA"), "E620: .*peft_type 'LOHA'"),
    "biases": (lambda f: change(f, bias="all"), "E620: .*bias='all': biases were trained"),
    "no site map": (lambda f: change(f, site_map=None), "E603: .*has no site_map"),
    "a list": (lambda f: change(f, site_map=[]), "E603: site_map is list"),
    "a seed": (lambda f: change(f, seed="x"), "E603: .*seed is a str, not a int"),
    "a place": (lambda f: change(f, bank="attic"), "E603: .*bank='attic', none of tuner"),
    "a newer schema": (lambda f: mapped(f, schema=99), "E601: .*99"),
    "an unknown key": (lambda f: mapped(f, plcae=1), "E602: .*plcae"),
    "a key of a file": (lambda f: mapped(f, train=["x"]), "E602: site_map has 'train'"),
    "a missing core": (lambda f: without(f, ".G"), r"E612: .*no tensor base_model\.tenslora_12x12"),
    "an unknown tensor": (
        lambda f: with_more(f, "base_model.model.x.weight"), "E612: .*unknown tensor x.weight",
    ),
    "a core of no group": (
        lambda f: with_more(f, "base_model.tenslora_9x9.A"), "E612: .*unknown tensor .*_9x9.A",
    ),
    "another shape": (of_other_shape, "E613: .*and floating-point numbers of"),
    "no numbers": (of_no_numbers, "E613: .*core . of 12x12 has numbers that are not finite"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "text"), SPOILT.values(), ids=list(SPOILT))
def test_a_spoilt_folder(spoil, text, make, kinds, tmp_path):
    tuned(make, kinds, family="lotr").save_pretrained(tmp_path / "a")
    spoil(tmp_path / "a")
    with pytest.raises(StateError, match=rf"(?s)^{text}") as caught:
        load_alone(tmp_path / "a")
    assert caught.value.advice


def test_a_folder_of_several_adapters(make, kinds, config, tmp_path):
    model = tuned(make, kinds, family="lotr")
    model.add_adapter("second", config())
    model.save_pretrained(tmp_path / "a")
    (tmp_path / "a" / SETTINGS).rename(tmp_path / "a" / "moved")
    with pytest.raises(StateError) as caught:
        load_alone(tmp_path / "a")
    assert str(caught.value) == (
        f"E610: {tmp_path / 'a'} holds neither adapter.safetensors nor adapter_config.json; "
        "adapters are in its folders: second\n  Give the folder of one adapter."
    )
    assert load_alone(tmp_path / "a" / "second").family.name == "tenslora.att_qkv_depth"


def test_a_folder_on_another_base(make, kinds, tmp_path):
    tuned(make, kinds, family="lotr").save_pretrained(tmp_path / "a")
    other = make("gpt2")
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(StateError, match=r"E615: .*GPT2LMHeadModel has none"):
        compress(other, tmp_path / "a", "lora", ranks=2)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    with pytest.raises(SizeError, match="E206"):
        load_alone(tmp_path / "a").export_lora(tmp_path / "b", rank=0)
    with pytest.raises(StateError, match="E616"):
        import_lora(tmp_path / "a", tmp_path / "a" / WEIGHTS)
