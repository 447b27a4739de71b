"""tenslora export: from a file alone to a LoRA that PEFT loads, or to a merged model."""

from __future__ import annotations

import copy
import json

import pytest

torch = pytest.importorskip("torch", reason="the torch half is tested where torch is installed")
transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")

import tenslora as tl  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")
IDS = torch.tensor([[3, 5, 7, 2, 11], [1, 4, 1, 5, 9]])


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=20, n_embd=12, n_layer=2, n_head=3, n_positions=16, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config), ["c_attn", "c_proj"]


def llama():
    config = transformers.LlamaConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=20,
    )  # fmt: skip
    return transformers.LlamaForSequenceClassification(config), ["q_proj", "k_proj"]


def phi3():
    config = transformers.Phi3Config(
        vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=20, pad_token_id=0, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    return transformers.Phi3ForCausalLM(config), ["qkv_proj"]


KINDS = {
    "gpt2": (gpt2, "W[layer proj out in] = B[layer proj out r] A[r in]", {}),
    "llama": (llama, "lotr", {"train": "score"}),
    "llama, prefix": (llama, "lotr", {"ragged": "prefix"}),
    "phi3": (phi3, "tenslora.att_qkv_depth", {}),
}


@pytest.fixture(params=KINDS)
def trained(request, tmp_path):
    """A saved base, an adapter on it with random numbers, its file, and what the model says."""
    make, family, options = KINDS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, targets = make()
        model.eval().config.pad_token_id = 0
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        model.save_pretrained(tmp_path / "base")
        (tmp_path / "base" / "tokenizer.json").write_text("{}")
        base = copy.deepcopy(model)
        model.config._name_or_path = str(tmp_path / "base")
        adapter = tl.attach(model, family, targets=targets, ranks=2, **options)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.copy_(0.3 * torch.randn_like(parameter))
    (tmp_path / "run").mkdir()
    adapter.save(tmp_path / "run" / "adapter.safetensors")
    with torch.no_grad():
        output = model(IDS).logits
        assert not torch.allclose(output, base(IDS).logits, atol=1e-3)
    return base, adapter, output


def test_a_lora_from_the_file_alone(trained, cli, tmp_path):
    """Written without the base, it is what is written beside it, and PEFT's model says the same."""
    peft = pytest.importorskip("peft", reason="PEFT is not installed")
    base, adapter, output = trained
    answer = cli("export", str(tmp_path / "run"), "--to", "lora", str(tmp_path / "out"), "--json")
    beside = adapter.export_lora(tmp_path / "beside")
    assert answer.data == {**beside.to_dict(), "path": str(tmp_path / "out")}
    weights = "adapter_model.safetensors"
    assert (tmp_path / "out" / weights).read_bytes() == (tmp_path / "beside" / weights).read_bytes()
    one, two = (
        json.loads((tmp_path / folder / "adapter_config.json").read_text())
        for folder in ("out", "beside")
    )
    assert sorted(one.pop("target_modules")) == sorted({s.path for s in adapter.sites})
    two.pop("target_modules")  # with the model at hand, endings that name the same modules
    assert one == two
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "out").eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(IDS).logits, output, rtol=1e-4, atol=1e-4)


def test_a_merged_model(trained, cli, tmp_path):
    base, _, output = trained
    words = ("export", str(tmp_path / "run" / "adapter.safetensors"), str(tmp_path / "out"))
    answer = cli(*words, "--to", "merged")
    assert answer.code == 0, answer.err
    assert answer.out.startswith(type(base).__name__)
    made = type(base).from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        torch.testing.assert_close(made(IDS).logits, output, rtol=1e-4, atol=1e-4)
    assert made.state_dict().keys() == base.state_dict().keys()
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"


@pytest.mark.parametrize("trained", ["gpt2"], indirect=True)
def test_a_rank_and_mistakes(trained, cli, refused, tmp_path):
    run, out = str(tmp_path / "run"), str(tmp_path / "out")
    found = cli("export", run, out, "--rank", "1", "--no-pad")
    assert found.out.startswith("LoRA of rank 1 for 6 weights")
    assert "\nexact rank 2, largest relative error " in found.out
    assert "E616" in refused("export", run, out)
    assert "E616" in refused("export", run, out, "--to", "merged")
    assert "E206" in refused("export", run, f"{out}2", "--rank", "0")
    assert "E803" in refused("export", run, f"{out}2", "--rank", "many")
    assert "E610" in refused("export", f"{run}/nothing", f"{out}2")
    assert "E801" in refused("export", run, f"{out}2", "--model", "x")
    assert "E801" in refused("export", run, f"{out}2", "--to", "merged", "--rank", "4")
    assert "E707" in refused("export", run, f"{out}2", "--to", "merged", "--model", run)
    assert not (tmp_path / "out2").exists()


def test_the_bank_of_a_peft_checkpoint_in_another_place(cli, refused, tmp_path):
    peft = pytest.importorskip("peft", reason="PEFT is not installed")
    model, targets = gpt2()
    base = copy.deepcopy(model).eval()
    config = tl.TensLoraConfig(family="lotr", ranks=2, target_modules=targets, init_weights=False)
    peft.get_peft_model(model, config).eval().save_pretrained(tmp_path / "a")
    one, two, three = (str(tmp_path / name) for name in "abc")
    answer = cli("export", one, two, "--to", "first_layer", "--json")
    assert answer.data == {"path": two, "bank": "first_layer", "tensors": 6}
    base.load_adapter(two)
    torch.testing.assert_close(base(IDS).logits, model(IDS).logits)
    assert cli("export", two, three, "--to", "tuner").out.startswith("6 tensors in")
    weights = "adapter_model.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() == (tmp_path / "c" / weights).read_bytes()
    assert "E616" in refused("export", one, two, "--to", "tuner")
    assert "E801" in refused("export", one, f"{two}2", "--to", "tuner", "--model", "x")
    assert "E801" in refused("export", one, f"{two}2", "--to", "tuner", "--rank", "2")
    assert "E610" in refused("export", str(tmp_path), f"{two}2", "--to", "tuner")
