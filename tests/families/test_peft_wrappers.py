"""Wrappers on whole models against PEFT's own DoRA and HiRA, with the same weights copied in."""

from __future__ import annotations

import copy

import pytest

import tenslora as tl

torch = pytest.importorskip("torch", reason="torch is not installed")
peft = pytest.importorskip("peft", reason="PEFT is not installed")

IN, OUT, RANK = 10, 14, 3

#: wrapper -> PEFT's configuration, the scale, and what PEFT calls each tensor.
CASES = {
    "dora": (
        lambda: peft.LoraConfig(
            r=RANK, lora_alpha=6, use_dora=True, target_modules=["first", "second"]
        ),
        2.0,
        {
            "A": lambda m: m.lora_A["default"].weight,
            "B": lambda m: m.lora_B["default"].weight,
            "magnitude": lambda m: m.lora_magnitude_vector["default"].weight,
        },
    ),
    "hira": (
        lambda: peft.HiraConfig(r=RANK, target_modules=["first", "second"]),
        1.0,
        {"A": lambda m: m.hira_A["default"], "B": lambda m: m.hira_B["default"]},
    ),
}


class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(IN, OUT)
        self.second = torch.nn.Linear(OUT, IN, bias=False)

    def forward(self, x):
        return self.second(self.first(x).sin())


def prepare(name, dtype):
    """One base with PEFT's adapter and ours, the same numbers in both."""
    config, scale, where = CASES[name]
    torch.manual_seed(0)
    base = Two().to(dtype)
    theirs = peft.get_peft_model(copy.deepcopy(base), config(), autocast_adapter_dtype=False)
    family = tl.family(
        "W[site out in] = B[site out r] A[site r in]",
        init={"B": "zeros"},
        scale=f"constant({scale})",
    )
    adapter = tl.attach(base, tl.wrap(name, family), targets=["first", "second"], ranks=RANK)
    pairs = []
    for path in ("first", "second"):
        bank = next(b for b in adapter.banks.values() if b.weights[0].path == path)
        layer = getattr(theirs.base_model.model, path)
        for tensor, get in where.items():
            held = bank.tensors()[tensor]
            if tensor == "magnitude":  # PEFT's start is ours
                torch.testing.assert_close(held[0].detach(), get(layer).detach())
            drawn = torch.randn(held[0].shape, dtype=dtype).mul(0.3)
            drawn = drawn.abs() + 0.5 if tensor == "magnitude" else drawn
            held.data[0] = drawn
            get(layer).data.copy_(drawn)
            pairs.append((held, get(layer)))
    return base, adapter, theirs, pairs


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients(name):
    base, adapter, theirs, pairs = prepare(name, torch.float64)
    x = torch.randn(5, 2, IN, dtype=torch.float64, requires_grad=True)
    ours = base(x)
    ours.sin().sum().backward()
    gradient, x.grad = x.grad, None
    other = theirs(x)
    other.sin().sum().backward()
    torch.testing.assert_close(ours, other, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, x.grad, rtol=1e-10, atol=1e-12)
    for mine, their in pairs:
        torch.testing.assert_close(mine.grad[0], their.grad, rtol=1e-10, atol=1e-12)
    trained = sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    assert adapter.trainable_parameters == trained


@pytest.mark.parametrize("name", CASES)
def test_in_single_precision_within_its_rounding(name):
    base, _, theirs, pairs = prepare(name, torch.float32)
    x = torch.randn(7, IN)
    ours, other = base(x), theirs(x)
    torch.testing.assert_close(ours, other)
    for loss in (ours, other):
        loss.square().sum().backward()
    for mine, their in pairs:
        torch.testing.assert_close(mine.grad[0], their.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_merged_weights(name):
    base, adapter, theirs, _ = prepare(name, torch.float64)
    adapter.merge()
    merged = theirs.merge_and_unload()
    for path in ("first", "second"):
        found, expected = getattr(base, path).weight, getattr(merged, path).weight
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-12, atol=1e-12)
