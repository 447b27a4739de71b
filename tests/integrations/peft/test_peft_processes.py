"""DDP, FSDP1 and FSDP2 in two processes are one process, and their checkpoints are its own."""

from __future__ import annotations

import sys
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
import peft_processes as two

sys.path.pop(0)

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform != "linux",
    reason="torch.distributed with gloo is tested on Linux",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_two):
    """What two processes left."""
    made = tmp_path_factory.mktemp("two")
    run_two(two.__file__, made)
    return made


@pytest.fixture(scope="module", params=two.FAMILIES)
def single(request):
    model = two.make(request.param)
    return model, two.train(model), list(two.FAMILIES).index(request.param)


@pytest.mark.parametrize("way", two.SPREADS)
def test_two_processes_are_one(folder, single, way):
    model, losses, number = single
    held = load_file(folder / f"{way}{number}.safetensors")
    torch.testing.assert_close(held.pop("losses"), torch.tensor(losses, dtype=torch.float64))
    expected = peft.get_peft_model_state_dict(model)
    assert held.keys() == expected.keys()
    assert sum(t.numel() for t in held.values()) == model.get_nb_trainable_parameters()[0]
    for name, value in expected.items():
        torch.testing.assert_close(held[name], value, rtol=1e-9, atol=1e-11)
