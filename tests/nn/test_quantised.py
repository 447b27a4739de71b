"""Bases quantised by bitsandbytes, on CPU: everything but merging."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tenslora as tl
from tenslora.errors import AttachError

bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")

KINDS = {
    "8 bit": lambda: bnb.nn.Linear8bitLt(64, 64, has_fp16_weights=False),
    "4 bit": lambda: bnb.nn.Linear4bit(64, 64, quant_type="nf4"),
}
SHARED = "W[layer out in] = B[layer out r] A[r in]"


@pytest.fixture(params=KINDS)
def quantised(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
        model = nn.Sequential(*(KINDS[request.param]() for _ in plain))
        model.load_state_dict(plain.state_dict())
        # eval() makes bitsandbytes pack 4 bits anew where the processor multiplies bfloat16, and
        # such a weight has no gradient for x any more
        return model.to("cpu").train(), torch.randn(3, 64)


def test_train_save_load_export(quantised, tmp_path):
    model, x = quantised
    with torch.no_grad():
        start = model(x)
    adapter = tl.attach(model, SHARED, targets="all-linear", ranks=2)
    assert torch.equal(model(x), start)
    optimizer = torch.optim.Adam(adapter.param_groups(1e-2))
    for _ in range(10):
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained = model(x).detach()
    assert trained.square().mean() < 0.5 * start.square().mean()
    first = model[0](x).detach()
    adapter.deactivate()
    update = adapter.bounds["64x64"].scale * x @ adapter.delta("0").T
    torch.testing.assert_close(first, model[0](x) + update, rtol=1e-4, atol=1e-4)
    adapter.activate()
    adapter.save(tmp_path / "a.safetensors")
    assert adapter.export_lora(tmp_path / "lora").exact_rank == 2
    with pytest.raises(AttachError, match="E513: the weight of 0 is not a plain floating-point"):
        adapter.merge()
    adapter.detach()
    assert torch.equal(model(x), start)
    tl.load(model, tmp_path / "a.safetensors")
    assert torch.equal(model(x), trained)
