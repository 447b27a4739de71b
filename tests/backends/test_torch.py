"""Emitted programs under torch: autograd, autocast and torch.compile."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from tenslora import backends  # noqa: E402
from tenslora.plan import make_plan  # noqa: E402
from tenslora.spec import core_shape, parse  # noqa: E402

TEXT = "W[layer proj (head k) in] = U[in a] V[k b] H[head c] P[proj d] D[layer e] G[a b c d e]"
SIZES = {"layer": 2, "proj": 3, "head": 2, "k": 3, "in": 5, "a": 3, "b": 2, "c": 2, "d": 2, "e": 2}


def made(dtype=torch.float64):
    network = parse(TEXT)
    rng = np.random.default_rng(0)
    cores = {
        n: torch.tensor(rng.standard_normal(core_shape(c, SIZES)), dtype=dtype).requires_grad_()
        for n, c in network.cores.items()
    }
    plan = make_plan(network, SIZES, shared=["proj"])
    return backends.executable(plan, backends.get("torch")), cores


def test_infer():
    assert backends.infer(torch.zeros(2)).name == "torch"
    assert backends.infer(torch.nn.Parameter(torch.zeros(2))).name == "torch"


def test_gradients_are_finite_differences():
    run, cores = made()
    x = torch.linspace(-1, 1, 10, dtype=torch.float64).reshape(2, 5).requires_grad_()

    def call(x, *values):
        return run.apply_stacked(dict(zip(cores, values, strict=True)), x)

    assert torch.autograd.gradcheck(call, (x, *cores.values()))


def test_second_derivatives():
    run, cores = made()
    x = torch.ones(2, 5, dtype=torch.float64)
    loss = run.apply_stacked(cores, x).pow(2).sum()
    (first,) = torch.autograd.grad(loss, cores["U"], create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), cores["G"])
    assert second.shape == cores["G"].shape
    assert second.abs().max() > 0


def test_autocast_gives_bfloat16_and_gradients_in_float32():
    run, cores = made(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = run.apply(cores, torch.ones(2, 5), {"layer": 0, "proj": 1})
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert cores["U"].grad.dtype == torch.float32


def test_compiles_to_one_graph():
    run, cores = made(torch.float32)

    def call(cores, x):
        return run.apply(cores, x, {"layer": 1, "proj": 0})

    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="eager")
    for rows in (1, 4, 7):
        x = torch.ones(rows, 5)
        torch.testing.assert_close(compiled(cores, x), call(cores, x))
