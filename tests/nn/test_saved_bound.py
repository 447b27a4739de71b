"""What backward keeps of an adapter beyond the frozen model, against a written bound."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

import tenslora as tl
from tenslora.errors import AttachError
from tenslora.nn.memory import saved_bound
from tenslora.plan import reads_input

WIDTH, LAYERS, RANK, TOKENS = 32, 3, 2, 160


class Block(nn.Module):
    """Attention in plain torch; keys may have fewer features than queries."""

    num_heads = 4

    def __init__(self, narrow):
        super().__init__()
        self.q, self.v = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.k = nn.Linear(WIDTH, narrow)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x):
        h = self.norm(x)
        q, k, v = self.q(h), self.k(h), self.v(h)
        return x + (q[..., : k.shape[-1]] @ k.mT).softmax(-1) @ v


def over_the_floor(family, narrow=WIDTH, tokens=TOKENS):
    """An adapter, and the bytes that autograd keeps more than with the adapter switched off.

    The first biases are trained, so that activations have gradients either way.
    """
    model = nn.Sequential(*(Block(narrow) for _ in range(LAYERS)))
    adapter = tl.attach(model, family, targets=["q", "k", "v"], ranks=RANK)
    for layer in (model[0].q, model[0].k, model[0].v):
        layer.bias.requires_grad_(True)
    return adapter, kept_by(adapter, torch.randn(4, tokens // 4, WIDTH))


def kept_by(adapter, x):
    """Storages are counted once, parameters and the input of the model not at all."""
    model = adapter.model
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers(), x)}
    kept = []
    for context in (adapter.disabled(), nullcontext()):
        found, held = {}, []

        def keep(tensor, found=found, held=held):
            storage = tensor.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
            held.append(storage)
            return tensor

        with context, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = model(x)
        kept.append(sum(size for place, size in found.items() if place not in own))
        del out
    return kept[1] - kept[0]


#: Each construction in two factorisations, and one of each way to run.
FAMILIES = [
    *(f"{kind}.{name}" for kind in ("tenslora", "tenslora_cp")
      for name in ("att", "qkv", "depth", "att_qkv", "att_depth", "qkv_depth", "att_qkv_depth")),
    "lora", "vera", "lora_xs", "lotr", "fact_tt", "metatt4", "lokr", "loha", "quanta", "tera",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")
@pytest.mark.parametrize("tokens", [20, TOKENS])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_more_is_kept_than_the_bound_says(family, tokens):
    adapter, kept = over_the_floor(family, tokens=tokens)
    assert 0.9 * saved_bound(adapter, tokens) <= kept <= saved_bound(adapter, tokens)


@pytest.mark.parametrize("index", ["", "site "])
def test_tied_matrices_and_shapes_that_read_one_input(index):
    """The bound takes each input once over all banks, a tied matrix at every site that it is at."""
    equation = f"W[{index}out in] = B[{index}out r] A[{index}r in]"
    adapter, kept = over_the_floor(equation, narrow=WIDTH // 2)
    assert len(adapter.banks) == 2
    bound = saved_bound(adapter, TOKENS)
    assert kept <= bound
    matrices = 4 * LAYERS * 3 * RANK * 2 * WIDTH
    assert bound <= 4 * TOKENS * LAYERS * (WIDTH + 3 * RANK) + matrices


def test_a_core_that_lies_tall_is_copied_for_the_layers_that_read_one_input():
    """A (in, r) of q, k and v, below each other: the copy is kept, and the bound has it."""
    adapter, kept = over_the_floor("W[site out in] = B[site out r] A[site in r]")
    assert 0.9 * saved_bound(adapter, TOKENS) <= kept <= saved_bound(adapter, TOKENS)


#: Numbers that a token takes, by hand: x of each layer, and thin products.
BY_HAND = {
    "lora": LAYERS * (WIDTH + 3 * RANK),  # q, k and v have an A each
    "share_a": LAYERS * (WIDTH + 3 * RANK),
    "vera": LAYERS * RANK,  # A is frozen and shared: x A once a layer
    "lora_xs": LAYERS * 3 * RANK,  # A is frozen: x A at every site
    "tinylora": LAYERS * 3 * RANK,
    "tenslora_cp.att_qkv_depth": LAYERS * (WIDTH + RANK),  # one U for all: x U once a layer
}


@pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")
@pytest.mark.parametrize("family", BY_HAND)
def test_a_token_takes_what_the_formula_needs(family):
    adapter, _ = over_the_floor(family)
    a_token = (saved_bound(adapter, TOKENS) - saved_bound(adapter, TOKENS - 1)) // 4
    assert a_token == BY_HAND[family]


class Decoder(nn.Module):
    """Keys and values read what an encoder gave."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(WIDTH, WIDTH)
        self.encoder_attn = nn.ModuleDict(
            {name: nn.Linear(WIDTH, WIDTH) for name in ("q_proj", "k_proj", "v_proj")}
        )

    def forward(self, x):
        read = self.encoder(x)
        inputs = {"q_proj": x.sin(), "k_proj": read, "v_proj": read}
        return sum(self.encoder_attn[name](given) for name, given in inputs.items())


def test_queries_of_cross_attention_meet_their_own_a_alone():
    model = nn.ModuleList([Decoder()])
    model.forward = lambda x: model[0](x)
    adapter = tl.attach(model, "lora", targets=["q_proj", "k_proj", "v_proj"], ranks=RANK)
    model[0].encoder.bias.requires_grad_(True)
    kept = kept_by(adapter, torch.randn(4, TOKENS // 4, WIDTH))
    # by hand: x with x A of the query, what the encoder gave with those of key and value
    assert kept <= saved_bound(adapter, TOKENS) == 4 * TOKENS * (2 * WIDTH + 3 * RANK)


@pytest.mark.parametrize("rank", [4, 16])
@pytest.mark.parametrize("tokens", [394, 4096])
def test_x_is_not_kept_where_it_meets_a_frozen_core(rank, tokens):
    """Although the count of a step with R on the side of x is lower; the two are as fast."""
    sizes = {"layer": 12, "proj": 3, "out": 768, "in": 768}
    plan = tl.families.lora_xs.bind(sizes, ranks=rank).plan(tokens=tokens)
    assert plan.normal
    assert not reads_input(plan)


def test_a_wrapper_keeps_more_than_the_equation_says():
    with pytest.raises(AttachError, match="E520"):
        saved_bound(over_the_floor("dora(lora)")[0], TOKENS)
