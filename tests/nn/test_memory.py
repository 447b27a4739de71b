"""The estimate of a run's memory against a run: saved tensors, gradients, states, the peak."""

from __future__ import annotations

import math
import random
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
from tenslora.errors import PlanError, SizeError
from tenslora.plan.tracing import Trace

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
    config = GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=48)
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
    # more than the 32 tokens up to which an update is added by plain operations, which keep more
    whole = torch.randint(0, 100, (12, 40)) if name == "input_ids" else torch.randn(12, 3, 16, 16)
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


#: One of each way to run: x A B with A of each layer and of all, chains with copies, frozen cores.
FEW = ["lora", "tenslora.att", "tenslora_tr.depth", "monarch", "dota", "vera", "cara", "fact_tk"]

#: The whole catalogue; all but a few take ``pytest -m slow``.
FAMILIES = [
    name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in tl.registered()
]


def of_the_sites(family, tokens=512, **options):
    """The bounds of an adapter, what a step of its sites takes, and which input each site reads.

    Measured are the cores, what autograd keeps for backward with storages counted once, the
    gradients and the optimiser's states. The frozen layers keep nothing; x has a gradient.
    """
    model = Blocks(32)
    adapter = tl.attach(model, family, targets=["q", "k", "v"], ranks=3, **options)
    inputs = [torch.randn(tokens, 32, requires_grad=True) for _ in range(3)]
    outputs = []
    measured = {"activations": saved_by(model, lambda: outputs.extend(model(inputs)))}
    sum(y.square().sum() for y in outputs).backward()
    trained = list(adapter.parameters())
    optimizer = torch.optim.AdamW(trained)
    optimizer.step()
    (bank,) = adapter.banks.values()
    measured["weights"] = sum(4 * t.numel() for t in bank.tensors().values())
    measured["gradients"] = sum(4 * p.grad.numel() for p in trained)
    states = [v for state in optimizer.state.values() for v in state.values() if v.ndim]
    measured["optimizer"] = sum(4 * v.numel() for v in states)
    (bound,) = adapter.bounds.values()
    counted = bound.network.sites == ("site",)
    return bound, measured, [n // 3 for n in range(9)] if counted else None


@pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_the_count_without_a_model_is_what_the_cores_take(family):
    """Of the sites alone: q, k and v of a layer read one input."""
    bound, measured, inputs = of_the_sites(family)
    estimated = bound.memory(512, inputs=inputs)
    assert estimated.parts["activations"] == pytest.approx(measured["activations"], rel=0.02)
    assert estimated.total == pytest.approx(sum(measured.values()), rel=0.02)
    for part in ("weights", "gradients", "optimizer"):
        assert estimated.parts[part] == measured[part], part


@pytest.mark.parametrize("seed", range(20))
def test_arrays_without_numbers_are_views_and_copies_where_torch_has_them(seed):
    """Axes in a random order, axes of length 1 among them."""
    numbers = random.Random(seed)
    shape = [numbers.choice([1, 2, 3, 4]) for _ in range(4)]
    axes = numbers.sample(range(4), 4)
    real, traced = torch.empty(shape).permute(axes), Trace().array(shape).permute(axes)
    for n in range(3):
        wanted = [math.prod(real.shape[: n + 1]), *real.shape[n + 1 :]]
        other, view = real.reshape(wanted), traced.reshape(*wanted)
        assert (view.piece is traced.piece) == (other.data_ptr() == real.data_ptr())
        together = real.reshape([-1, 2] if real.numel() % 2 == 0 else [-1, 1])
        split = traced.reshape(*together.shape)
        assert (split.piece is traced.piece) == (together.data_ptr() == real.data_ptr())
    added, sums = real + torch.empty(1), traced + Trace().array([1])
    pairs = zip(added.shape, added.stride(), sums.steps, strict=True)
    assert all(one == two for length, one, two in pairs if length > 1)


def test_inputs_are_as_many_as_the_sites():
    bound = tl.families.fact_tt.bind({"site": 6, "out": 8, "in": 8}, ranks=2)
    with pytest.raises(PlanError, match="E403") as info:
        bound.memory(inputs=[0, 1])
    assert "inputs names 2 inputs" in str(info.value)
    assert "has 6 sites" in str(info.value)


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
