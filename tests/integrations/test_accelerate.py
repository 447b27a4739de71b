"""``accelerate launch``, as the page on processes says it: two processes are one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("transformers", reason="needs the hf extra")
pytest.importorskip("accelerate", reason="needs the hf extra")

from safetensors.torch import load_file  # noqa: E402

from tenslora.integrations import FinetuneConfig, finetune  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning"),
    pytest.mark.skipif(sys.platform != "linux", reason="gloo is tested on Linux"),
]
ROOT = Path(__file__).parents[2]
SETTINGS = {"family": "tenslora.att", "epochs": 2, "max_rows": 21, "batch_size": 4, "lr": 0.02}
# without --multi_gpu accelerate starts one process where there is no accelerator
LAUNCH = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"


def test_two_processes_are_one(tiny_bert, tiny_task, tmp_path):
    given = {"model": str(tiny_bert), "data": str(tiny_task)}
    mine = finetune(FinetuneConfig(**given, out=str(tmp_path / "one"), **SETTINGS)).runs[0]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    more = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    port = f"--main_process_port {20_000 + os.getpid() % 10_000}"
    words = f"{LAUNCH} {port} -m tenslora finetune --out {tmp_path / 'two'} --json"
    for name, value in {**given, **SETTINGS}.items():
        words += f" --{name.replace('_', '-')} {value}"
    ended = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *words.split()],
        capture_output=True, text=True, timeout=280, env={**os.environ, **more},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    (theirs,) = json.loads(ended.stdout)["runs"]
    assert (theirs["processes"], theirs["steps"]) == (2, mine.steps)
    for a, b in zip(theirs["history"], mine.history, strict=True):
        for name in ("loss", "eval_loss"):
            assert a[name] == pytest.approx(b[name], rel=2e-4), name
    found, values = (load_file(tmp_path / n / "adapter.safetensors") for n in ("two", "one"))
    assert found.keys() == values.keys()
    for name, tensor in values.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-2, atol=2e-3)
