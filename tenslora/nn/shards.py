"""Tensors that lie in pieces on several processes: read whole, and written from the whole.

FSDP2 (``torch.distributed.fsdp.fully_shard``) makes every parameter a ``DTensor``, of which each
process holds a part. Such a tensor has ``full_tensor``; any other one is whole already.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["is_sharded", "put", "reshard", "whole", "written_class"]


def is_sharded(tensor: Tensor) -> bool:
    """Whether processes hold a part of it each.

    >>> is_sharded(torch.ones(2))
    False
    """
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Return the tensor with all its entries, not differentiable.

    Of a sharded one the parts are gathered: every process that holds one has to call this, and in
    the same order where there are several tensors.
    """
    tensor = tensor.detach()
    held: Any = tensor
    return held.full_tensor() if is_sharded(tensor) else tensor


@torch.no_grad()
def put(target: Tensor, value: Tensor) -> None:
    """Write a whole ``value`` into ``target``; of a sharded one each process takes its own part.

    Nothing is sent: every process has to have the same ``value``.
    """
    if not is_sharded(target):
        target.copy_(value)
        return
    from torch.distributed.tensor import distribute_tensor

    held: Any = target
    value = value.to(target.dtype).to(held.device_mesh.device_type)
    held.copy_(distribute_tensor(value, held.device_mesh, held.placements, src_data_rank=None))


def reshard(model: nn.Module) -> None:
    """Let every module of FSDP2 hold its parts again, and not the whole that a forward gathered.

    The root stays gathered after a forward that no backward followed. What is written to its
    parameters then is lost at the next step, and their memory is freed by the next ``state_dict``,
    whoever still holds them.
    """
    for module in model.modules():
        held: Any = module
        if hasattr(module, "set_reshard_after_forward"):
            held.reshard()


def written_class(model: nn.Module) -> type:
    """Return the class that somebody wrote: FSDP2 puts one of its own, ``FSDPName``, before it.

    >>> written_class(nn.Linear(2, 2)).__name__
    'Linear'
    """
    kinds = type(model).__mro__
    names = [kind.__name__ for kind in kinds]
    return kinds[names.index("FSDPModule") + 1] if "FSDPModule" in names else kinds[0]
