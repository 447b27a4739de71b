"""Updates that are added in place, with a backward of their own, against dense weights.

The reference adds the equation's einsum to the weights of a bare model and leaves the rest to
autograd. It knows nothing of groups, of sharing, or of plans.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, jvp, vmap
from torch.utils._python_dispatch import TorchDispatchMode

import tenslora as tl

EQUATIONS = {
    "lora": "W[layer proj out in] = B[layer proj out r] A[layer proj r in]",
    "tucker": "W[layer proj out in] = U[in a] V[out b] P[proj c] D[layer d] G[a b c d]",
    "cp": "W[layer proj out in] = U[in r] V[out r] P[proj r] D[layer r]",
    "depth": "W[layer proj out in] = U[proj in a] V[proj out b] D[proj layer c] G[proj a b c]",
    "heads": "W[layer proj (head head_dim) in] = U[in a] V[head_dim b] H[proj head c] G[a b c]",
    "tied": "W[out in] = B[out r] A[r in]",
    "turned": "W[proj layer out in] = B[proj layer out r] A[proj layer r in]",
    "counted": "W[site out in] = B[site out r] A[site r in]",
    "sum": "W[layer proj out in] = B[layer out r] A[r in] + C[proj out s] E[proj s in]",
    "hadamard": "W[layer proj out in] = B[layer out r] A[r in] C[proj out s] E[proj s in]",
    "kronecker": "W[layer proj (o p) (i j)] = C[layer proj o i] B[layer p r] A[proj r j]",
}


@pytest.fixture(autouse=True, params=["at once", "one by one"])
def every_row_counts(monkeypatch, request):
    """Have so few rows too added by what is tested here, not by plain operations.

    Both ways are tested: the layers of a group in one function, and each with its own.
    """
    monkeypatch.setattr("tenslora.nn.reading.FEW", 0)
    if request.param == "one by one":
        monkeypatch.setattr("tenslora.nn.team._PATIENCE", 0)


class Dense(nn.Module):
    """A bare model whose weights are the base plus the equation, from cores as arguments."""

    def __init__(self, case, adapter, base, literal):
        super().__init__()
        self.adapter, self.base, self.literal = adapter, base, literal

    def weights(self, cores):
        found = {}
        for key, bank in self.adapter.banks.items():
            bound = bank.bound
            w = self.literal(bound.network, bound.sizes, cores[key], torch)
            for site, place in zip(bank.sites, bank.grid.positions, strict=True):
                update = w[tuple(place[s] for s in bound.network.sites)]
                name = f"{site.path}.weight"
                found[name] = self.base.get_parameter(name) + bound.scale * update
        return found

    def forward(self, x, cores):
        return functional_call(self.base, self.weights(cores), (x,))


@pytest.fixture
def pair(make_case, randomized, literal):
    """A model with an adapter, and its reference."""

    def make(equation, targets=("q", "k", "v"), frozen=(), kind="plain"):
        case = make_case(kind)
        base = copy.deepcopy(case.model).requires_grad_(False)
        family = tl.family(equation, starts_nonzero=True, frozen=frozen, scale="constant(1.5)")
        options = {"sizes": {"head": 3}} if "head" in family.network.indices else {}
        adapter = tl.attach(case.model, family, targets=list(targets), ranks=2, **options)
        randomized(adapter)
        return case, adapter, Dense(case, adapter, base, literal)

    return make


def cores_of(adapter):
    return {key: bank.cores() for key, bank in adapter.banks.items()}


def compare(adapter, dense, run, inputs, wrt_input=True):
    """``run(f)`` gives a scalar from f(x): the same value and the same gradients by both."""
    x = inputs.clone().requires_grad_(wrt_input)
    wanted = [*adapter.parameters(), *([x] if wrt_input else [])]
    cores = cores_of(adapter)
    found, expected = run(lambda: adapter.model(x)), run(lambda: dense(x, cores))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for one, two in zip(
        torch.autograd.grad(found, wanted, allow_unused=True, materialize_grads=True),
        torch.autograd.grad(expected, wanted, allow_unused=True, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


def loss(out):
    return (out().sin() * torch.arange(1.0, 4.0, dtype=torch.float64)).sum()


TARGETS = {"all": "qkvo", "three": "qkv", "two": "qv", "one": "k", "apart": "qo"}


@pytest.mark.parametrize("equation", EQUATIONS.values(), ids=list(EQUATIONS))
@pytest.mark.parametrize("targets", TARGETS.values(), ids=list(TARGETS))
def test_value_and_gradients(pair, equation, targets):
    case, adapter, dense = pair(equation, targets)
    compare(adapter, dense, loss, case.inputs["x"])
    compare(adapter, dense, loss, case.inputs["x"], wrt_input=False)


@pytest.mark.parametrize("frozen", ["U", "V", "UV", "PDG"])
def test_frozen_cores(pair, frozen):
    case, adapter, dense = pair(EQUATIONS["tucker"], frozen=tuple(frozen))
    compare(adapter, dense, loss, case.inputs["x"])


class Mixed(nn.Module):
    """Queries, and keys and values of another tensor that is wider: only its width tells."""

    def __init__(self):
        super().__init__()
        self.xattn = nn.ModuleDict({"to_q": nn.Linear(8, 6)})
        self.xattn["to_k"], self.xattn["to_v"] = nn.Linear(12, 6), nn.Linear(12, 6)

    def forward(self, x):
        y = torch.cat([x, x[..., :4].cos()], -1)
        layers = self.xattn
        return layers["to_q"](x).sin() + layers["to_k"](y).cos() * layers["to_v"](y)


@pytest.mark.parametrize("grad", [True, False])
def test_widths_tell_what_reads_another_tensor(grad):
    torch.manual_seed(0)
    model = Mixed().double()
    equation = "W[proj out in] = B[proj out r] A[proj r in]"
    family = tl.family(equation, starts_nonzero=True)
    adapter = tl.attach(
        model, family, targets=["to_q", "to_k", "to_v"], ranks=2, dtype=torch.float64
    )
    x = torch.randn(5, 8, dtype=torch.float64)
    with torch.set_grad_enabled(grad):
        found = model(x)
    adapter.merge()
    torch.testing.assert_close(found, model(x), rtol=1e-9, atol=1e-11)


class Some(nn.Module):
    """Uses some of the projections, in another order, on inputs that differ."""

    def __init__(self, body, how):
        super().__init__()
        self.body, self.how = body, how

    def forward(self, x):
        b = self.body.blocks[0]
        if self.how == "unused":
            b.k(x)
            return b.q(x) + b.v(x.detach())
        if self.how == "others between":
            return b.q(x) * b.k(x * 2) + b.v(x)
        if self.how == "twice":
            return b.q(x) + b.q(x).square() + b.v(b.k(x))
        if self.how == "views":
            y = b.v(x[:, :3]).sum(1, keepdim=True)
            return b.q(x.transpose(0, 1)).transpose(0, 1) * y + b.k(x[0])
        raise AssertionError(self.how)


@pytest.mark.parametrize("how", ["unused", "others between", "twice", "views"])
def test_projections_called_in_any_way(make_case, randomized, literal, how):
    case = make_case("plain")
    model = Some(case.model, how)
    base = copy.deepcopy(model).requires_grad_(False)
    family = tl.family(EQUATIONS["lora"], starts_nonzero=True)
    adapter = tl.attach(model, family, targets=["q", "k", "v"], ranks=2)
    randomized(adapter)
    compare(adapter, Dense(case, adapter, base, literal), loss_of_any, case.inputs["x"])


def loss_of_any(out):
    return out().sin().sum()


def test_a_module_whose_output_is_not_needed_by_everyone(pair):
    """Backward through q alone, then through v alone, of one reading."""
    case, adapter, dense = pair(EQUATIONS["lora"])
    block = {True: adapter.model.blocks[0], False: None}[True]
    x = case.inputs["x"].clone().requires_grad_()
    kept = []
    hooks = [
        getattr(block, p).register_forward_hook(lambda m, a, out: kept.append(out)) for p in "qkv"
    ]
    adapter.model(x)
    w = dense.weights(cores_of(adapter))
    params = [*adapter.parameters(), x]
    for n, p in ((0, "q"), (2, "v"), (0, "q")):
        found = torch.autograd.grad(kept[n].sin().sum(), params, retain_graph=True)
        bias = dense.base.get_parameter(f"blocks.0.{p}.bias")
        y = nn.functional.linear(x, w[f"blocks.0.{p}.weight"], bias)
        expected = torch.autograd.grad(y.sin().sum(), params, retain_graph=True)
        for one, two in zip(found, expected, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("equation", ["lora", "tucker", "depth", "sum", "kronecker"])
def test_second_derivatives(pair, equation):
    case, adapter, dense = pair(EQUATIONS[equation])

    def run(out):
        first = loss(out)
        grads = torch.autograd.grad(first, list(adapter.parameters()), create_graph=True)
        return first + sum((g.square() * 0.1).sum() for g in grads)

    compare(adapter, dense, run, case.inputs["x"])


def test_second_derivatives_of_the_input_alone(pair):
    case, adapter, dense = pair(EQUATIONS["tucker"], frozen=("U",))
    x = case.inputs["x"].clone().requires_grad_()
    cores = cores_of(adapter)
    found = []
    for f in (lambda: adapter.model(x), lambda: dense(x, cores)):
        (g,) = torch.autograd.grad(loss(f), x, create_graph=True)
        found.append(torch.autograd.grad(g.square().sum(), [x, *adapter.parameters()]))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-10)


def test_gradients_of_many_cotangents_at_once(pair):
    case, adapter, _ = pair(EQUATIONS["lora"])
    params = list(adapter.parameters())
    out = adapter.model(case.inputs["x"]).flatten()
    rows = torch.eye(out.numel(), dtype=out.dtype)
    together = torch.autograd.grad(out, params, rows, retain_graph=True, is_grads_batched=True)
    for n, row in enumerate(rows[:4]):
        one = torch.autograd.grad(out, params, row, retain_graph=True)
        for a, b in zip(one, together, strict=True):
            torch.testing.assert_close(a, b[n], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("equation", ["lora", "tucker", "kronecker"])
def test_transforms_of_torch_func(pair, equation):
    case, adapter, dense = pair(EQUATIONS[equation])
    cores, x = cores_of(adapter), case.inputs["x"]
    t = x.cos()
    _, found = jvp(adapter.model, (x,), (t,))
    _, expected = jvp(lambda v: dense(v, cores), (x,), (t,))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    many = torch.stack([x, 2 * x, t])
    found, expected = vmap(adapter.model)(many), torch.stack([adapter.model(v) for v in many])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    params = {n: p for n, p in adapter.model.named_parameters() if p.requires_grad}

    def value(p, v):
        return functional_call(adapter.model, p, (v,)).square().sum()

    grads = vmap(torch.func.grad(value), (None, 0))(params, many)
    for n, v in enumerate(many):
        one = torch.autograd.grad(value(params, v), list(params.values()))
        for name, g in zip(params, one, strict=True):
            torch.testing.assert_close(grads[name][n], g, rtol=1e-9, atol=1e-11)


def test_forward_mode(pair):
    case, adapter, dense = pair(EQUATIONS["tucker"])
    x, cores = case.inputs["x"], cores_of(adapter)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x.cos())
        found = torch.autograd.forward_ad.unpack_dual(adapter.model(dual)).tangent
    _, expected = jvp(lambda v: dense(v, cores), (x,), (x.cos(),))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_hooks_of_others(pair):
    """A hook that saw the frozen output keeps what it saw; one that changes x or y still does."""
    case, adapter, dense = pair(EQUATIONS["lora"])
    seen = []
    for model in (case.model, dense.base):
        block = model.blocks[0]
        block.v.register_forward_pre_hook(lambda m, args: (args[0] * 2,))
        block.k.register_forward_hook(lambda m, a, out: out * 3)
        block.q.register_full_backward_hook(lambda m, gi, go: seen.append(go[0].clone()))
    compare(adapter, dense, loss, case.inputs["x"])
    assert len(seen) == 2
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-10, atol=1e-12)


def test_a_hook_before_ours_sees_the_frozen_output(make_case, randomized):
    case = make_case("plain")
    seen = []
    case.model.blocks[0].q.register_forward_hook(lambda m, a, out: seen.append(out))
    module = case.model.blocks[0].q
    expected = nn.functional.linear(case.inputs["x"], module.weight, module.bias)
    family = tl.family(EQUATIONS["lora"], starts_nonzero=True)
    adapter = tl.attach(case.model, family, targets=["q"], ranks=2)
    randomized(adapter)
    case.run()
    assert torch.equal(seen[-1], expected)


def test_a_bias_or_a_weight_that_is_trained_too(pair):
    case, adapter, dense = pair(EQUATIONS["lora"])
    mine, theirs = case.model.blocks[0], dense.base.blocks[0]
    grads = []
    for block in (mine, theirs):
        block.q.bias.requires_grad_(True)
        block.v.bias.requires_grad_(True)
    cores = cores_of(adapter)
    for f, block in ((adapter.model, mine), (lambda x: dense(x, cores), theirs)):
        value = loss(lambda f=f: f(case.inputs["x"]))
        grads.append(
            torch.autograd.grad(value, [block.q.bias, block.v.bias, *adapter.parameters()])
        )
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_two_passes_over_one_graph_and_one_that_breaks_off(pair):
    case, adapter, _ = pair(EQUATIONS["tucker"])
    params = list(adapter.parameters())
    x = case.inputs["x"].clone().requires_grad_()
    out = adapter.model(x)
    first = torch.autograd.grad(out.sum(), params, retain_graph=True)
    state = {"broken": True}

    def breaking(grad):
        if state["broken"]:
            raise RuntimeError("broken off")

    x.register_hook(breaking)
    with pytest.raises(RuntimeError, match="broken off"):
        torch.autograd.grad(out.sum(), [x, *params], retain_graph=True)
    state["broken"] = False
    torch.autograd.grad(out.sum(), x, retain_graph=True)
    second = torch.autograd.grad(out.sum(), params)
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one, two)


class Products(TorchDispatchMode):
    """The shapes of the results of matrix products."""

    def __init__(self):
        super().__init__()
        self.shapes, self.names = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.names.append(function._overloadpacket.__name__)
        if self.names[-1] in ("mm", "addmm", "addmm_"):
            self.shapes.append(tuple(out.shape))
        return out


def test_the_frozen_products_are_not_done_twice_and_x_is_read_once(pair):
    case, adapter, _ = pair(EQUATIONS["tucker"])
    x = case.inputs["x"].clone().requires_grad_()
    with Products() as forward:
        out = adapter.model(x)
    assert forward.shapes.count((10, 2)) == 2  # one thin product a layer; A lies tall
    with Products() as backward:
        out.sum().backward()
    # in each of 2 layers q, k, v and the update, and o; and the head's
    assert backward.shapes.count((10, 12)) == 2 * (3 + 1) + 2 + 1
    assert backward.shapes.count((2, 12)) == 2 * (3 + 1)  # each B, and A
    assert "stack" not in backward.names


def test_no_more_is_saved_than_the_gradients_are_made_of(pair):
    """A frozen A: x is not kept. A trained one: x once for q, k and v."""
    kept = {}
    for frozen in ((), ("U",)):
        case, adapter, _ = pair(EQUATIONS["tucker"], frozen=frozen)
        x = case.inputs["x"].clone()
        block = adapter.model.blocks[0]
        found = {}

        def pack(tensor, found=found):
            found[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            outputs = [getattr(block, p)(x) for p in "qkv"]
        own = {p.untyped_storage().data_ptr() for p in adapter.model.parameters()}
        tokens = [t for ptr, t in found.items() if ptr not in own and 10 in t.shape]
        kept[frozen] = sum(t.untyped_storage().nbytes() for t in tokens) // 8
        is_kept = x.untyped_storage().data_ptr() in found
        assert is_kept == (frozen == ())
        del outputs
    # outside the root's forward nothing is shared: each layer has its own 2 x 10
    assert kept[("U",)] == 3 * 20


def test_inference_has_no_graph_and_is_equal(pair):
    case, adapter, dense = pair(EQUATIONS["lora"])
    expected = dense(case.inputs["x"], cores_of(adapter))
    with torch.no_grad():
        out = case.run()
    assert not out.requires_grad
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
    with torch.inference_mode():
        torch.testing.assert_close(case.run(), expected, rtol=1e-10, atol=1e-12)


def test_fused_layers_and_grouped_heads(make_case, randomized, add_dense, literal):
    for kind in ("gpt2", "llama"):
        case = make_case(kind)
        base = copy.deepcopy(case.model)
        family = tl.family(EQUATIONS["lora"], starts_nonzero=True)
        adapter = tl.attach(case.model, family, targets=case.targets, ranks=2)
        randomized(adapter)

        def dense(n, m, case=case, adapter=adapter):
            name, _, part = case.projs[m].partition(":")
            whole = adapter.delta(f"{case.layers[n]}.{name}").detach()
            third = whole.shape[0] // 3
            rows = slice(None) if not part else slice(int(part) * third, (int(part) + 1) * third)
            return whole[rows].numpy()

        expected = case.run(add_dense(case, base, dense))
        torch.testing.assert_close(case.run(), expected, rtol=1e-9, atol=1e-11)
