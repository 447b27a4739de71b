"""`torch.compile` and `torch.export`: whole graphs, for every number of tokens, that know when they
are out of date."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

import tenslora as tl

EQUATIONS = {
    "lora": "W[layer proj out in] = B[layer proj out r] A[layer proj r in]",
    "tucker": "W[layer proj out in] = U[in a] V[out b] P[proj c] D[layer d] G[a b c d]",
    "kronecker": "W[layer proj (o p) (i j)] = C[layer proj o i] B[layer p r] A[proj r j]",
}


#: torch takes seconds to capture a model; one case of each kind runs by default.
SLOW = pytest.mark.slow


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(12, 12) for _ in range(3))

    def forward(self, x):
        return x + (self.q(x) * self.k(x)).tanh() @ self.v(x).mT @ x


class Small(nn.Module):
    """As small as a model with layers can be: torch takes seconds to capture one."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@pytest.fixture
def attached(randomized):
    def attach(equation="tucker", **options):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model = Small().double()
        return model, attach_to(model, equation, randomized, **options)

    return attach


def attach_to(model, equation, randomized, **options):
    family = tl.family(EQUATIONS[equation], starts_nonzero=True, scale="constant(1.5)")
    adapter = tl.attach(model, family, targets=["q", "k", "v"], ranks=2, **options)
    randomized(adapter)
    return adapter


def whole(model, backend="eager", **options):
    """The model as one graph, and what counts the graphs."""
    counter = CompileCounterWithBackend(backend)
    options = {"fullgraph": True, "dynamic": True, **options}
    return torch.compile(model, backend=counter, **options), counter


def tokens(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, n, 12, generator=generator, dtype=torch.float64)


def same(found, expected, tolerance=1e-10):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def step(model, adapter, x):
    out = model(x)
    return out, torch.autograd.grad(out.square().sum(), list(adapter.parameters()))


@pytest.mark.parametrize(
    "equation",
    ["lora", pytest.param("tucker", marks=SLOW), pytest.param("kronecker", marks=SLOW)],
)
def test_one_graph_for_every_number_of_tokens(attached, equation):
    """One for the model, and one for what is hoisted."""
    model, adapter = attached(equation)
    compiled, counter = whole(model, "aot_eager")
    for n in (5, 9, 2, 20):  # also more rows than those for which eager mode runs layers at once
        x = tokens(n)
        (found, grads), (expected, wanted) = step(compiled, adapter, x), step(model, adapter, x)
        same(found, expected)
        for one, two in zip(grads, wanted, strict=True):
            same(one, two, 1e-9)
    assert counter.frame_count == 2


@pytest.mark.slow
def test_an_optimizer_step_is_seen_without_a_new_graph(attached):
    model, adapter = attached()
    compiled, counter = whole(model)
    x = tokens(4)
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.1)
    for _ in range(3):
        out = compiled(x)
        same(out, model(x))
        out.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert counter.frame_count == 2


@pytest.mark.parametrize(
    "how",
    [
        "the model",
        pytest.param("in place", marks=SLOW),
        pytest.param("each block", marks=SLOW),
    ],
)
def test_a_graph_is_made_anew_when_its_adapters_change(attached, randomized, how):
    model, adapter = attached()
    compiled = model
    adapter.detach()
    options = {"fullgraph": True, "dynamic": True, "backend": "eager"}
    if how == "the model":
        compiled = torch.compile(model, **options)
    else:
        for part in [model] if how == "in place" else model.blocks:
            part.compile(**options)
    x = tokens(3)
    seen = []

    def check():
        with torch.compiler.set_stance("force_eager"):
            expected = model(x)
        same(compiled(x), expected)
        seen.append(expected.detach())

    check()
    adapter = attach_to(model, "tucker", randomized)
    check()
    with adapter.disabled():
        check()
    adapter.merge()
    check()
    adapter.unmerge()
    check()
    adapter.detach()
    check()
    bare, on, off, merged, unmerged, detached = seen
    assert torch.equal(bare, off)
    assert torch.equal(bare, detached)
    assert torch.equal(on, unmerged)
    same(on, merged)
    assert (on - bare).abs().max() > 0.01


@pytest.mark.slow
def test_the_adapters_of_a_thread(attached):
    """Which adapters are active is asked again in each call, of the thread that calls."""
    import threading

    model, adapter = attached()
    compiled, _ = whole(model)
    x = tokens(3)
    on = compiled(x)
    found = []
    with adapter.disabled():
        thread = threading.Thread(target=lambda: found.append(compiled(x)))
        thread.start()
        thread.join()
        off = compiled(x)
    assert torch.equal(found[0], on)
    assert not torch.equal(off, on)
    assert torch.equal(compiled(x), on)


@pytest.mark.slow
def test_a_compiled_part_of_a_model_that_is_not(attached):
    """The parts read what the root has hoisted in the same forward."""
    model, adapter = attached("lora")
    x = tokens(4)
    expected = step(model, adapter, x)
    for block in model.blocks:
        block.compile(fullgraph=True, dynamic=True, backend="aot_eager")
    found = step(model, adapter, x)
    same(found[0], expected[0])
    for one, two in zip(found[1], expected[1], strict=True):
        same(one, two, 1e-9)


class Checkpointed(nn.Module):
    def __init__(self, body, reentrant):
        super().__init__()
        self.body, self.reentrant = body, reentrant

    def forward(self, x):
        for block in self.body.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant)
        return x


@pytest.mark.slow
@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
def test_checkpoints_inside_of_a_graph(attached, randomized, reentrant):
    model, adapter = attached("lora")
    x = tokens(4).requires_grad_()
    expected = step(model, adapter, x)
    adapter.detach()
    model = Checkpointed(model, reentrant)
    again = attach_to(model, "lora", randomized)
    compiled, _ = whole(model, "aot_eager")
    found = step(compiled, again, x)
    same(found[0], expected[0])
    for one, two in zip(found[1], expected[1], strict=True):
        same(one, two, 1e-9)


@pytest.mark.slow
def test_a_copy_of_a_model_is_compiled(attached):
    import copy

    model, _ = attached()
    compiled, _ = whole(copy.deepcopy(model))
    same(compiled(tokens(3)), model(tokens(3)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_of_a_graph(attached, dtype):
    model, adapter = attached("lora")
    model.float()
    compiled, counter = whole(model)
    x = tokens(4).float()
    with torch.autocast("cpu", dtype=dtype):
        found, expected = step(compiled, adapter, x), step(model, adapter, x)
    assert found[0].dtype == expected[0].dtype
    # what a narrow dtype rounds off depends on the processor: both are held to the wide one
    exact = step(model, adapter, x)[0]
    compiled_off, off = ((out.float() - exact).norm() for out in (found[0], expected[0]))
    assert compiled_off <= 1.5 * off
    assert off < 0.03 * exact.norm()
    assert counter.frame_count == 2


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor(attached):
    model, adapter = attached("lora")
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for n in (5, 9, 20):
        found, expected = step(compiled, adapter, tokens(n)), step(model, adapter, tokens(n))
        same(found[0], expected[0])
        for one, two in zip(found[1], expected[1], strict=True):
            same(one, two, 1e-9)


@pytest.mark.parametrize("strict", [False, pytest.param(True, marks=SLOW)])
def test_export(attached, strict):
    model, adapter = attached()
    many = torch.export.Dim("tokens", min=2, max=64)
    program = torch.export.export(model, (tokens(5),), dynamic_shapes=({1: many},), strict=strict)
    for n in (5, 11, 20):
        same(program.module()(tokens(n)), model(tokens(n)))
    with adapter.disabled():
        assert not torch.equal(program.module()(tokens(5)), model(tokens(5)))
