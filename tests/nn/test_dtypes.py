"""Mixed precision, autocast, dropout, the meta device, compiled models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tenslora as tl

TUCKER = tl.family(
    "W[layer proj out in] = U[in a] V[out b] P[proj c] D[layer d] G[a b c d]", starts_nonzero=True
)
LORA = tl.family(
    "W[layer proj out in] = B[layer proj out r] A[layer proj r in]", starts_nonzero=True
)


def attach(case, randomized, family=TUCKER, **options):
    adapter = tl.attach(case.model, family, targets=case.targets, ranks=2, **options)
    randomized(adapter)
    return adapter


@pytest.mark.parametrize("base", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_cores_are_float32_or_wider(base, make_case, randomized):
    case = make_case("plain")
    case.model.to(base)
    adapter = attach(case, randomized)
    expected = torch.float64 if base is torch.float64 else torch.float32
    assert {p.dtype for p in adapter.parameters()} == {expected}
    out = case.model(case.inputs["x"].to(base))
    assert out.dtype == base
    out.float().sum().backward()
    assert {p.grad.dtype for p in adapter.parameters()} == {expected}


def test_the_sum_is_rounded_once_to_the_bases_dtype(make_case, randomized):
    case = make_case("plain")
    case.model.bfloat16()
    adapter = attach(case, randomized)
    module = case.model.blocks[1].k
    x = case.inputs["x"].bfloat16()
    with adapter.disabled():
        base = module(x)
    update = x.float() @ adapter.delta("blocks.1.k").T
    expected = (base.float() + update).bfloat16()
    found = module(x)
    assert found.dtype is torch.bfloat16
    # another order of summation may fall on the other side of a rounding border
    assert (found == expected).float().mean() > 0.98
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=2**-9)


def test_cores_of_a_narrower_dtype_when_asked(make_case, randomized):
    case = make_case("plain")
    case.model.float()
    adapter = attach(case, randomized, dtype=torch.bfloat16)
    out = case.model(case.inputs["x"].float())
    assert out.dtype is torch.float32
    out.sum().backward()
    assert {p.grad.dtype for p in adapter.parameters()} == {torch.bfloat16}


def test_casting_the_model_casts_the_cores(make_case, randomized):
    case = make_case("plain")
    case.model.float()
    adapter = attach(case, randomized)
    case.model.bfloat16()
    assert {p.dtype for p in adapter.parameters()} == {torch.bfloat16}
    assert case.model(case.inputs["x"].bfloat16()).dtype is torch.bfloat16


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_autocast(where, make_case, randomized):
    case = make_case("plain")
    case.model.float()
    adapter = attach(case, randomized)
    x = case.inputs["x"].float()
    exact = case.model(x)
    if where == "inside":  # as accelerate does it: around the forward, not around the call
        forward = case.model.forward

        def cast(x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return forward(x)

        case.model.forward = cast
        out = case.model(x)
    else:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = case.model(x)
    assert out.dtype is torch.bfloat16
    assert not torch.equal(out.float(), exact)
    torch.testing.assert_close(out.float(), exact, rtol=0.1, atol=0.1 * exact.abs().max().item())
    out.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype is torch.float32 for p in adapter.parameters())


def test_dropout_is_for_training_alone(make_case, randomized):
    case = make_case("plain")
    attach(case, randomized, dropout=0.5)
    state = torch.get_rng_state()
    one, two = case.run(), case.run()
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), state)
    case.model.train()
    assert not torch.equal(case.run(), case.run())
    case.model.eval()
    assert torch.equal(case.run(), one)


def test_the_familys_dropout_is_the_default(make_case):
    family = tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"}, dropout={"input": 0.3})
    adapter = tl.attach(make_case("plain").model, family, targets="q", ranks=1)
    assert adapter.banks["12x12"].dropout == 0.3
    adapter = tl.attach(make_case("plain").model, family, targets="q", ranks=1, dropout=0)
    assert adapter.banks["12x12"].dropout == 0.0


def test_one_mask_for_query_key_and_value(make_case, randomized, monkeypatch):
    case = make_case("plain")
    attach(case, randomized, dropout=0.5)
    masks = []
    dropout = nn.functional.dropout

    def counting(x, p, training):
        masks.append(dropout(x, p, training))
        return masks[-1]

    monkeypatch.setattr("tenslora.nn.bank.functional.dropout", counting)
    case.model.train()
    case.run()
    assert len(masks) == 2  # one for each layer
    assert {torch.equal(m, torch.zeros_like(m)) for m in masks} == {False}


def test_dropout_keeps_the_mean_and_has_the_right_gradient(make_case, randomized):
    """The update of a dropped input is the update of x times mask / (1 - p)."""
    case = make_case("plain")
    adapter = attach(case, randomized, dropout=0.25)
    module = case.model.blocks[0].q
    x = torch.ones(1, 12, dtype=torch.float64)
    update = adapter.delta("blocks.0.q")
    with adapter.disabled():
        base = module(x)
    case.model.train()
    torch.manual_seed(0)
    found = torch.cat([module(x) - base for _ in range(4000)])
    mean = update.sum(1)
    spread = (update.square().sum(1) * 0.25 / 0.75).sqrt()
    assert ((found.mean(0) - mean).abs() < 5 * spread / 4000**0.5).all()
    torch.testing.assert_close(found.std(0), spread, rtol=0.1, atol=0)


def test_a_base_on_the_meta_device():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    equation = "W[layer out in] = B[layer out r] A[layer r in]"
    adapter = tl.attach(model, equation, targets="all-linear", ranks=2)
    assert adapter.trainable_parameters == 64
    assert all(p.is_meta for p in adapter.parameters())
    assert model(torch.empty(3, 8, device="meta")).shape == (3, 8)
    with pytest.raises(tl.TensloraError, match=r"E513: .* is on the meta device"):
        adapter.merge()
    with pytest.raises(tl.TensloraError, match=r"E613: .* is on the meta device"):
        adapter.save("never.safetensors")
    adapter.detach()
    adapter = tl.attach(model, equation, targets="all-linear", ranks=2, device="cpu", seed=4)
    other = tl.attach(
        nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)),
        equation,
        targets="all-linear",
        ranks=2,
        seed=4,
    )
    for one, two in zip(adapter.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_loading_on_a_base_on_the_meta_device(tmp_path):
    equation = "W[layer out in] = B[layer out r] A[layer r in]"
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    adapter = tl.attach(model, equation, targets="all-linear", ranks=2)
    adapter.save(tmp_path / "a.safetensors")
    with torch.device("meta"):
        empty = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    again = tl.load(empty, tmp_path / "a.safetensors")
    assert torch.equal(next(again.parameters()), next(adapter.parameters()))


@pytest.mark.parametrize("grad", [True, False])
def test_a_compiled_model_gives_the_same(grad, make_case, randomized):
    case = make_case("plain")
    adapter = attach(case, randomized)
    with torch.set_grad_enabled(grad):
        expected = case.run()
    compiled = torch.compile(case.model, backend="eager")
    try:
        with torch.set_grad_enabled(grad):
            found = compiled(**case.inputs)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
        if grad:
            expected.sum().backward()
            first = [p.grad.clone() for p in adapter.parameters()]
            adapter.banks["12x12"].zero_grad()
            found.sum().backward()
            for one, p in zip(first, adapter.parameters(), strict=True):
                torch.testing.assert_close(one, p.grad, rtol=1e-10, atol=1e-12)
        with adapter.disabled(), torch.set_grad_enabled(grad):
            off = case.run()
            torch.testing.assert_close(compiled(**case.inputs), off, rtol=0, atol=1e-10)
    finally:
        torch._dynamo.reset()
