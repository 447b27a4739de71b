"""How weights are merged: exactly, part by part, for good, and in how much memory."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

import tenslora as tl
from tenslora.errors import AttachError
from tenslora.nn import exact, merge
from tenslora.nn.spans import features
from tenslora.testing.oracle import dense

LORA = tl.family(
    "W[layer proj out in] = B[layer proj out r] A[layer proj r in]", starts_nonzero=True
)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_merging_for_good_is_merging(kind, make_case, randomized):
    values = []
    for reversible in (True, False):
        case = make_case(kind)
        adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=2)
        randomized(adapter)
        parameters = dict(case.model.named_parameters())
        adapter.merge(reversible=reversible)
        assert adapter.merged
        assert not any(m._forward_hooks for n, m in case.model.named_modules() if n)
        assert all(parameters[n] is p for n, p in case.model.named_parameters())
        values.append(case.model.state_dict())
    assert values[0].keys() == values[1].keys()
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])
    with pytest.raises(AttachError, match=r"E511: adapter 'default' was merged without keeping"):
        adapter.unmerge()
    with pytest.raises(AttachError, match=r"E511.*\n  detach\(keep=True\) leaves them merged"):
        adapter.detach()
    adapter.detach(keep=True)
    assert all(torch.equal(values[0][name], p) for name, p in case.model.state_dict().items())


@pytest.mark.parametrize("what", ["update", "weight"])
def test_merging_for_good_checks_all_before_it_changes_any(what, make_case, snapshot):
    case = make_case("plain")
    case.model.half()
    adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=2)
    with torch.no_grad():
        bank = adapter.banks["12x12"]
        bank.A[1, 2], bank.B[1, 2] = 300, 300
        if what == "update":
            bank.A[1, 2, 0, 0] = float("inf")
    before = snapshot(case.model)
    text = "update of blocks.1.v" if what == "update" else "merged weight of blocks.1.v"
    with pytest.raises(AttachError, match=f"E512: the {text} is not finite"):
        adapter.merge(reversible=False)
    before.check(case.model)


def test_an_interruption_of_merging_for_good_comes_when_all_is_merged(
    make_case, randomized, monkeypatch
):
    values = []
    for interrupted in (False, True):
        case = make_case("plain")
        adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=2)
        randomized(adapter)
        made, calls = merge.merged_weight, []

        def failing(weight, pieces, value, made=made, calls=calls):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return made(weight, pieces, value)

        if interrupted:
            monkeypatch.setattr(merge, "merged_weight", failing)
            with pytest.raises(KeyboardInterrupt):
                adapter.merge(reversible=False)
        else:
            adapter.merge(reversible=False)
        assert adapter.merged
        assert not any(m._forward_hooks for n, m in case.model.named_modules() if n)
        values.append(case.model.state_dict())
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])


@pytest.mark.parametrize("scale", [0.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_is_said_not_to_overflow_does_not(scale, dtype):
    """The bound is on the safe side by no more than rank, signs and a factor of a few."""
    info = torch.finfo(dtype)
    model = nn.Sequential(nn.Linear(4, 4, bias=False, dtype=dtype))
    family = "W[out in] = B[out r] A[r in]"
    family = tl.family(family, scale=f"constant({scale})", starts_nonzero=True)
    adapter = tl.attach(model, family, targets="0", ranks=1, dtype=torch.float64)
    bank = adapter.banks["4x4"]
    step = info.max * info.eps / 8  # a quarter of what moves the greatest number
    for factor, sure in ((0.9, True), (1.1, False)):
        with torch.no_grad():
            model[0].weight.fill_(info.max)
            bank.A.fill_(1)
            bank.B.fill_(step * factor / scale)
        pieces = [(exact.ExactBank(bank, torch.device("cpu")), 0)]
        assert exact.cannot_overflow(pieces, dtype) == sure
        adapter.merge()
        assert torch.isfinite(model[0].weight).all()
        adapter.unmerge()
    with torch.no_grad():
        bank.B.fill_(8 * step / scale)
    with pytest.raises(AttachError, match="E512: the merged weight of 0"):
        adapter.merge()


def test_new_weights_have_storages_of_their_own(tmp_path):
    """Also where their memory comes in large pages."""
    model = nn.Sequential(*(nn.Linear(600, 601, bias=False) for _ in range(6)))
    adapter = tl.attach(
        model, "W[layer out in] = B[layer out r] A[layer r in]", targets="all-linear", ranks=2
    )
    with torch.no_grad():
        adapter.banks["601x600"].B.normal_()
    first = model[2].weight.detach().clone()
    adapter.merge()
    storages = {p.untyped_storage().data_ptr(): p.untyped_storage() for p in model.parameters()}
    assert len(storages) == 6
    assert all(s.nbytes() == 600 * 601 * 4 for s in storages.values())
    assert all(address % 64 == 0 for address in storages)
    file = tmp_path / "model.safetensors"
    merged = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(model.state_dict(), file)
    twin = copy.deepcopy(model)
    model.share_memory()
    twin[0].weight.data.mul_(2)
    found = load_file(file)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, merged[name])
        assert torch.equal(found[name], merged[name])
    adapter.unmerge()
    assert torch.equal(model[2].weight, first)


SPANS = [(None, None), ((100, 500), None), ((0, 660, 110, 50), (3, 843, 14, 10))]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("family", ["lora", "loha"])
@pytest.mark.parametrize(("rows", "columns"), SPANS)
def test_a_weight_of_many_parts(transposed, family, rows, columns):
    """Its entries are more than are merged at a time; a site may have blocks of both sides."""
    out, width = 700, 900
    module = Conv1D(out, width) if transposed else nn.Linear(width, out)
    model = nn.Sequential(module)
    site = tl.Site("0", {"layer": 0, "proj": "p"}, rows=rows, columns=columns)
    adapter = tl.attach(model, family, sites=[site], ranks=2)
    with torch.no_grad():
        for core in adapter.parameters():
            core.normal_(std=0.3)
    (bank,) = adapter.banks.values()
    values = {name: core.detach().double().numpy() for name, core in bank.cores().items()}
    update = bank.bound.scale * dense(bank.bound.network, values, bank.bound.sizes)
    chosen = [
        list(range(total)) if span is None else list(features(span))
        for span, total in ((rows, out), (columns, width))
    ]
    before = module.weight.detach().double().numpy()
    expected = (before.T if transposed else before).copy()
    expected[np.ix_(*chosen)] += update.reshape([len(n) for n in chosen])
    adapter.merge()
    found = module.weight.detach()
    found = (found.mT if transposed else found).numpy()
    np.testing.assert_allclose(found, expected, rtol=2**-24, atol=1e-12)
    assert (found == expected.astype(np.float32)).mean() > 0.999


#: Merges eight weights, and prints by how many of them the greatest resident memory grows.
_GROWS = """
import sys
from pathlib import Path
from torch import nn
import tenslora as tl

def peak():
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x]
    return 1024 * int(line.split()[1])

reversible = sys.argv[1] == "True"
small, model = (
    nn.Sequential(*(nn.Linear(n, n, bias=False) for _ in range(8))) for n in (512, 2048)
)
equation = "W[layer out in] = B[layer out r] A[layer r in]"
adapters = [tl.attach(m, equation, targets="all-linear", ranks=2) for m in (small, model)]
adapters[0].merge(reversible=reversible)  # brings in what is loaded late
try:
    Path("/proc/self/clear_refs").write_text("5")
except OSError:
    sys.exit("no reset")
before = peak()
adapters[1].merge(reversible=reversible)
print((peak() - before) / 2**24)
"""


@pytest.mark.parametrize(("reversible", "most"), [(True, 8.3), (False, 1.3)])
def test_how_much_memory_it_takes(reversible, most):
    """All weights a second time, or one of them; and what is small beside a weight."""
    # in a process of its own, in which what is freed goes back to the system at once
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    command = [sys.executable, "-c", _GROWS, str(reversible)]
    found = subprocess.run(command, capture_output=True, text=True, env=env)
    if found.stderr.endswith("no reset\n"):
        pytest.skip("this system does not let a process reset its high-water mark")
    found.check_returncode()
    assert 0 < float(found.stdout) < most
