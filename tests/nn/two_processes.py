"""Trains one small model in one process, or in two with DDP or FSDP2; no test itself.

``python two_processes.py FOLDER RANK`` is one of two processes. Each trains on its half of every
batch in every way of ``RUNS``, and rank 0 leaves what came out in the folder.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import tenslora as tl
from tenslora.nn.shards import is_sharded, reshard

FAMILIES = {
    "lora": tl.family(
        "W[layer proj out in] = B[layer proj out r] A[layer proj r in]", init={"B": "zeros"}
    ),
    "tucker": tl.family(
        "W[layer proj out in] = U[in a] V[out b] P[proj c] D[layer d] G[a b c d]",
        init={"G": "zeros"},
    ),
    "frozen": tl.family(
        "W[layer proj out in] = B[layer out r] A[r in] P[proj r]",
        init={"B": "zeros"},
        frozen=("A",),
    ),
    "dora": "dora(lora)",
    "hira": "hira(lora)",
}
PLAIN = ("lora", "tucker", "frozen")
STEPS, ROWS, WIDTH = 4, 8, 12


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.q(x) @ self.k(x).mT).softmax(-1) @ self.v(x)


class Model(nn.Module):
    def __init__(self, again: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(WIDTH, 3)
        self.again = again

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.again else block(x)
        return self.head(x.mean(1))


def make(family: str, again: bool = False) -> tuple[Model, tl.Adapter]:
    """The model with its adapter: the same numbers in every process."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Model(again).double()
    adapter = tl.attach(
        model, FAMILIES[family], targets=["q", "k", "v"], ranks=2, train="head", seed=3
    )
    return model, adapter


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(ROWS, 5, WIDTH, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (ROWS,), generator=generator)


def train(model: nn.Module, adapter: tl.Adapter, rank: int = 0, count: int = 1) -> list[float]:
    """Train on every ``count``-th row from ``rank`` on; return the losses of those rows."""
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.05)
    losses = []
    for step in range(STEPS):
        x, labels = batch(step)
        loss = functional.cross_entropy(model(x[rank::count]), labels[rank::count])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@dataclass(frozen=True)
class Way:
    """How a run is spread over processes: ``linears`` is FSDP2 of each layer alone."""

    family: str
    spread: str
    again: bool = False  # activation checkpointing

    @property
    def name(self) -> str:
        return f"{self.spread}-{self.family}{'-again' if self.again else ''}"


RUNS = [
    *(Way(family, spread) for spread in ("ddp", "fsdp2") for family in PLAIN),
    *(Way(family, spread) for spread in ("ddp", "linears") for family in ("dora", "hira")),
    *(Way("tucker", spread, again=True) for spread in ("ddp", "fsdp2")),
]


def spread(model: Model, way: Way) -> nn.Module:
    if way.spread == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    for block in model.blocks:
        for module in block.children() if way.spread == "linears" else [block]:
            fully_shard(module, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def attach_late() -> list[str]:
    """What is said to who attaches after sharding, or wrapping, or sharding another part."""
    found = []
    for way in ("fsdp2", "ddp", "head"):
        model: nn.Module = Model().double()
        if way == "head":
            from torch.distributed.tensor import distribute_tensor, init_device_mesh

            mesh = init_device_mesh("cpu", (2,))
            model.head.bias = nn.Parameter(distribute_tensor(model.head.bias.detach(), mesh))
        else:
            model = spread(model, Way("lora", way))
        try:
            tl.attach(model, "lora", targets=["q", "k", "v"], ranks=2)
        except tl.TensloraError as error:
            found.append(f"{error.code}: {error.what} {hasattr(model, 'tenslora')}")
    return found


def run(way: Way, folder: Path) -> dict[str, object]:
    rank, count = torch.distributed.get_rank(), torch.distributed.get_world_size()
    model, adapter = make(way.family, way.again)
    outer = spread(model, way)
    losses = train(outer, adapter, rank, count)
    mean = torch.tensor(losses, dtype=torch.float64)
    torch.distributed.all_reduce(mean)
    held = sum(p.to_local().numel() if is_sharded(p) else p.numel() for p in adapter.parameters())
    path = folder / f"{way.name}.safetensors"
    adapter.save(path, write=rank == 0)
    torch.distributed.barrier()  # the file is there
    x = batch(99)[0]
    with torch.no_grad():
        trained = outer(x)  # leaves the root of FSDP2 gathered
        adapter.save(folder / f"{way.name}-gathered.safetensors", write=rank == 0)
        reshard(model)
        for parameter in adapter.parameters():
            parameter.mul_(0.5)
        changed = outer(x)
        adapter.load(path)
        reshard(model)  # what was only written to the gathered copies would be lost here
        back = outer(x)
    absent = folder / f"{way.name}-absent.safetensors"
    adapter.save(absent, write=False)
    try:
        adapter.merge()
        merge = ""
    except tl.TensloraError as error:
        merge = str(error)
    return {
        "losses": (mean / count).tolist(),
        "held": held,
        "changed": not torch.equal(trained, changed),
        "restored": torch.equal(trained, back),
        "absent": not absent.exists(),
        "merge": merge,
    }


def main(folder: Path, rank: int) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2
    )
    found = {way.name: run(way, folder) for way in RUNS}
    found["late"] = {"errors": attach_late()}
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
