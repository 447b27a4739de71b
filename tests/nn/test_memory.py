"""The estimate of a run's memory against a run: saved tensors, gradients, states, the peak."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

import tenslora as tl
from tenslora.errors import SizeError

CONFIG = {"num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 100}


class LiveTensors(TorchDispatchMode):
    """Adds up the storages that live, operation by operation: an account of its own."""

    def __init__(self):
        super().__init__()
        self.sizes, self.now, self.peak = {}, 0, 0

    def add(self, tensor):
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.now += self.sizes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.drop, key)

    def drop(self, key):
        self.now -= self.sizes.pop(key, 0)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        return out


def make(family, hidden=64, rows=12, length=20):
    config = BertConfig(hidden_size=hidden, intermediate_size=4 * hidden, **CONFIG)
    model = BertForSequenceClassification(config)
    options = {"ranks": 32} if family == "vera" else {"like": "lora:4"}
    targets = ["query", "key", "value"]
    adapter = tl.attach(model, family, targets=targets, train="classifier", **options)
    ids = torch.randint(0, 100, (rows, length))
    labels = torch.zeros(rows, dtype=torch.long)
    return adapter, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


@pytest.mark.parametrize("family", ["lora", "tenslora.att_qkv_depth", "loha", "metatt4", "vera"])
def test_within_a_tenth_of_the_peak_of_two_steps(family):
    adapter, batch = make(family)
    few = {name: value[:2] for name, value in batch.items()}
    estimated = adapter.memory(few, rows=12)
    model = adapter.model.train()
    optimizer = torch.optim.AdamW(adapter.param_groups(1e-3))
    with LiveTensors() as live:
        for tensor in (*model.parameters(), *model.buffers()):
            live.add(tensor)
        for _ in range(2):
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            grads = sum(p.grad.numel() * 4 for p in model.parameters() if p.grad is not None)
            optimizer.zero_grad()
            del loss
    states = sum(v.numel() * 4 for s in optimizer.state.values() for v in s.values() if v.ndim)
    assert estimated.parts["gradients"] == grads
    assert estimated.parts["optimizer"] == states
    assert 0.9 <= estimated.total / live.peak <= 1.1


def saved_by(model, run):
    """Bytes of what autograd keeps, each storage once, but for parameters and buffers."""
    found: dict[int, int] = {}
    held = []

    def keep(tensor):
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        held.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = run()
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    del out
    return sum(size for place, size in found.items() if place not in own)


def gpt2():
    config = GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=32)
    return GPT2LMHeadModel(config), ["c_attn"], "input_ids"


def llama():
    config = LlamaConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=48,
    )  # fmt: skip
    return LlamaForCausalLM(config), ["q_proj", "k_proj", "v_proj"], "input_ids"


def vit():
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        image_size=16, patch_size=4,
    )  # fmt: skip
    return ViTForImageClassification(config), ["q_proj", "v_proj"], "pixel_values"


@pytest.mark.parametrize("kind", [gpt2, llama, vit])
@pytest.mark.parametrize("family", ["lora", "tenslora.qkv", "tensor_ring", "loha", "randlora"])
def test_activations_are_what_autograd_saves(kind, family):
    model, targets, name = kind()
    adapter = tl.attach(model, family, targets=targets, ranks=3)
    whole = torch.randint(0, 100, (12, 20)) if name == "input_ids" else torch.randn(12, 3, 16, 16)
    measured = saved_by(model.train(), lambda: model(**{name: whole}))
    estimated = adapter.memory({name: whole[:2]}, rows=12)
    assert estimated.parts["activations"] == pytest.approx(measured, rel=0.05)


class Block(nn.Module):
    num_heads = 4

    def __init__(self, width):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))


class Blocks(nn.Module):
    """Three layers whose q, k and v read an input of their own."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.ModuleList(Block(width) for _ in range(3))

    def forward(self, inputs):
        pairs = zip(self.layers, inputs, strict=True)
        return [m(x) for block, x in pairs for m in (block.q, block.k, block.v)]


#: One of each shape: matrices, Tucker, CP, rings, trains, trees, products, frozen cores.
SHAPES = [
    "lora", "tenslora.att", "tenslora.qkv_depth", "tenslora_cp.att", "tenslora_tr.att",
    "tensor_ring", "tenslora_tt.depth", "metatt5", "hierarchical_tucker", "block_term", "lotr",
    "tied_lora", "randlora", "loha", "lokr", "c3a", "fourierft",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")
@pytest.mark.parametrize("family", SHAPES)
def test_the_count_without_a_model_is_what_the_cores_keep(family):
    """Of the sites alone, whose frozen layers keep nothing: q, k and v read one input."""
    model = Blocks(32)
    adapter = tl.attach(model, family, targets=["q", "k", "v"], ranks=4)
    inputs = [torch.randn(512, 32, requires_grad=True) for _ in range(3)]
    measured = saved_by(model, lambda: model(inputs))
    (bound,) = adapter.bounds.values()
    assert bound.memory(512).parts["activations"] == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(
    ("name", "make_optimizer"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1)),
        ("momentum", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
    ],
)
@pytest.mark.parametrize("family", ["lora", "vera", "tenslora.att_qkv_depth"])
def test_states_are_those_of_the_optimizer(family, name, make_optimizer):
    adapter, batch = make(family, rows=1)
    optimizer = make_optimizer(list(adapter.parameters()))
    adapter.model(**batch).loss.backward()
    optimizer.step()
    kept = [v for s in optimizer.state.values() for v in s.values()]
    states = sum(v.numel() * 4 for v in kept if isinstance(v, torch.Tensor) and v.ndim)
    assert adapter.memory(batch, optimizer=name).parts["optimizer"] == states
    own = sum(bound.memory(optimizer=name).parts["optimizer"] for bound in adapter.bounds.values())
    head = sum(p.numel() for p in adapter.model.classifier.parameters())
    assert own == states - 4 * head * (states // (4 * sum(p.numel() for p in adapter.parameters())))


def test_nothing_is_changed():
    torch.manual_seed(5)
    adapter, batch = make("lora")
    model = adapter.model.eval()
    model.register_buffer("seen", torch.zeros(1))
    hook = model.register_forward_hook(lambda m, *_: m.seen.add_(1))
    state = torch.get_rng_state()
    adapter.memory(batch)
    hook.remove()
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in model.modules())
    assert float(model.seen) == 0.0
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("batch", "text"),
    [
        (5, "the batch is a int"),
        ({}, "the batch is a dict without tensors"),
        ({"a": torch.zeros(2), "b": torch.zeros(3)}, "have 2, 3 rows"),
    ],
)
def test_batches_without_rows(batch, text):
    adapter, _ = make("lora", rows=1)
    with pytest.raises(SizeError, match="E212") as info:
        adapter.memory(batch)
    assert text in str(info.value)
