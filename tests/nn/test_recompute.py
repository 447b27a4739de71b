"""``attach(recompute=True)``: equal numbers, and next to nothing kept for backward."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

import tenslora as tl
from tenslora.integrations import change_ranks
from tenslora.nn.memory import SavedTensors

LORA = "W[layer proj out in] = B[layer proj out r] A[layer proj r in]"
TUCKER = "W[layer proj out in] = U[in a] V[out b] P[proj c] D[layer d] G[a b c d]"
EQUATIONS = {"lora": LORA, "tucker": TUCKER}


class Layer(nn.Module):
    """q, k and v read what a normalisation gave."""

    def __init__(self, norm, width):
        super().__init__()
        self.norm = norm(width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x):
        h = self.norm(x)
        return x + self.q(h).sin() * self.k(h) + self.v(h)


class Normed(nn.Module):
    def __init__(self, norm, width=12, depth=2):
        super().__init__()
        self.layers = nn.ModuleList(Layer(norm, width) for _ in range(depth))

    @property
    def norms(self):
        return [layer.norm for layer in self.layers]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class TinyRMSNorm(nn.Module):
    """As models of transformers write it."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm, "own": TinyRMSNorm}


@pytest.fixture
def made(randomized):
    def make(equation="lora", norm="layer", frozen=(), width=12, **options):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Normed(NORMS[norm], width).double()
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(0.1 * torch.randn_like(p))
            x = torch.randn(2, 5, width, dtype=torch.float64)
        family = tl.family(EQUATIONS[equation], starts_nonzero=True, frozen=frozen)
        options = {"recompute": True, **options}
        adapter = tl.attach(model, family, targets=["q", "k", "v"], ranks=2, **options)
        randomized(adapter)
        return model, adapter, x

    return make


def grads(model, x, run=None, seed=4):
    x = x.clone().requires_grad_()
    wanted = [x, *tl.adapters(model)["default"].parameters()]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        value = (run or model)(x).square().sum()
    return [value.detach(), *torch.autograd.grad(value, wanted)]


def assert_equal(one, two, tolerance=1e-10):
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("equation", EQUATIONS)
def test_against_dense_weights(made, equation, norm):
    model, adapter, x = made(equation, norm)
    bare = copy.deepcopy(model)
    tl.adapters(bare)["default"].detach()
    dense = {
        f"{path}.weight": bare.get_parameter(f"{path}.weight") + adapter.delta(path)
        for path in (f"layers.{n}.{p}" for n in range(2) for p in "qkv")
    }
    assert_equal(grads(model, x), grads(model, x, lambda v: functional_call(bare, dense, (v,))))


def kept(model, x, adapter=True):
    """Bytes that are kept for backward; with the adapter off: of the frozen model."""
    x = x.clone().requires_grad_()
    own = [x, *model.parameters(), *model.buffers()]
    with tl.active(model, ["default"] if adapter else []), SavedTensors(own) as saved:
        out = model(x)
    del out
    return saved.nbytes


@pytest.mark.parametrize(
    ("norm", "frozen"), [("layer", ()), ("rms", ()), ("own", ()), ("layer", ("A",))]
)
def test_next_to_nothing_is_kept(made, norm, frozen):
    model, _, x = made("lora", norm, frozen)
    other, _, _ = made("lora", norm, frozen, recompute=False)
    floor = kept(model, x, adapter=False)
    # q and k enter a product, so they are kept with and without an adapter
    assert kept(model, x) == floor
    assert kept(other, x) > 1.05 * floor


def test_an_x_that_no_normalisation_gave_is_kept_once(made):
    model, _, x = made()
    for norm in model.norms:
        norm.register_forward_hook(lambda m, a, out: out * 1.0)
    floor = kept(model, x, adapter=False)
    assert kept(model, x) == floor + 2 * x.numel() * 8


@pytest.mark.parametrize("where", ["before", "after"])
def test_hooks_of_others_on_a_normalisation(made, where):
    found = []
    for recompute in (False, True):
        model, adapter, x = made(recompute=recompute)
        if where == "before":
            adapter.detach()
        for norm in model.norms:
            norm.register_forward_pre_hook(lambda m, a: (a[0] * 2,))
            norm.register_forward_hook(lambda m, a, out: out * 3)
        if where == "before":
            adapter = tl.attach(
                model,
                tl.family(LORA, starts_nonzero=True),
                targets=["q", "k", "v"],
                ranks=2,
                recompute=recompute,
                seed=3,
            )
        found.append(grads(model, x))
    assert_equal(*found)


def test_what_changes_after_the_normalisation(made):
    """x in place, the input in place, and a forward in between."""

    def changed(model, how):
        def run(v):
            one, two = model.layers
            h = one.norm(v * 1.0)
            if how == "before reading":
                h.mul_(2)
            out = one.q(h)
            if how == "another norm":
                return out + one.k(two.norm(out)) + one.v(h)
            return out + one.v(h)

        return run

    for how in ("before reading", "another norm"):
        found = []
        for recompute in (False, True):
            model, _, x = made(recompute=recompute)
            model.forward = changed(model, how)
            found.append(grads(model, x))
        assert_equal(*found)


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("frozen", [False, True])
def test_second_derivatives(made, equation, frozen):
    """Also by the x that a layer reads."""
    second = []
    for recompute in (False, True):
        name = ("A" if equation == "lora" else "U",) if frozen else ()
        model, adapter, x = made(equation, frozen=name, recompute=recompute)
        x = x.clone().requires_grad_()
        read = []
        model.norms[1].register_forward_hook(lambda m, a, out, read=read: read.append(out))
        value = model(x).sin().sum()
        wanted = [x, read[0], *adapter.parameters()]
        first = torch.autograd.grad(value, wanted, create_graph=True)
        total = sum(g.square().sum() for g in first)
        read.clear()
        second.append(torch.autograd.grad(total, wanted))
    assert_equal(*second, tolerance=1e-8)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
def test_checkpointing_and_dropout(made, dropout, reentrant):
    def segments(model):
        def run(x):
            for n in range(2):
                x = checkpoint(model.layers[n], x, use_reentrant=reentrant)
            return x

        return run

    model, adapter, x = made("tucker", dropout=dropout if not reentrant else 0.0)
    other, _, _ = made("tucker", dropout=dropout if not reentrant else 0.0, recompute=False)
    expected = grads(other, x)
    assert_equal(grads(model, x), expected)
    model.forward = segments(model)
    found = []
    for _ in range(2):
        adapter.module.zero_grad()
        v = x.clone().requires_grad_()
        with torch.random.fork_rng():
            torch.manual_seed(4)
            value = model(v).square().sum()
        value.backward()
        found.append([value.detach(), v.grad, *(p.grad for p in adapter.parameters())])
    assert_equal(found[0], expected)
    assert_equal(found[1], expected)


def test_autocast(made):
    found = []
    for recompute in (False, True):
        model, adapter, x = made(recompute=recompute)
        model.float()
        v = x.float().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = model(v).float().square().sum()
        found.append([value.detach(), *torch.autograd.grad(value, [v, *adapter.parameters()])])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=0.02, atol=0.02 * two.abs().max().item())


def test_nothing_is_left_on_the_model(made, snapshot):
    model, adapter, _ = made()
    assert all(norm._forward_hooks for norm in model.norms)
    adapter.detach()
    assert not any(norm._forward_hooks for norm in model.norms)
    before = snapshot(model)
    with pytest.raises(tl.TensloraError):
        tl.attach(model, LORA, targets=["q", "none"], ranks=2, recompute=True)
    before.check(model)
    adapter = tl.attach(model, LORA, targets=["q"], ranks=2, recompute=True)
    adapter.merge()
    assert not any(norm._forward_hooks for norm in model.norms)
    adapter.unmerge()
    assert all(norm._forward_hooks for norm in model.norms)


def test_an_adapter_of_other_ranks_recomputes_too(made):
    _, adapter, _ = made()
    change_ranks(adapter, 1)
    assert all(bank.recompute for bank in adapter.banks.values())


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "vit"])
def test_models_of_transformers(kind, make_case, randomized):
    found = []
    for recompute in (False, True):
        case = make_case(kind)
        family = tl.family(TUCKER, starts_nonzero=True)
        adapter = tl.attach(case.model, family, targets=case.targets, ranks=2, recompute=recompute)
        randomized(adapter)
        value = case.run().square().sum()
        found.append([value.detach(), *torch.autograd.grad(value, list(adapter.parameters()))])
    assert_equal(*found)


def test_a_segment_that_ends_with_the_normalisation(made):
    """What the segment has saved is computed again for its own backward, and for that alone."""
    found = []
    for use in (False, True):
        model, _, x = made(recompute=use)
        one, two = model.layers

        def run(v, one=one, two=two, use=use):
            def segment(u):
                return two.norm(one(u))

            h = checkpoint(segment, v, use_reentrant=False) if use else segment(v)
            return two.q(h) * two.k(h)

        model.forward = run
        found.append(grads(model, x))
    assert_equal(*found)


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize(("load", "file"), [(tl.load, "a.safetensors"), (tl.load_lora, "lora")])
def test_a_loaded_adapter_recomputes_where_it_is_asked(made, tmp_path, load, file, norm):
    """A file says nothing of it."""
    model, adapter, x = made("lora", norm)
    floor = kept(model, x, adapter=False)
    adapter.save(tmp_path / "a.safetensors")
    adapter.export_lora(tmp_path / "lora", pad=False, rank=2)
    adapter.detach()
    found, nbytes = {}, {}
    for recompute in (False, True):
        again = load(model, tmp_path / file, recompute=recompute)
        assert {bank.recompute for bank in again.banks.values()} == {recompute}
        found[recompute], nbytes[recompute] = grads(model, x), kept(model, x)
        again.detach()
    assert nbytes[True] == floor < nbytes[False]
    assert_equal(found[True], found[False])
    load(model, tmp_path / file)
    assert kept(model, x) == nbytes[False]


@pytest.mark.parametrize("bank", ["tuner", "first_layer"])
def test_an_adapter_of_peft_recomputes_where_it_is_asked(tmp_path, bank):
    peft = pytest.importorskip("peft")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = Normed(nn.LayerNorm).double()
        x = torch.randn(2, 5, 12, dtype=torch.float64)

    def wrapped(recompute):
        config = tl.TensLoraConfig(
            family=LORA, ranks=2, target_modules=["q", "k", "v"], init_weights=False,
            bank=bank, recompute=recompute,
        )  # fmt: skip
        return peft.get_peft_model(copy.deepcopy(base), config, autocast_adapter_dtype=False)

    def run(model):
        value = x.clone().requires_grad_()
        with SavedTensors([value, *model.parameters(), *model.buffers()]) as saved:
            loss = model(value).square().sum()
        trained = [p for p in model.parameters() if p.requires_grad]
        return saved.nbytes, [loss.detach(), *torch.autograd.grad(loss, [value, *trained])]

    floor, _ = run(base.requires_grad_(False))
    model, other = wrapped(True), wrapped(False)
    (less, found), (more, wanted) = run(model), run(other)
    assert less < more
    assert less <= floor + 8  # the loss
    assert_equal(found, wanted)
    assert run(copy.deepcopy(model))[0] == less
    model.save_pretrained(tmp_path)
    assert "recompute" not in json.loads((tmp_path / "adapter_config.json").read_text())
    config = tl.TensLoraConfig.from_pretrained(tmp_path)
    for recompute, nbytes in ((False, more), (True, less)):
        config.recompute = recompute
        options = {"config": config, "is_trainable": True, "autocast_adapter_dtype": False}
        again = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path, **options)
        assert run(again)[0] == nbytes
    bare = model.unload()
    assert not any(norm._forward_hooks for norm in bare.norms)
