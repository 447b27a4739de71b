"""Tensors that lie in parts on several processes: cut, read whole, and written from the whole.

FSDP2 (``torch.distributed.fsdp.fully_shard``) makes every parameter a ``DTensor``, of which each
process holds a part. Such a tensor has ``full_tensor``; any other one is whole already.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tenslora.errors import AttachError

__all__ = [
    "check_together",
    "is_sharded",
    "layers_of",
    "put",
    "reshard",
    "shard",
    "whole",
    "written_class",
]

#: Modules that spread what is in them over processes.
_SPREAD = {"DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"}

_LAYER = re.compile(r"(.*?\.\d+)\.")


def layers_of(paths: Iterable[str]) -> list[str]:
    """Return the layers in which modules or parameters lie: the outermost that have a number.

    >>> layers_of(["encoder.layer.0.query", "encoder.layer.0.value", "encoder.layer.1.query", "fc"])
    ['encoder.layer.0', 'encoder.layer.1']
    """
    return list(dict.fromkeys(match[1] for path in paths if (match := _LAYER.match(path))))


def shard(model: nn.Module, paths: Iterable[str], device: str) -> None:
    """Cut the parameters of a model over all processes by FSDP2, each layer as one.

    What lies outside of the layers is the root's, the cores of adapters too: every layer reads
    them. An optimiser takes its parameters after this.

    Parameters
    ----------
    model : with its adapters; its class is another from here on.
    paths : modules or parameters, which tell what the layers are; see :func:`layers_of`.
    device : the kind of device that the parts lie on, ``"cpu"`` or ``"cuda"``.
    """
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device, (distributed.get_world_size(),))
    for layer in layers_of(paths):
        fully_shard(model.get_submodule(layer), mesh=mesh)
    fully_shard(model, mesh=mesh)


def check_together(model: nn.Module) -> None:
    """Refuse a model that is spread over processes: cores that come later are not spread with it.

    Raises
    ------
    AttachError
        E522.

    Examples
    --------
    >>> check_together(nn.Linear(2, 2))  # it lies in one process: nothing is said
    """
    what = ""
    for path, module in model.named_modules():
        kinds = {kind.__name__ for kind in type(module).__mro__ if "torch" in kind.__module__}
        if kinds & _SPREAD:
            what = f"{path or 'the model'} is in {min(kinds & _SPREAD)}"
            break
        parts = [n for n, p in module.named_parameters(recurse=False) if is_sharded(p)]
        if parts:
            what = f"{path}.{parts[0]}".lstrip(".") + " lies in parts on several processes"
            break
    if what:
        advice = "Attach first, then wrap or shard the model: the gradients of its cores have to "
        advice += "be added up over the processes too."
        raise AttachError("E522", what, advice=advice)


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
