"""The estimate of a run's memory against a run: saved tensors, gradients, states, the peak."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import BertConfig, BertForSequenceClassification

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


def test_activations_are_what_autograd_saves():
    adapter, batch = make("tenslora.qkv_depth")
    found: dict[int, int] = {}
    held = []

    def keep(tensor):
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        held.append(storage)
        return tensor

    model = adapter.model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model(**batch)
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    measured = sum(size for place, size in found.items() if place not in own)
    few = {name: value[:2] for name, value in batch.items()}
    assert adapter.memory(few, rows=12).parts["activations"] == pytest.approx(measured, rel=0.01)
    del out


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
