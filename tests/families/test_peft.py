"""The catalogue's own families, run by the torch backend, against the layers of PEFT.

tests/nn/test_peft_parity.py compares whole adapted models; this is about the values of the
catalogue: their sizes, scale, frozen cores and starts.
"""

from __future__ import annotations

import numpy as np
import pytest

from tenslora import backends, families

torch = pytest.importorskip("torch", reason="torch is not installed")
peft = pytest.importorskip("peft", reason="PEFT is not installed")

IN, OUT, RANK = 24, 40, 3


class Two(torch.nn.Module):
    """Two layers of one shape: what VeRA shares, it shares here."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(IN, OUT, bias=False)
        self.second = torch.nn.Linear(IN, OUT, bias=False)

    def forward(self, x):
        return torch.stack([self.first(x), self.second(x)])


#: family -> PEFT's configuration, extra sizes, and where PEFT keeps each core. The scale is 6 / 3:
#: exact in float32, in which PEFT's LoHa keeps it whatever the weights are in.
CASES = {
    "lora": (
        lambda: peft.LoraConfig(r=RANK, lora_alpha=6, target_modules=["first", "second"]),
        {"alpha": 6, "r": RANK},
        {"A": lambda m: m.lora_A["default"].weight, "B": lambda m: m.lora_B["default"].weight},
    ),
    "vera": (
        lambda: peft.VeraConfig(r=RANK, target_modules=["first", "second"]),
        {"r": RANK},
        {
            "A": lambda m: m.vera_A["default"],
            "B": lambda m: m.vera_B["default"],
            "d": lambda m: m.vera_lambda_d["default"],
            "b": lambda m: m.vera_lambda_b["default"],
        },
    ),
    "loha": (
        lambda: peft.LoHaConfig(r=RANK, alpha=6, target_modules=["first", "second"]),
        {"alpha": 6, "r": RANK, "s": RANK},
        {
            "B1": lambda m: m.hada_w1_a["default"],
            "A1": lambda m: m.hada_w1_b["default"],
            "B2": lambda m: m.hada_w2_a["default"],
            "A2": lambda m: m.hada_w2_b["default"],
        },
    ),
    # the most even factors, the smaller first: 40 = 5 x 8, 24 = 4 x 6
    "lokr": (
        lambda: peft.LoKrConfig(r=RANK, alpha=6, target_modules=["first", "second"]),
        {"alpha": 6, "r": RANK, "o1": 5, "o2": 8, "i1": 4, "i2": 6},
        {
            "C": lambda m: m.lokr_w1["default"],
            "B": lambda m: m.lokr_w2_a["default"],
            "A": lambda m: m.lokr_w2_b["default"],
        },
    ),
}


def prepare(name):
    """A bound family of two layers, PEFT's model, and its two adapted layers."""
    config, settings, where = CASES[name]
    features = {} if "o1" in settings else {"in": IN, "out": OUT}
    family = getattr(families, name)
    bound = family.bind({"layer": 2, "proj": 1, **features}, **settings)
    torch.manual_seed(0)
    model = peft.get_peft_model(Two(), config()).double().eval()
    base = model.base_model.model
    return bound, model, [base.first, base.second], where


def per_layer(bound, core, values):
    """The values of one core for each of the two layers."""
    if "layer" in bound.network.cores[core].indices:
        return [values[0, 0], values[1, 0]]
    return [values, values]


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients(name):
    bound, model, layers, where = prepare(name)
    rng = np.random.default_rng(0)
    cores = {n: torch.tensor(rng.standard_normal(s)) for n, s in bound.shapes.items()}
    for core, get in where.items():
        for layer, values in zip(layers, per_layer(bound, core, cores[core]), strict=True):
            assert get(layer).shape == values.shape
            get(layer).data.copy_(values)
    for core in cores:
        cores[core].requires_grad_(core not in bound.family.frozen)
    x = torch.tensor(rng.standard_normal((7, IN)), requires_grad=True)
    weight = torch.stack([layer.base_layer.weight.detach() for layer in layers])
    run = backends.executable(bound.plan(), backends.get("torch"))
    ours = x @ weight.mT + bound.scale * run.apply_stacked(cores, x)[:, 0]
    (ours.sin()).sum().backward()
    gradient, x.grad = x.grad, None
    theirs = model(x)
    (theirs.sin()).sum().backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(gradient, x.grad, rtol=1e-10, atol=1e-10)
    for core, get in where.items():
        grads = [get(layer).grad for layer in layers]
        if core in bound.family.frozen:
            assert grads == [None, None]
            assert cores[core].grad is None
            continue
        found = per_layer(bound, core, cores[core].grad)
        for ours, theirs in zip(found, grads, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_as_many_parameters_as_peft_trains(name):
    bound, model, *_ = prepare(name)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert bound.trainable_parameters == trained


# LoHa starts as LyCORIS has it (its code, N(0, 0.1) and N(0, 1)); PEFT's start differs and says so.
@pytest.mark.parametrize("name", ["lora", "vera", "lokr"])
def test_starts_are_spread_as_those_of_peft(name):
    """The same bound, by the largest entry, and the same constants; more entries, to tell."""
    config = CASES[name][0]()
    config.r = 8
    torch.manual_seed(0)
    wide = torch.nn.Sequential()
    for part in ("first", "second"):
        wide.add_module(part, torch.nn.Linear(576, 1024, bias=False))
    layer = peft.get_peft_model(wide, config).base_model.model.first
    sizes = {"in": 576, "out": 1024}
    if name == "lokr":
        sizes = {"o1": 32, "o2": 32, "i1": 24, "i2": 24}
    bound = getattr(families, name).bind({"layer": 2, "proj": 1, **sizes}, r=8)
    start = bound.arrays(seed=0)
    for core, get in CASES[name][2].items():
        theirs = get(layer).detach().numpy()
        ours = per_layer(bound, core, start[core])[0]
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(np.abs(ours).max(), np.abs(theirs).max(), rtol=0.05)
        np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.15, atol=1e-6)
