"""``tenslora inspect`` on a run's folder, a file, and a LoRA of PEFT's form."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import tenslora as tl
from tenslora.integrations.runs import Run

HISTORY = [
    {"epoch": 1, "loss": 0.7, "eval_loss": 0.6, "score": 0.75},
    {"epoch": 2, "loss": 0.4, "eval_loss": 0.5, "score": 0.875},
]


@pytest.fixture
def folder(tmp_path):
    """A run's folder: an adapter and the report beside it."""
    model = nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(8, 8) for _ in range(3))})
    family = tl.family(
        "W[layer (head head_dim) in] = B[head head_dim layer r] A[r in]", init={"B": "zeros"}
    )
    adapter = tl.attach(model, family, targets="all-linear", ranks=2, sizes={"head": 2})
    with torch.no_grad():
        for n, core in enumerate(adapter.parameters()):
            core.copy_(torch.sin(torch.arange(1.0, core.numel() + 1) + n).reshape(core.shape))
    out = tmp_path / "run"
    out.mkdir()
    adapter.save(out / "adapter.safetensors")
    adapter.export_lora(tmp_path / "lora", rank=1, pad=False)
    run = Run("questions", "mine", 0, "accuracy", history=HISTORY, file="adapter.safetensors")
    (out / "report.json").write_text(json.dumps({"runs": [run.to_dict()]}))
    return out


#: The norms by numpy: B (head, head_dim, layer, r) = sin(1 ... 48), A (r, in) = sin(2 ... 17).
GOLDEN = """\
norm of the update
layer  layers
0        5.13 █
1        5.16 █
2        5.51 █

norm by head of layers, in % of its largest
layer    0    1
0       99   80
1       80  100
2      100   94
"""


def test_the_text_of_a_run(cli, folder):
    outcome = cli("inspect", str(folder))
    assert (outcome.code, outcome.err) == (0, "")
    assert GOLDEN.splitlines() == outcome.out.splitlines()[2:13]
    assert "\nhead_dim     4             4 " in outcome.out
    assert outcome.out.endswith(
        "training on questions with mine\n"
        "seed  epoch  loss  on evaluation  accuracy\n"
        "0         1   0.7            0.6      .750\n"
        "0         2   0.4            0.5      .875\n"
    )


def test_the_object_says_the_same(cli, folder):
    data = cli("inspect", str(folder / "adapter.safetensors"), "--json").data
    assert data["norms"]["values"][0][0] == pytest.approx(5.129594, abs=1e-5)
    assert data["runs"][0]["history"] == HISTORY
    assert data["files"] == []


def test_pictures_of_everything(cli, folder, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the plot extra")
    out, lora = tmp_path / "pictures", str(tmp_path / "lora")
    outcome = cli("inspect", str(folder), "--against", lora, "--out", str(out))
    names = ["norms", "heads", "spectra", "comparison", "spectra-compared", "curves"]
    assert outcome.out == "".join(
        f"picture: {out / name}.{ending}\n" for name in names for ending in ("png", "svg")
    )
    for name in names:
        assert (out / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert "<svg" in (out / f"{name}.svg").read_text()
    first = {path: path.read_bytes() for path in out.glob("*.svg")}
    again = cli("inspect", str(folder), "--against", lora, "--out", str(out), "--text")
    assert "change of 3 weights together" in again.out
    assert first == {path: path.read_bytes() for path in out.glob("*.svg")}


def test_a_lora_of_peft_is_shown_without_its_base(cli, folder, tmp_path):
    outcome = cli("inspect", str(tmp_path / "lora"), "--heads", "2")
    assert outcome.out.startswith("lora: 3 weights, 48 parameters\n")
    assert "norm by head" in outcome.out
    assert "training on" not in outcome.out


def test_mistakes_are_one_line(refused, folder, tmp_path):
    assert "E610" in refused("inspect", str(tmp_path / "none.safetensors"))
    assert "E213" in refused("inspect", str(folder), "--heads", "3")
    (folder / "report.json").write_text('{"runs": 3}')
    assert "E716" in refused("inspect", str(folder))
