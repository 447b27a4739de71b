"""A large model is planned with a handful of searches, and takes no memory on the meta device."""

from __future__ import annotations

import pytest
import torch

import tenslora as tl
from tenslora.plan.path import _solve
from tenslora.plan.program import _find

transformers = pytest.importorskip("transformers")

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def llama(layers):
    config = transformers.LlamaConfig(
        hidden_size=4096,
        num_hidden_layers=layers,
        num_attention_heads=32,
        intermediate_size=11008,
        vocab_size=128,
    )
    with torch.device("meta"):
        return transformers.LlamaForCausalLM(config)


def attached(model, family="lora"):
    """Attach with nothing planned before; also how many plans and searches that took."""
    _find.cache_clear()
    _solve.cache_clear()
    adapter = tl.attach(model, family, targets=TARGETS, ranks=4)
    return adapter, _find.cache_info().misses, _solve.cache_info().misses


def test_a_llama_of_seven_billion_parameters():
    model = llama(32)
    adapter, plans, searches = attached(model)
    assert len(adapter.sites) == 224
    # square, to the wide side, from the wide side; for each x B A, and a search for each half
    assert plans == len(adapter.banks) == 3
    assert searches <= 3 * plans
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    x = torch.zeros(1, 8, dtype=torch.long, device="meta")
    assert model(x).logits.shape == (1, 8, 128)
    assert _find.cache_info().misses == plans  # running plans nothing


def test_other_names_are_searched_for_once():
    model = llama(2)
    adapter, _, searches = attached(model)
    adapter.detach()
    other = "W[layer proj out in] = Up[layer proj out rank] Down[layer proj rank in]"
    renamed = tl.family(other, init={"Up": "zeros"})
    tl.attach(model, renamed, targets=TARGETS, ranks=4)
    assert _solve.cache_info().misses == searches
