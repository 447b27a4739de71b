"""Families that start from the weights of the model, through the tuner."""

from __future__ import annotations

import peft
import pytest
import torch

import tenslora as tl

TARGETS = ["query", "key", "value"]
FAMILIES = {
    "pissa": {"ranks": 2},
    "lora_xs": {"ranks": 2},
    "tinylora": {"ranks": {"r": 2, "s": 2, "u": 2}},
    "craft": {"ranks": {"a": 3, "x": 3, "b": 4, "y": 4, "c": 2, "z": 2}},
}


def losses_of(model, run, steps=3):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(run(model), torch.tensor([0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("family", FAMILIES)
def test_a_start_from_weights_is_that_of_attach(make, run, config, family, tmp_path):
    """The same losses to the last bit; a file with what was trained alone, read on the base."""
    base, settings = make(), FAMILIES[family]
    wrapped = peft.get_peft_model(make(), config(family=family, **settings)).eval()
    adapter = tl.attach(base, family, targets=TARGETS, **settings)
    start = run(make())
    torch.testing.assert_close(run(wrapped), start, rtol=1e-4, atol=1e-4)
    assert losses_of(wrapped, run) == losses_of(base, run)
    assert not torch.allclose(run(wrapped), start, atol=1e-3)
    assert adapter.trainable_parameters == wrapped.get_nb_trainable_parameters()[0]
    wrapped.save_pretrained(tmp_path)
    for options in ({}, {"low_cpu_mem_usage": True}):
        again = peft.PeftModel.from_pretrained(make(), tmp_path, **options)
        assert not any(t.is_meta for t in (*again.parameters(), *again.buffers()))
        assert torch.equal(run(again), run(wrapped))


def test_rows_have_their_own_adapter_and_their_own_head(make, run, config, randomize):
    settings = {"modules_to_save": ["classifier"]}
    model = peft.get_peft_model(make(), config(**settings)).eval()
    model.add_adapter("second", config(family="lotr", target_modules=["value"], **settings))
    for seed, name in enumerate(("default", "second")):
        randomize(model, name, seed)
        head = model.base_model.model.classifier.modules_to_save[name]
        with torch.no_grad():
            head.weight.add_(torch.randn(2, 12, generator=torch.Generator().manual_seed(seed)))
    names = ["second", "default", "__base__", "second"]
    batch = torch.arange(20).reshape(4, 5) % 17
    mixed = model(batch, adapter_names=names).logits
    alone = {}
    for name in ("default", "second"):
        model.set_adapter(name)
        alone[name] = model(batch).logits
    with model.disable_adapter():
        alone["__base__"] = model(batch).logits
    for row, name in enumerate(names):
        torch.testing.assert_close(mixed[row], alone[name][row], rtol=1e-4, atol=1e-5)
        others = [alone[other][row] for other in alone if other != name]
        assert not any(torch.allclose(mixed[row], other, atol=1e-3) for other in others)
