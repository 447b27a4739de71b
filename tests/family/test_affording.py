"""A model's shape from its config, one budget for every family, and the memory of a run."""

from __future__ import annotations

import json

import pytest

import tenslora as tl
from tenslora.errors import SizeError
from tenslora.family import ModelShape, Weights

LLAMA = {
    "hidden_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 8192,
}


def test_a_config_with_fewer_key_and_value_heads(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), "utf-8")
    for given in (tmp_path, tmp_path / "config.json", LLAMA, {"text_config": LLAMA}):
        shape = tl.model_shape(given, ["q", "k", "v", "o", "gate", "up", "down"])
        assert [(w.projections, w.out, w.inputs, w.heads) for w in shape.weights] == [
            (("q", "o"), 3072, 3072, 24),
            (("k", "v"), 1024, 3072, 8),
            (("gate", "up"), 8192, 3072, None),
            (("down",), 3072, 8192, None),
        ]


def test_other_names_of_the_same_entries():
    gpt = {"n_embd": 768, "n_layer": 12, "n_head": 12}
    assert tl.model_shape(gpt).weights == tl.model_shape("bert-base").weights


def test_llama_by_a_published_count():
    """PEFT's benchmark: LoRA r=32 on q_proj and v_proj of Llama-3.2-3B has 9,175,040 numbers."""
    shape = tl.model_shape("llama-3.2-3b", ["q", "v"])
    table = tl.budget_table(shape, ["lora"], rank=32)
    assert table.rows[0].parameters == 9_175_040


def test_every_family_is_within_the_budget_or_has_a_reason():
    table = tl.budget_table("minilm", like="lora:8")
    assert {row.name for row in table.rows} | set(table.left_out) == set(tl.registered())
    for row in table.rows:
        assert row.parameters <= 110_592
        (bound,) = row.bounds
        assert row.checkpoint_bytes == 4 * (row.parameters + bound.frozen_parameters)
        assert row.cut_rank == bound.cut_rank
        assert row.flops_per_token == bound.flops_per_token
    lora = next(row for row in table.rows if row.name == "lora")
    assert lora.parameters == 110_592
    assert lora.saved_per_token == 6 * 384 + 18 * 8  # x of each layer, h of each site


def test_an_input_that_several_weights_read_is_kept_once():
    """Query of one shape, key and value of another, and families that count sites by one index."""
    shape = tl.model_shape(LLAMA, ["q", "k", "v", "o"])
    rows = {row.name: row for row in tl.budget_table(shape, ["lora", "fact_tt"], rank=4).rows}
    x = 28 * (3072 + 3072)  # what q, k and v read, and what o reads
    assert rows["lora"].saved_per_token == x + 28 * 4 * 4
    # U is one for all sites: q and o of one adapter read two inputs, k and v of another read one
    assert rows["fact_tt"].saved_per_token - x == 28 * 4 * (2 + 1)


def test_families_that_cannot_be_bound_say_why():
    no_heads = ModelShape("m", (Weights(("up",), 4, 64, 64),))
    table = tl.budget_table(no_heads, ["lora", "lorta", "tt_lora"], params=700)
    assert [row.name for row in table.rows] == ["lora", "tt_lora"]
    assert "no heads" in table.left_out["lorta"]
    assert "below the smallest adapter" not in table.left_out["lorta"]
    few = tl.budget_table("minilm", ["gralora"], params=10**5, sizes={"t": 2, "n": 2})
    cut = tl.budget_table("minilm", ["gralora"], params=10**5)
    assert [row.name for row in few.rows] == ["gralora"]
    assert cut.left_out["gralora"].endswith("(at t=16 o=24 n=16 c=24; others may take fewer)")
    small = tl.budget_table(
        "minilm", ["lora", "W[expert out in] = B[expert out r] A[r in]"], params=9
    )
    assert "below the smallest adapter" in small.left_out["lora"]
    assert any("site index expert" in reason for reason in small.left_out.values())
    assert "left out" in repr(small)


def test_a_number_is_shared_out_between_shapes():
    table = tl.budget_table("llama-3.2-3b", ["tenslora.qkv_depth"], params=2_000_000)
    row = table.rows[0]
    assert 1_990_000 < row.parameters <= 2_000_000
    assert len(row.bounds) == 2


@pytest.mark.parametrize(
    ("config", "options", "code", "text"),
    [
        ("no/such/place", {"rank": 1}, "E213", "no/such/place is not there"),
        ({"hidden_size": 8}, {"rank": 1}, "E213", "says no num_hidden_layers"),
        ({**LLAMA, "hidden_size": "x"}, {"rank": 1}, "E213", "hidden_size='x' is not"),
        ("minilm", {}, "E208", "no budget is given"),
        ("minilm", {"rank": 1, "params": 5}, "E208", "params= and rank= are both given"),
    ],
)
def test_what_cannot_be_read(config, options, code, text):
    with pytest.raises(SizeError, match=code) as info:
        tl.budget_table(config, ["lora"], **options)
    assert text in str(info.value)


def test_unknown_targets():
    with pytest.raises(SizeError, match="E213") as info:
        tl.model_shape("minilm", ["query"])
    assert "targets names 'query'" in str(info.value)


@pytest.mark.parametrize(("optimizer", "states"), [("adamw", 2), ("momentum", 1), ("sgd", 0)])
def test_memory_of_cores(optimizer, states):
    bound = tl.families.vera.bind({"layer": 2, "proj": 3, "out": 16, "in": 16}, r=4)
    memory = bound.memory(tokens=10, optimizer=optimizer, itemsize=2)
    trained = 6 * (16 + 4)
    assert memory.parts["weights"] == 2 * (trained + 2 * 16 * 4)
    assert memory.parts["gradients"] == 2 * trained
    assert memory.parts["optimizer"] == 2 * states * trained
    assert memory.to_dict()["total"] == memory.total == sum(memory.parts.values())
    assert (memory + memory).total == 2 * memory.total


@pytest.mark.parametrize("options", [{"optimizer": "lion9"}, {"tokens": 0}])
def test_memory_that_is_not_known(options):
    bound = tl.families.lora.bind({"layer": 2, "proj": 3, "out": 16, "in": 16}, r=4)
    with pytest.raises(SizeError, match="E212"):
        bound.memory(**options)
