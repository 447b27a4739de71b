"""The few questions to torch that have no public answer, each with a safe fallback."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["autocast_state", "graph_task", "saved_tensor_frame"]

_graph_task = getattr(torch._C, "_current_graph_task_id", None)
_top_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)


def graph_task() -> int:
    """The number of the backward pass that is running in this thread, -1 outside of one."""
    if _graph_task is None or torch.compiler.is_compiling():
        return -1
    return int(_graph_task())


def saved_tensor_frame() -> Any:
    """An object that stands for the innermost ``saved_tensors_hooks``, ``None`` without one.

    Each segment of non-reentrant checkpointing has its own, and it lives as long as the segment's
    graph: it is the function that gives the saved tensors back.
    """
    if _top_hooks is None or torch.compiler.is_compiling():
        return None
    hooks = _top_hooks(False)
    return None if hooks is None else hooks[1]


def autocast_state(device_type: str) -> torch.dtype | None:
    """The dtype of autocast on this kind of device, ``None`` where it is off."""
    if device_type == "meta" or not torch.is_autocast_enabled(device_type):
        return None
    return torch.get_autocast_dtype(device_type)
