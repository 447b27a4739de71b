"""A process that saves is killed at many moments: the file is the old one or the new one, whole."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="the torch half is tested where torch is installed")

#: A child saves 1, 2, 3, ... in the cores until it is killed; the parent reads what is there.
SCRIPT = """
import os, random, signal, sys, time
from pathlib import Path
import torch, tenslora as tl

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
path = folder / "adapter.safetensors"

def model():
    return torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.Linear(512, 512))

def attached():
    equation = "W[layer out in] = B[layer out r] A[layer r in]"
    return tl.attach(model(), equation, targets="all-linear", ranks=64)

def set_all(adapter, value):
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.fill_(value)

adapter = attached()
set_all(adapter, 0)
adapter.save(path)
moments, last, halfway, written = random.Random(0), 0, 0, 0

def die_at(stage):
    # The process kills itself before (even) or after (odd) a step of the writing.
    steps = [(os, "fsync"), (Path, "replace"), (os, "open"), (Path, "unlink")]
    owner, name = steps[stage // 2]
    step = getattr(owner, name)
    def dying(*args, **options):
        if stage % 2:
            step(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, dying)

for number in range(kills):
    child = os.fork()
    if child == 0:
        if number < 8:
            die_at(number)
        while True:
            last += 1
            set_all(adapter, last)
            adapter.save(path)
    time.sleep(0.2 if number < 8 else 0.002 + 0.06 * moments.random())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = tl.load(model(), path)  # every digest is checked
    values = {float(v) for p in found.parameters() for v in p.unique()}
    assert len(values) == 1, values
    value = values.pop()
    assert value >= last, (value, last)
    written += value > last
    last = int(value)
    left = list(folder.glob(".*.tmp"))
    halfway += bool(left)
    for file in left:
        file.unlink()
    assert [p.name for p in folder.iterdir()] == [path.name]
print(halfway, written)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    halfway, written = map(int, done.stdout.split())
    assert halfway >= 1, "no kill hit the writing itself"
    assert written >= 1, "no save was finished"
