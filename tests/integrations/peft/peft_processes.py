"""Trains a PEFT model in one process, or in two with DDP, FSDP1 or FSDP2; no test itself.

``python peft_processes.py FOLDER RANK`` is one of two processes. Each trains on its half of every
batch, and rank 0 leaves losses and cores in the folder.
"""

from __future__ import annotations

import itertools
import sys
from datetime import timedelta
from pathlib import Path

import peft
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

import tenslora as tl

SPREADS = ("ddp", "fsdp1", "fsdp2")
EXPERTS = "W[layer proj expert out in] = B[layer proj expert out r] A[layer proj r in]"
#: Families, one without a wrapper, with the sizes that the model does not tell.
FAMILIES = {
    "tenslora.att_qkv_depth": {"head": 3},
    "dora(lora)": None,
    f"router[expert]({EXPERTS})": {"expert": 3},
}
STEPS, ROWS, WIDTH = 3, 8, 12


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.q(x) @ self.k(x).mT).softmax(-1) @ self.v(x)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def make(family: str) -> peft.PeftModel:
    """The model with its adapter: the same numbers in every process."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Model().double()
    config = tl.TensLoraConfig(
        family=family,
        ranks=2,
        sizes=FAMILIES[family],
        target_modules=["q", "k", "v"],
        modules_to_save=["head"],
    )
    return peft.get_peft_model(model, config)


def train(model: nn.Module, rank: int = 0, count: int = 1) -> list[float]:
    """Train on every ``count``-th row from ``rank`` on; return the losses of those rows."""
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.05)
    losses = []
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(ROWS, 5, WIDTH, generator=generator, dtype=torch.float64)
        labels = torch.randint(3, (ROWS,), generator=generator)
        loss = functional.cross_entropy(model(x[rank::count]), labels[rank::count])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def spread(model: peft.PeftModel, way: str) -> nn.Module:
    if way == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    if way == "fsdp1":
        from torch.distributed.fsdp import FullyShardedDataParallel
        from torch.distributed.fsdp.wrap import ModuleWrapPolicy

        return FullyShardedDataParallel(
            model,
            auto_wrap_policy=ModuleWrapPolicy({Block}),
            use_orig_params=True,
            device_id=torch.device("cpu"),
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    for module in list(model.modules()):
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def whole(model: nn.Module, way: str) -> dict[str, Tensor]:
    """The state of the adapter in full, as a checkpoint has it."""
    if way == "ddp":
        return peft.get_peft_model_state_dict(model.module)
    if way == "fsdp1":
        from torch.distributed.fsdp import FullyShardedDataParallel as Fsdp

        with Fsdp.summon_full_params(model, writeback=False):
            found = peft.get_peft_model_state_dict(model.module, save_embedding_layers=False)
            return {name: value.detach().clone() for name, value in found.items()}
    found = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    return {n: t.full_tensor() if hasattr(t, "full_tensor") else t for n, t in found.items()}


def main(folder: Path, rank: int) -> None:
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    for family, way in itertools.product(FAMILIES, SPREADS):
        model = spread(make(family), way)
        losses = torch.tensor(train(model, rank, 2), dtype=torch.float64)
        torch.distributed.all_reduce(losses)
        state = whole(model, way)
        if rank == 0:
            state = {name: value.detach().contiguous().clone() for name, value in state.items()}
            number = list(FAMILIES).index(family)
            save_file({**state, "losses": losses / 2}, folder / f"{way}{number}.safetensors")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
