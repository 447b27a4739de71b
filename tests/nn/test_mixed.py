"""Updates that are added in place under autocast, with dropout, and to a base of a narrower dtype.

Each is held to the equation as a dense weight, and to the same adapter run by plain operations.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import tenslora as tl

EQUATIONS = {
    "lora": "W[layer proj out in] = B[layer proj out r] A[layer proj r in]",
    "tucker": "W[layer proj out in] = U[in a] V[out b] P[proj c] D[layer d] G[a b c d]",
}
BF16 = 2.0**-8


@pytest.fixture(autouse=True)
def every_row_counts(monkeypatch):
    """Have so few rows too added by what is tested here, not by plain operations."""
    monkeypatch.setattr("tenslora.nn.reading.FEW", 0)


@pytest.fixture
def attached(make_case, randomized):
    def attach(equation="lora", dtype=torch.float32, **options):
        case = make_case("plain")
        case.model.to(dtype)
        family = tl.family(EQUATIONS[equation], starts_nonzero=True, scale="constant(1.5)")
        adapter = tl.attach(case.model, family, targets=["q", "k", "v"], ranks=2, **options)
        randomized(adapter)
        case.model.train()
        return case.model, adapter, case.inputs["x"].to(dtype)

    return attach


def plainly(adapter):
    """A copy of the model whose updates are run by plain operations alone."""
    model = copy.deepcopy(adapter.model)
    for hook in tl.adapters(model)["default"].hooks.values():
        hook.member = None
    return model


def step(model, x, cast=None, run=None):
    """The output and the gradients of the cores and of x, from the same random numbers."""
    x = x.clone().requires_grad_()
    parameters = list(tl.adapters(model)["default"].parameters())
    with torch.random.fork_rng():
        torch.manual_seed(3)
        with torch.autocast("cpu", dtype=cast or torch.bfloat16, enabled=cast is not None):
            out = (run or model)(x)
        loss = (out.float() if out.element_size() < 4 else out).sin().sum()
        loss.backward()
    found = [out.detach(), x.grad, *(p.grad for p in parameters)]
    for p in parameters:
        p.grad = None
    return found


def distance(one, two):
    return ((one.double() - two.double()).norm() / two.double().norm()).item()


class Calls(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names, self.shapes = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.names.append(function._overloadpacket.__name__)
        self.shapes.append(tuple(out.shape) if isinstance(out, torch.Tensor) else None)
        return out


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("base", [torch.float32, torch.bfloat16], ids=["on f32", "on bf16"])
def test_autocast(attached, equation, cast, base):
    model, adapter, x = attached(equation, base)
    found = step(model, x, cast)
    for one, two in zip(found, step(plainly(adapter), x, cast), strict=True):
        assert one.dtype is two.dtype
        assert distance(one, two) < 4 * BF16
    exact = step(plainly(adapter).double(), x.double())
    for one, two in zip(found, exact, strict=True):
        assert distance(one, two) < 8 * BF16


@pytest.mark.parametrize("base", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_cores_wider_than_the_base(attached, base):
    """The update and the gradients of the cores are as exact as the cores."""
    model, adapter, x = attached("tucker", base)
    found, plain = step(model, x), step(plainly(adapter), x)
    eps = torch.finfo(base).eps
    assert distance(found[0], plain[0]) < eps / 2
    assert distance(found[1], plain[1]) < 2 * eps
    with torch.no_grad():  # the same chain of rounded numbers, but for those of two layers
        assert torch.equal(model(x), found[0])
    for one, two in zip(found[2:], plain[2:], strict=True):
        assert one.dtype is torch.float32
        assert distance(one, two) < 2 * eps


def masks(monkeypatch):
    """Have every mask written down."""
    known, dropout = [], nn.functional.dropout

    def noting(x, p, training):
        mask = dropout(torch.ones_like(x), p, training)
        known.append(mask)
        return x * mask

    monkeypatch.setattr("tenslora.nn.reading.functional.dropout", noting)
    return known


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("few", [0, 32])
def test_dropout_against_the_formula(attached, equation, few, monkeypatch):
    """``y = W x + b + scale * dW (x * mask)``, one mask for q, k and v of a layer."""
    monkeypatch.setattr("tenslora.nn.reading.FEW", few)
    model, adapter, x = attached(equation, torch.float64, dropout=0.4)
    base = copy.deepcopy(model)
    tl.adapters(base)["default"].detach()
    known = masks(monkeypatch)
    x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
    found = model(x1)
    assert len(known) == 2
    h = x2
    for n, block in enumerate(base.blocks):
        outs = []
        for p in "qkv":
            delta = adapter.delta(f"blocks.{n}.{p}")
            outs.append(getattr(block, p)(h) + (h * known[n].view_as(h)) @ delta.mT)
        scores = (outs[0] @ outs[1].mT).softmax(-1)
        h = h + block.o(scores @ outs[2])
    expected = base.head(h)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    wanted = list(adapter.parameters())
    for one, two in zip(
        torch.autograd.grad(found.sin().sum(), [x1, *wanted]),
        torch.autograd.grad(expected.sin().sum(), [x2, *wanted]),
        strict=True,
    ):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_dropout_is_that_of_plain_operations(attached, equation):
    """The same random numbers in the same order, and the same second derivatives."""
    model, adapter, x = attached(equation, torch.float64, dropout=0.4)
    other = plainly(adapter)
    for one, two in zip(step(model, x), step(other, x), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)
    second = []
    for m in (model, other):
        v = x.clone().requires_grad_()
        parameters = list(tl.adapters(m)["default"].parameters())
        with torch.random.fork_rng():
            torch.manual_seed(1)
            value = m(v).sin().sum()
        grads = torch.autograd.grad(value, [v, *parameters], create_graph=True)
        total = sum(g.square().sum() for g in grads)
        second.append(torch.autograd.grad(total, [v, *parameters]))
    for one, two in zip(*second, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("base", "cast", "operation"),
    [
        (torch.float32, None, "addmm_"),
        (torch.float32, torch.bfloat16, "addmm_"),
        (torch.bfloat16, None, "add_"),
    ],
    ids=["plain", "autocast", "narrow base"],
)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_x_is_read_once_and_the_update_added_in_place(attached, base, cast, operation, dropout):
    model, _, x = attached("tucker", base, dropout=dropout)
    x = x.clone().requires_grad_()
    with Calls() as calls, torch.autocast("cpu", dtype=torch.bfloat16, enabled=cast is not None):
        model(x)
    products = [s for n, s in zip(calls.names, calls.shapes, strict=True) if n == "mm"]
    assert products.count((10, 2)) == 2  # one thin product a layer; A of this family lies tall
    assert calls.names.count(operation) == 6


def test_a_weight_is_cast_once_under_autocast(attached):
    """In the forward, by the layer: backward takes what it has kept."""
    model, _, x = attached()
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x)
    with Calls() as calls:
        out.float().sum().backward()
    cast = [s for n, s in zip(calls.names, calls.shapes, strict=True) if n == "_to_copy"]
    assert (2, 5, 12) in cast
    assert (12, 12) not in cast


@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
@pytest.mark.parametrize("cast", [None, torch.bfloat16], ids=["plain", "autocast"])
def test_checkpointing(attached, reentrant, cast):
    model, _, x = attached("tucker", dropout=0.3 if not reentrant else 0.0)

    def segments(x):
        for block in model.blocks:
            x = checkpoint(block, x, use_reentrant=reentrant)
        return model.head(x)

    forward = model.forward
    expected = step(model, x, cast)
    model.forward = segments
    found = step(model, x, cast)
    model.forward = forward
    for one, two in zip(found, expected, strict=True):
        assert distance(one, two) < (2 * BF16 if cast else 1e-6)


def test_autocast_inside_a_forward_without_gradients(attached):
    """What is hoisted is kept, but not what was cast: the cores may change."""
    model, adapter, x = attached("lora")
    forward = model.forward

    def cast(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return forward(x)

    model.forward = cast
    with torch.no_grad():
        before = model(x)
        assert torch.equal(model(x), before)
        for p in adapter.parameters():
            p.data.mul_(2)
        after = model(x)
        model.forward = forward
        exact = plainly(adapter).double()(x.double())
    assert distance(after, exact) < 4 * BF16
    assert distance(before, exact) > 8 * BF16


def test_banks_that_drop_differently_are_not_run_together(make_case, randomized):
    case = make_case("llama")
    family = tl.family(EQUATIONS["lora"], starts_nonzero=True)
    adapter = tl.attach(case.model, family, targets=case.targets, ranks=2)
    randomized(adapter)
    case.model.train()
    expected = case.run()
    one, *_ = adapter.banks.values()
    one.dropout = 0.5
    assert not torch.allclose(case.run(), expected)
    case.model.eval()
    torch.testing.assert_close(case.run(), expected)


@pytest.mark.parametrize("where", ["backward", "some layers"])
def test_a_step_in_autocast_around_layers_in_float32(where):
    """Backward runs in autocast where the layers did not: its products stay in float32."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16, enabled=False):
                q, k = self.q(x), self.k(x)
            return q * k + self.v(x).float()

    model = Attention()
    equation = "W[proj out in] = B[proj out r] A[proj r in]"
    family = tl.family(equation, starts_nonzero=True)
    adapter = tl.attach(model, family, targets=["q", "k", "v"], ranks=4)
    with torch.no_grad():
        for core in adapter.parameters():
            core.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(50, 16, generator=torch.Generator().manual_seed(1), requires_grad=True)
    gradients = []
    for inside in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=where == "some layers"):
            loss = model(x).square().mean()
            if inside and where == "some layers":
                loss.backward()
        if not (inside and where == "some layers"):
            with torch.autocast("cpu", torch.bfloat16, enabled=inside):
                loss.backward()
        gradients.append([x.grad, *(core.grad for core in adapter.parameters())])
        for held in (x, *adapter.parameters()):
            held.grad = None
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=2e-2, atol=1e-3)
