"""``tenslora spectrum`` on an adapter's file."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tenslora as tl


@pytest.fixture
def file(tmp_path):
    model = nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(8, 8) for _ in range(3))})
    lora = tl.family("W[layer out in] = B[layer out r] A[layer r in]", init={"B": "zeros"})
    adapter = tl.attach(model, lora, targets="all-linear", ranks=2)
    with torch.no_grad():
        for n, parameter in enumerate(adapter.parameters()):
            parameter.copy_(torch.sin(torch.arange(48.0) + n).reshape(parameter.shape))
    path = tmp_path / "adapter.safetensors"
    adapter.save(path)
    return str(path)


def test_the_table_and_the_object_say_the_same(cli, file):
    words = ("spectrum", file, "--families", "lora", "lorta", "--energies", "0.9", "0.999999")
    text, data = cli(*words), cli(*words, "--json").data
    assert text.code == 0
    assert "weights of 8x8" in text.out
    row = data["needed"]["families"]["lora"]
    assert row[1]["ranks"] == [{"r": 2}]
    assert row[1]["parameters"] == 3 * 2 * (8 + 8)
    assert f"{row[0]['parameters']:,}" in text.out
    assert "heads" in data["needed"]["left_out"]["lorta"] or "heads" in text.out
    assert data["spectra"][0]["modes"]["layer"]["size"] == 3


def test_the_picture(cli, file, tmp_path):
    outcome = cli("spectrum", file, "--families", "lora", "--plot", str(tmp_path / "s.png"))
    assert outcome.err == f"picture: {tmp_path / 's.png'}\n"
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"


def test_mistakes_are_one_line(refused, tmp_path):
    assert "E610" in refused("spectrum", str(tmp_path / "none.safetensors"))


def test_an_energy_of_two_is_refused(refused, file):
    assert "E905" in refused("spectrum", file, "--energies", "2")
