"""LoHa and LoKr against LyCORIS, the code of their authors, the same weights copied in."""

from __future__ import annotations

import numpy as np
import pytest

from tenslora import backends, families

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("lycoris", reason="LyCORIS is not installed")

from lycoris.modules.loha import LohaModule  # noqa: E402
from lycoris.modules.lokr import LokrModule  # noqa: E402

IN, OUT, RANK, ALPHA = 24, 40, 3, 6
#: family -> their module, our sizes, where they keep each core
CASES = {
    "loha": (
        LohaModule,
        {"in": IN, "out": OUT, "r": RANK, "s": RANK},
        {"B1": "hada_w1_a", "A1": "hada_w1_b", "B2": "hada_w2_a", "A2": "hada_w2_b"},
    ),
    "lokr": (
        LokrModule,
        {"o1": 5, "o2": 8, "i1": 4, "i2": 6, "r": RANK},
        {"C": "lokr_w1", "B": "lokr_w2_a", "A": "lokr_w2_b"},
    ),
}


def prepare(name):
    kind, sizes, where = CASES[name]
    bound = getattr(families, name).bind({"layer": 1, "proj": 1, **sizes}, alpha=ALPHA)
    torch.manual_seed(0)
    base = torch.nn.Linear(IN, OUT, bias=False)
    module = kind("adapter", base, 1.0, RANK, ALPHA).double()
    module.apply_to()
    return bound, base.double(), module, where


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients(name):
    bound, base, module, where = prepare(name)
    rng = np.random.default_rng(0)
    cores = {
        n: torch.tensor(rng.standard_normal(s), requires_grad=True) for n, s in bound.shapes.items()
    }
    for core, attribute in where.items():
        theirs = getattr(module, attribute)
        assert theirs.shape == cores[core].shape[2:]
        theirs.data.copy_(cores[core][0, 0])
    x = torch.tensor(rng.standard_normal((7, IN)), requires_grad=True)
    run = backends.executable(bound.plan(), backends.get("torch"))
    ours = x @ base.weight.detach().T + bound.scale * run.apply_stacked(cores, x)[0, 0]
    ours.sin().sum().backward()
    gradient, x.grad = x.grad, None
    theirs = base(x)
    theirs.sin().sum().backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-5)  # they keep alpha / r in float32
    torch.testing.assert_close(gradient, x.grad, rtol=1e-6, atol=1e-4)
    for core, attribute in where.items():
        found, wanted = cores[core].grad[0, 0], getattr(module, attribute).grad
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_starts_and_counts(name):
    bound, _, module, where = prepare(name)
    assert bound.trainable_parameters == sum(p.numel() for p in module.parameters())
    zero = {core for core, attribute in where.items() if not getattr(module, attribute).any()}
    ours = {core for core, rule in bound.family.init.items() if rule.is_zero}
    if name == "loha":  # of LoKr, each code chooses another core to be zero
        assert zero == ours
