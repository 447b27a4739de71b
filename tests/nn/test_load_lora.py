"""Checkpoints that PEFT itself saved, read as the family lora: the same numbers and function."""

from __future__ import annotations

import copy
import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

import tenslora as tl
from tenslora.errors import AttachError, StateError
from tenslora.integrations import read_updates

peft = pytest.importorskip("peft", reason="PEFT is not installed")


@pytest.fixture
def saved(make_case, tmp_path):
    """Let PEFT make a LoRA with random numbers on a model, and save it; return its output."""

    def save(kind, **options):
        case = make_case(kind)
        base = copy.deepcopy(case.model)
        config = peft.LoraConfig(
            **{"r": 3, "lora_alpha": 5, "target_modules": case.targets, **options}
        )
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(1)
            theirs = peft.get_peft_model(base, config).eval()
            with torch.no_grad():
                for name, parameter in theirs.named_parameters():
                    drawn = 0.3 * torch.randn_like(parameter)
                    if "lora_magnitude_vector" in name:  # half to twice as long as they start
                        parameter.mul_(2 ** (drawn / 0.3).tanh())
                    elif "lora_" in name or "modules_to_save" in name:
                        parameter.copy_(drawn)
            theirs.save_pretrained(tmp_path / "peft", save_embedding_layers=False)
        return case, case.run(theirs), tmp_path / "peft"

    return save


SCALES = {"q_proj": 9, "query": 2, "c_attn": 4, "layers.1.q_proj": 1}
SETTINGS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "ranks": {"rank_pattern": {"q_proj": 5, "query": 2, "c_attn": 4, "q": 1}},
    "alphas": {"alpha_pattern": SCALES},
    "layers": {"layers_to_transform": [1]},
    "dora": {"use_dora": True},
    "dora of several scales": {"use_dora": True, "alpha_pattern": SCALES, "use_rslora": True},
}


@pytest.mark.parametrize("kind", ["bert", "vit", "gpt2", "llama", "plain"])
@pytest.mark.parametrize("options", SETTINGS.values(), ids=list(SETTINGS))
def test_the_function_is_that_of_peft(kind, options, saved, snapshot):
    if kind == "plain" and options.get("layers_to_transform"):  # no grid of layers and projections
        options = {"target_modules": ["blocks.0.v", "blocks.1.q"]}
    case, output, folder = saved(kind, **options)
    before, start = snapshot(case.model), case.run()
    adapter = tl.load_lora(case.model, folder)
    assert adapter.family.name == "lora"
    assert (str(adapter.wrapper) == "dora") == bool(options.get("use_dora"))
    torch.testing.assert_close(case.run(), output, rtol=1e-11, atol=1e-11)
    assert not torch.allclose(start, output, atol=1e-4)
    file = load_file(folder / "adapter_model.safetensors")
    assert sum(t.numel() for t in file.values()) <= adapter.trainable_parameters
    adapter.detach()
    before.check(case.model)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_the_numbers_are_those_of_the_file(kind, saved, tmp_path):
    case, _, folder = saved(kind)
    adapter = tl.load_lora(case.model, folder)
    file = load_file(folder / "adapter_model.safetensors")
    for bank in adapter.banks.values():
        for site, place in zip(bank.sites, bank.grid.positions, strict=True):
            at = tuple(place[index] for index in adapter.family.network.sites)
            for name, core in bank.cores().items():
                wanted = file[f"base_model.model.{site.path}.lora_{name}.weight"]
                assert torch.equal(core[at], wanted)
    assert {bound.scale for bound in adapter.bounds.values()} == {5 / 3}
    adapter.save(tmp_path / "a.safetensors")
    output = case.run()
    adapter.detach()
    tl.load(case.model, tmp_path / "a.safetensors")
    assert torch.equal(case.run(), output)


def test_there_and_back_is_bit_for_bit(saved, tmp_path):
    case, _, folder = saved("llama", lora_alpha=3)  # scale 1
    adapter = tl.load_lora(case.model, folder)
    adapter.export_lora(tmp_path / "back", pad=False)
    first = load_file(folder / "adapter_model.safetensors")
    second = load_file(tmp_path / "back" / "adapter_model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_what_was_read_is_lifted(saved):
    case, output, folder = saved("plain")
    adapter = tl.load_lora(case.model, folder).lift(
        "moslora"
        if "moslora" in tl.registered()
        else "W[layer proj out in] = B[layer proj out b] M[layer proj b a] A[layer proj a in]"
    )
    torch.testing.assert_close(case.run(), output, rtol=1e-10, atol=1e-10)
    assert len(adapter.family.network.cores) == 3


def test_modules_that_were_saved_whole(saved, snapshot):
    case, output, folder = saved("bert", modules_to_save=["classifier"])
    before = snapshot(case.model)
    adapter = tl.load_lora(case.model, folder, name="theirs")
    assert adapter.design.train == ("classifier",)
    torch.testing.assert_close(case.run(), output, rtol=1e-11, atol=1e-11)
    adapter.detach()
    before.check(case.model)


def test_a_dora_goes_out_and_comes_in_again(saved, tmp_path):
    case, output, folder = saved("plain", use_dora=True)
    adapter = tl.load_lora(case.model, folder)
    adapter.export_lora(tmp_path / "again", pad=False, rank=3)
    adapter.save(tmp_path / "own.safetensors")
    adapter.detach()
    for make in (
        lambda: tl.load_lora(case.model, tmp_path / "again"),
        lambda: tl.load(case.model, tmp_path / "own.safetensors"),
    ):
        other = make()
        assert str(other.wrapper) == "dora"
        torch.testing.assert_close(case.run(), output, rtol=1e-6, atol=1e-6)
        other.detach()
    with pytest.raises(AttachError, match=r"E520: .*dora.lora., and cannot be read as updates"):
        read_updates(folder)


def test_lengths_of_other_rows(saved):
    case, _, folder = saved("plain", use_dora=True)
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    key = "base_model.model.blocks.0.q.lora_magnitude_vector"
    for changed, text in (
        ({key: tensors[key][:5].clone()}, "E613: .*blocks.0.q is torch.float64 of shape .5,., and"),
        ({key.replace("0.q", "0.x"): tensors[key].clone()}, "E612: .*nothing but a .* blocks.0.x"),
        ({key: tensors[key] * torch.nan}, "E613: .*lora_magnitude_vector of blocks.0.q .*finite"),
    ):
        save_file({**tensors, **changed}, file)
        with pytest.raises(StateError, match=f"(?s)^{text}"):
            tl.load_lora(case.model, folder)


CONFIGS = {
    "another method": ({"peft_type": "IA3"}, "E620: .*peft_type 'IA3'"),
    "no lengths": ({"use_dora": True}, "E612: .*has no lora_magnitude_vector of blocks.0.k"),
    "dora": ({"use_dora": "x"}, "E603: .*use_dora is a str, not a bool"),
    "biases": ({"bias": "all"}, "E620: .*bias='all'"),
    "lora_bias": ({"lora_bias": True}, "E620: .*lora_bias"),
    "pissa": ({"init_lora_weights": "pissa_niter_4"}, "E620: .*pissa_niter_4', which changes"),
    "tokens": ({"trainable_token_indices": [1]}, "E620: .*trainable_token_indices"),
    "replication": ({"layer_replication": [[0, 2]]}, "E620: .*layer_replication"),
    "a later key": ({"use_new_thing": "x"}, "E620: .*use_new_thing='x'"),
    "a regular expression": ({"alpha_pattern": {"(a+)+": 3}}, "E620: .*regular expression"),
    "r": ({"r": 4}, "E613: .*has rank 3, and the configuration r=4"),
    "alpha": ({"lora_alpha": "5"}, "E603: .*lora_alpha is '5'"),
    "infinite": ({"lora_alpha": float("inf")}, "E603: .*lora_alpha"),
    "dropout": ({"lora_dropout": 2}, "E515"),
    "modules": ({"modules_to_save": "x"}, "E603: .*modules_to_save is a str"),
}


@pytest.mark.parametrize(("changes", "text"), CONFIGS.values(), ids=list(CONFIGS))
def test_a_configuration_that_is_not_read(changes, text, saved, snapshot):
    case, _, folder = saved("plain")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    before = snapshot(case.model)
    with pytest.raises(tl.TensloraError, match=rf"(?s)^{text}") as caught:
        tl.load_lora(case.model, folder)
    assert caught.value.advice
    before.check(case.model)


KEY = "base_model.model.blocks.0.q.lora_A.weight"
TENSORS = {
    "half": (lambda t: t.pop(KEY), "E612: .*no lora_A of blocks.0.q"),
    "unknown": (
        lambda t: t.update({"base_model.model.x.weight": t[KEY].clone()}),
        "E612: .*x.weight",
    ),
    "prefix": (lambda t: t.update(x=t[KEY].clone()), "E612: .*tensor x, whose name"),
    "dora": (
        lambda t: t.update({KEY.replace("A.weight", "magnitude_vector"): t[KEY].clone()}),
        "E620: .*magnitude_vector",
    ),
    "rank": (lambda t: t.update({KEY: t[KEY][:2].clone()}), "E613: .*do not fit"),
    "width": (lambda t: t.update({KEY: t[KEY][:, :9].clone()}), "E615: .*for 12 x 9, and it is 12"),
    "integers": (lambda t: t.update({KEY: t[KEY].long()}), "E613: .*int64"),
    "no numbers": (lambda t: t[KEY].fill_(torch.inf), "E613: .*numbers that are not finite"),
    "path": (
        lambda t: t.update({k.replace("blocks.0.q", "blocks.0.qq"): t.pop(k) for k in list(t)}),
        r"E615: .*blocks.0.qq, which Plain has not.*Did you mean blocks\.0\.q ",
    ),
    "nothing": (lambda t: t.clear(), "E612: .*holds no lora_A"),
}


def test_numbers_of_eight_bits(saved):
    """As PEFT reads them: torch finds no greatest of such numbers."""
    case, _, folder = saved("plain")
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({k: t.to(torch.float8_e4m3fn) for k, t in tensors.items()}, path)
    adapter = tl.load_lora(case.model, folder)
    narrow = tensors["base_model.model.blocks.0.q.lora_A.weight"].to(torch.float8_e4m3fn)
    wide = tensors["base_model.model.blocks.0.q.lora_B.weight"].to(torch.float8_e4m3fn)
    found = adapter.delta("blocks.0.q")
    want = wide.to(found.dtype) @ narrow.to(found.dtype)
    torch.testing.assert_close(found / found.norm(), want / want.norm(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("change", "text"), TENSORS.values(), ids=list(TENSORS))
def test_tensors_that_are_not_read(change, text, saved, snapshot):
    case, _, folder = saved("plain")
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    before = snapshot(case.model)
    with pytest.raises(StateError, match=rf"(?s)^{text}"):
        tl.load_lora(case.model, folder)
    before.check(case.model)


def test_files_that_are_missing_or_broken(saved, tmp_path, snapshot):
    case, _, folder = saved("plain")
    before = snapshot(case.model)
    with pytest.raises(StateError, match=r"E610: there is no file .*nowhere"):
        tl.load_lora(case.model, tmp_path / "nowhere")
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    whole, text = weights.read_bytes(), config.read_text()
    weights.write_bytes(whole[:-1])
    with pytest.raises(StateError, match=r"E610: .*no whole safetensors file"):
        tl.load_lora(case.model, folder)
    weights.unlink()
    with pytest.raises(StateError, match=r"(?s)E610: .*pickled files are not read"):
        tl.load_lora(case.model, folder)
    weights.write_bytes(whole)
    for broken in ("", "[", "[]", "[" * 100_000):
        config.write_text(broken)
        with pytest.raises(StateError, match="E611"):
            tl.load_lora(case.model, folder)
    config.write_text(text)
    with pytest.raises(AttachError, match="E503"):
        tl.load_lora({}, folder)
    before.check(case.model)
    tl.load_lora(case.model, folder)
    with pytest.raises(AttachError, match="E508"):
        tl.load_lora(case.model, folder)
