"""DDP and FSDP2 in two processes are one process: losses, values, checkpoints."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import tenslora as tl

sys.path.insert(0, str(Path(__file__).parent))
import two_processes as two

sys.path.pop(0)

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform != "linux",
    reason="torch.distributed with gloo is tested on Linux",
)
WAYS = pytest.mark.parametrize("way", two.RUNS, ids=lambda way: way.name)


@pytest.fixture(scope="module")
def spread(tmp_path_factory, run_two):
    """What two processes found, and the folder with their files."""
    folder = tmp_path_factory.mktemp("two")
    run_two(two.__file__, folder)
    found = [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2)]
    return folder, found


@pytest.fixture(scope="module")
def single():
    """The run of one process for each family, once."""
    made = {}

    def run(family):
        if family not in made:
            model, adapter = two.make(family)
            made[family] = model, adapter, two.train(model, adapter)
        return made[family]

    return run


@WAYS
def test_two_processes_are_one(way, spread, single):
    folder, found = spread
    _, adapter, losses = single(way.family)
    assert len({round(loss, 3) for loss in losses}) == two.STEPS  # something was trained
    for one in found:
        assert one[way.name]["losses"] == pytest.approx(losses, rel=1e-10)
    adapter.save(folder / "one.safetensors")
    mine, theirs = (load_file(folder / f"{n}.safetensors") for n in ("one", way.name))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-8, atol=1e-9)


@WAYS
def test_each_process_of_fsdp2_holds_a_part(way, spread, single):
    whole = sum(p.numel() for p in single(way.family)[1].parameters())
    held = [one[way.name]["held"] for one in spread[1]]
    assert held == [whole, whole] if way.spread == "ddp" else sum(held) == whole > max(held)


@WAYS
def test_the_file_is_that_of_one_process(way, spread, single):
    folder, _ = spread
    records = []
    single(way.family)[1].save(folder / "one.safetensors")
    for name in ("one", way.name, f"{way.name}-gathered"):
        with safe_open(folder / f"{name}.safetensors", "pt") as file:
            records.append(json.loads(file.metadata()["tenslora"]))
    assert records[1] == records[2]  # digests too: a forward between two saves changes nothing
    for record in records:
        record.pop("digests")
    assert records[0] == records[1]


@WAYS
def test_the_file_is_read_by_one_process(way, spread, single):
    folder, _ = spread
    model, adapter = two.make(way.family)
    adapter.detach()
    tl.load(model, folder / f"{way.name}.safetensors")
    x = two.batch(99)[0]
    torch.testing.assert_close(model(x), single(way.family)[0](x), rtol=1e-8, atol=1e-8)


@WAYS
def test_the_file_is_read_by_two_processes(way, spread):
    for one in spread[1]:
        assert one[way.name]["changed"]
        assert one[way.name]["restored"]


@WAYS
def test_only_the_process_that_writes_has_written(way, spread):
    assert [one[way.name]["absent"] for one in spread[1]] == [True, True]


@WAYS
def test_weights_in_parts_are_not_merged(way, spread):
    for one in spread[1]:
        said = one[way.name]["merge"]
        if way.spread == "ddp":
            assert said == ""
        else:
            assert said.startswith("E513: the weight of blocks.0.q lies in parts on several proc")


def test_a_model_is_sharded_with_its_adapter_not_before(spread):
    for one in spread[1]:
        assert one["late"]["errors"] == [
            "E522: the model is in FSDPModule False",
            "E522: the model is in DistributedDataParallel False",
            "E522: head.bias lies in parts on several processes False",
        ]


def test_nothing_is_written_by_a_process_that_only_takes_part(tmp_path):
    _, adapter = two.make("lora")
    adapter.save(tmp_path / "a.safetensors", write=False)
    assert list(tmp_path.iterdir()) == []
