"""Weights that lie in large pages after merging go wherever weights that were loaded go."""

from __future__ import annotations

import copy
import io
import pickle
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import tenslora as tl

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="large pages are asked for on Linux"
)

#: So many weights of this size want more than a page of 2 MB.
SIZE, COUNT = 400, 6


def make_model():
    model = nn.Sequential(*(nn.Linear(SIZE, SIZE, bias=False) for _ in range(COUNT)))
    return model.requires_grad_(False)


@pytest.fixture
def merged():
    model = make_model()
    equation = "W[layer out in] = B[layer out r] A[layer r in]"
    adapter = tl.attach(model, equation, targets="all-linear", ranks=2)
    with torch.no_grad():
        next(iter(adapter.banks.values())).B.normal_(std=0.1)
    adapter.merge()
    adapter.detach(keep=True)
    assert not model[1].weight.untyped_storage().resizable()  # it is there that they lie
    return model


def same(model, values):
    return all(torch.equal(model.state_dict()[name], value) for name, value in values.items())


def copies(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_what_is_loaded_cannot_be_resized_either(tmp_path):
    """Of all that can be asked of a weight, these pages refuse one thing; so do files."""
    held = make_model().state_dict()
    save_file(held, tmp_path / "w.safetensors")
    torch.save(held, tmp_path / "w.pt")
    for loaded in (load_file(tmp_path / "w.safetensors"), torch.load(tmp_path / "w.pt")):
        assert not any(t.untyped_storage().resizable() for t in loaded.values())


def test_copied_saved_and_pickled(merged, tmp_path):
    values = copies(merged)
    assert same(copy.deepcopy(merged), values)
    assert same(pickle.loads(pickle.dumps(merged)), values)
    held = io.BytesIO()
    torch.save(merged.state_dict(), held)
    held.seek(0)
    assert all(torch.equal(values[name], t) for name, t in torch.load(held).items())
    save_file(merged.state_dict(), tmp_path / "w.safetensors")
    assert all(
        torch.equal(values[name], t) for name, t in load_file(tmp_path / "w.safetensors").items()
    )


def test_shared_cast_emptied_and_changed(merged):
    values = copies(merged)
    half = copy.deepcopy(merged).to(torch.bfloat16)
    assert same(half, {name: value.bfloat16() for name, value in values.items()})
    merged.share_memory()
    assert merged[0].weight.is_shared()
    assert same(merged, values)
    merged[0].weight.data.mul_(2)
    values["0.weight"] *= 2
    assert same(merged, values)
    merged[1].weight.data = torch.empty(0)  # as offloading does
    merged[1].weight.data = values["1.weight"]
    assert same(merged, values)
    assert merged.to_empty(device="meta")[2].weight.is_meta


@pytest.fixture
def process_group(tmp_path):
    dist = torch.distributed
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def step(run, model):
    """Train all weights by one step; the loss of the next forward tells what became of them."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.linspace(-1, 1, 3 * SIZE).view(3, SIZE)
    run(x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    return run(x).detach().square().mean()


@pytest.mark.parametrize("kind", ["fsdp2", "fsdp1", "ddp"])
def test_on_several_processes(merged, process_group, kind):
    """FSDP frees and fills storages: those of its own."""
    from torch.distributed import fsdp
    from torch.distributed.device_mesh import init_device_mesh

    merged.requires_grad_(True)
    alone = copy.deepcopy(merged)
    expected = step(alone, alone)
    if kind == "fsdp2":
        mesh = init_device_mesh("cpu", (1,))
        for layer in merged:
            fsdp.fully_shard(layer, mesh=mesh)
        run = fsdp.fully_shard(merged, mesh=mesh)
    elif kind == "fsdp1":
        cpu = torch.device("cpu")
        run = fsdp.FullyShardedDataParallel(merged, device_id=cpu, use_orig_params=True)
    else:
        run = nn.parallel.DistributedDataParallel(merged)
    torch.testing.assert_close(step(run, run), expected)
