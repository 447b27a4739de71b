"""Training in two processes, tried on the architectures of the table.

``python -m tenslora.testing.spreading FOLDER RANK NAME...`` is one of the two. It trains an adapter
on its row of a batch of two, with DDP and with FSDP2, and then on both rows alone: losses and cores
have to be those of one process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, nn

import tenslora
from tenslora.errors import TensloraError
from tenslora.nn.shards import shard, whole
from tenslora.testing.architectures import ARCHITECTURES, Architecture
from tenslora.testing.bench import Bench

__all__ = ["WAYS", "spread_outcomes"]

#: How a model is spread over processes, by the name of its column.
WAYS = ("DDP", "FSDP2")

_STEPS, _PROCESSES = 3, 2


def spread_outcomes(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Try both ways on architectures, named as in the table: ``yes``, or the code of an error.

    Raises
    ------
    RuntimeError
        A process failed: the numbers are not those of one process, or the model did not run.
    ValueError
        A name that is not in the table.
    """
    for name in names:
        if name not in {architecture.name for architecture in ARCHITECTURES}:
            raise ValueError(f"no architecture is called {name!r}")
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        running = [
            subprocess.Popen(  # noqa: S603 - this module, by this Python
                [sys.executable, "-m", __name__, folder, str(rank), *names],
                stderr=subprocess.PIPE,
                env=env,
                text=True,
            )
            for rank in range(_PROCESSES)
        ]
        said = [process.communicate()[1] for process in running]
        if any(process.returncode for process in running):
            raise RuntimeError("\n".join(said))
        found: dict[str, dict[str, str]] = json.loads(Path(folder, "found.json").read_text("utf-8"))
    return found


def _train(
    outer: nn.Module, bench: Bench, adapter: tenslora.Adapter, rows: list[int]
) -> tuple[Tensor, list[Tensor]]:
    """Take a few steps on some rows of the batch; return the losses, and the cores in full."""
    inputs = {name: value[rows] for name, value in bench.architecture.inputs().items()}
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.01)
    losses = []
    for _ in range(_STEPS):
        out = outer(**inputs)
        out = out if isinstance(out, Tensor) else out[0]
        weights = torch.arange(out[0].numel(), dtype=out.dtype).cos()
        loss = (out.flatten(1) @ weights).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses), [whole(core).detach().clone() for core in adapter.parameters()]


def _spread(model: nn.Module, way: str, adapter: tenslora.Adapter) -> nn.Module:
    if way == "DDP":
        return nn.parallel.DistributedDataParallel(model)
    shard(model, [site.path for bank in adapter.banks.values() for site in bank.sites], "cpu")
    return model


def _try(architecture: Architecture, way: str, rank: int) -> str:
    bench, alone = Bench(architecture), Bench(architecture)
    try:
        adapter = bench.attach()
        outer = _spread(bench.model, way, adapter)
        losses, cores = _train(outer, bench, adapter, [rank])
    except TensloraError as error:
        return error.code
    torch.distributed.all_reduce(losses)
    one = alone.attach()
    start = [core.detach().clone() for core in one.parameters()]
    expected, values = _train(alone.model, alone, one, list(range(_PROCESSES)))
    torch.testing.assert_close(losses / _PROCESSES, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(cores, values, rtol=1e-6, atol=1e-8)
    if any(torch.equal(before, after) for before, after in zip(start, values, strict=True)):
        raise AssertionError("a core was not trained")
    return "yes"


def main(folder: Path, rank: int, names: Sequence[str]) -> None:
    """Be one of the processes; the first one leaves what was found in the folder."""
    known = {architecture.name: architecture for architecture in ARCHITECTURES}
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=_PROCESSES,
        timeout=timedelta(seconds=120),
    )
    found = {name: {way: _try(known[name], way, rank) for way in WAYS} for name in names}
    if rank == 0:
        (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
