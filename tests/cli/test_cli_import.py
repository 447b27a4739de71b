"""tenslora import: PEFT's folder becomes a file of ours, with the same numbers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the torch half is tested where torch is installed")
transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")
peft = pytest.importorskip("peft", reason="PEFT is not installed")

from safetensors.torch import load_file  # noqa: E402

import tenslora as tl  # noqa: E402

IDS = torch.tensor([[3, 5, 7, 2, 11], [1, 4, 1, 5, 9]])
SMALL = {"vocab_size": 20, "num_hidden_layers": 2, "intermediate_size": 20}


def bert():
    config = transformers.BertConfig(
        hidden_size=12, num_attention_heads=3, max_position_embeddings=16, num_labels=5, **SMALL
    )
    return transformers.BertForSequenceClassification(config), ["query", "value"], "SEQ_CLS"


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=20, n_embd=12, n_layer=2, n_head=3, n_positions=16, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config), ["c_attn"], "CAUSAL_LM"


def llama():
    config = transformers.LlamaConfig(
        hidden_size=16, num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, **SMALL
    )
    return transformers.LlamaForCausalLM(config).bfloat16(), ["q_proj", "k_proj"], None


def dora():
    return bert()


@pytest.fixture(params=[bert, gpt2, llama, dora], ids=lambda make: make.__name__)
def trained(request, tmp_path):
    """The folders of a base and of a LoRA on it, and what PEFT's model says."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, targets, task = request.param()
        model.save_pretrained(tmp_path / "base")
        base = type(model).from_pretrained(tmp_path / "base").eval()
        config = peft.LoraConfig(
            r=3, lora_alpha=5, target_modules=targets, task_type=task, init_lora_weights=False,
            fan_in_fan_out=targets == ["c_attn"], use_dora=request.param is dora,
        )  # fmt: skip
        wrapped = peft.get_peft_model(base, config).eval()
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if "modules_to_save" in name or "magnitude" in name:
                    parameter.normal_().abs_()
            output = wrapped(IDS).logits
        wrapped.save_pretrained(tmp_path / "lora")
    return type(model), output


def test_the_numbers_of_the_folder_in_a_file(trained, cli, tmp_path):
    kind, output = trained
    answer = cli("import", str(tmp_path / "lora"), str(tmp_path / "out"), "--json")
    assert answer.code == 0, answer.err
    path = tmp_path / "out" / "adapter.safetensors"
    held = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    lora = {name for name in held if ".lora_" in name}
    pairs = {name for name in lora if "magnitude" not in name}
    head = ["classifier"] if kind.__name__.startswith("Bert") else []
    assert answer.data == {
        "path": str(path), "model": kind.__name__, "sites": len(pairs) // 2,
        "parameters": sum(held[name].numel() for name in lora), "train": head,
        "family": "lora" if pairs == lora else "dora(lora)",
    }  # fmt: skip
    base = kind.from_pretrained(tmp_path / "base", num_labels=5).eval()
    adapter = tl.load(base, path)
    with torch.no_grad():
        torch.testing.assert_close(base(IDS).logits, output, rtol=1e-5, atol=1e-5)
    found = {
        f"base_model.model.{site.path}.lora_{core}.weight": bank.cores()[core][
            tuple(place.values())
        ]
        for bank in adapter.banks.values()
        for site, place in zip(bank.sites, bank.grid.positions, strict=True)
        for core in "AB"
    }
    assert found.keys() == pairs
    assert all(torch.equal(value, held[name]) for name, value in found.items())
    assert {bank.bound.scale for bank in adapter.banks.values()} == {5 / 3}


@pytest.mark.parametrize("trained", [bert], indirect=True)
def test_words_and_mistakes(trained, cli, refused, tmp_path):
    lora, out = str(tmp_path / "lora"), str(tmp_path / "a.safetensors")
    base = str(tmp_path / "base")
    answer = cli("import", lora, out, "--model", base)
    assert answer.out == (
        "a LoRA of 4 weights of BertForSequenceClassification and classifier, 288 numbers, "
        f"in {out}\n"
    )
    assert "E616" in refused("import", lora, out)
    assert "E616" in refused("import", lora, f"{base}/config.json/x")
    other = str(tmp_path / "other")
    assert "E610" in refused("import", base, other)
    assert "E707" in refused("import", lora, other, "--model", lora)
    gpt2()[0].save_pretrained(tmp_path / "gpt2")
    assert "E615" in refused("import", lora, other, "--model", str(tmp_path / "gpt2"))
    assert not (tmp_path / "other").exists()
