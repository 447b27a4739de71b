"""The few questions to torch that have no public answer, each with a safe fallback."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

__all__ = [
    "apply_quietly",
    "asks_arguments",
    "autocast_state",
    "forget_graphs",
    "graph_task",
    "has_modes",
    "in_checkpoint",
    "in_transform",
    "is_quiet",
    "is_wrapped",
    "moment_of",
    "plain_only",
    "saved_tensor_frame",
    "wanted",
    "will_run",
]

_graph_task: Any = getattr(torch._C, "_current_graph_task_id", None)
_transforms: Any = getattr(torch._C, "_are_functorch_transforms_active", None)
_batched = [
    getattr(torch._C._functorch, name)
    for name in ("is_batchedtensor", "is_legacy_batchedtensor")
    if hasattr(torch._C._functorch, name)
]
_wrapped: Any = getattr(torch._C._functorch, "is_functorch_wrapped_tensor", None)
_will_execute: Any = getattr(torch._C, "_will_engine_execute_node", None)
_top_hooks: Any = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
_tracing: Any = getattr(torch._C, "_get_tracing_state", None)
_any_autocast: Any = getattr(torch._C, "_is_any_autocast_enabled", None)
_modes: Any = getattr(torch._C, "_len_torch_dispatch_stack", None)
_functions_ask: Any = getattr(torch._C, "_is_torch_function_enabled", None)
_function_modes: Any = getattr(torch._C, "_len_torch_function_stack", lambda: 1)
_stream: Any = getattr(torch._C, "_cuda_getCurrentRawStream", None)
_forward_level: Any = getattr(forward_ad, "_current_level", None)


def apply_quietly(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    """As ``function.apply`` where no transform of ``torch.func`` is at work, in fewer steps.

    No input may be a tensor that a transform has left behind.
    """
    return super(torch.autograd.Function, function).apply(*inputs)  # type: ignore[misc]


def graph_task() -> int:
    """The number of the backward pass that is running in this thread, -1 outside of one."""
    if _graph_task is None or torch.compiler.is_compiling():
        return -1
    return int(_graph_task())


def moment_of(x: Tensor) -> Hashable:
    """What differs where a tensor was changed since, or is read in another stream of a GPU.

    Of changes through ``.data`` autograd does not know, nor does this.
    """
    if x.is_cuda and _stream is not None:
        return x._version, x.requires_grad, _stream(x.device.index)
    return x._version, x.requires_grad


def asks_arguments() -> bool:
    """Whether a function of torch asks its arguments what it gives, and nothing else.

    Modes are asked first, and where ``__torch_function__`` is switched off nobody is.
    """
    return _functions_ask is not None and _functions_ask() and _function_modes() == 0


def saved_tensor_frame() -> Any:
    """An object that stands for the innermost ``saved_tensors_hooks``, ``None`` without one.

    Each segment of non-reentrant checkpointing has its own, and it lives as long as the segment's
    graph: it is the function that gives the saved tensors back.
    """
    if _top_hooks is None or torch.compiler.is_compiling():
        return None
    hooks = _top_hooks(False)
    return None if hooks is None else hooks[1]


def in_checkpoint() -> bool:
    """Whether what is saved now belongs to a segment of non-reentrant checkpointing."""
    if _top_hooks is None:
        return True
    hooks = _top_hooks(False)
    return hooks is not None and getattr(hooks[0], "__module__", "") == "torch.utils.checkpoint"


def autocast_state(device_type: str) -> torch.dtype | None:
    """The dtype of autocast on this kind of device, ``None`` where it is off."""
    if device_type == "meta" or not torch.is_autocast_enabled(device_type):
        return None
    return torch.get_autocast_dtype(device_type)


def in_transform() -> bool:
    """Whether a transform of ``torch.func`` (vmap, jvp, grad, ...) is at work."""
    return True if _transforms is None else bool(_transforms())


def is_wrapped(tensor: Tensor) -> bool:
    """Whether a transform of ``torch.func`` has made a tensor, if only one that it left behind."""
    return _wrapped is None or bool(_wrapped(tensor))


def is_batched(tensor: Tensor) -> bool:
    """Whether a tensor stands for many, as cotangents do that are given at once."""
    return any(ask(tensor) for ask in _batched)


def plain_only() -> bool:
    """Whether only operations of torch itself will do.

    So it is while a graph is captured, inside transforms of ``torch.func``, and in forward mode.
    """
    return (
        torch.compiler.is_compiling()
        or in_transform()
        or in_forward_mode()
        or _tracing is None
        or _tracing() is not None
    )


def in_forward_mode() -> bool:
    """Whether tangents are carried along by ``torch.autograd.forward_ad``."""
    return _forward_level is None or forward_ad._current_level >= 0


def has_modes() -> bool:
    """Whether something watches or replaces the operations of torch, such as fake tensors."""
    return _modes is None or _modes() > 0


def is_quiet() -> bool:
    """Whether nothing but eager mode is at work.

    Nothing is transformed, cast, checkpointed, or run in backward: then a call needs no more
    questions. Where one of them cannot be asked there is never quiet. That no graph is captured is
    for the caller to know: it is asked once, of all that is done there.
    """
    return (
        _KNOWN
        and _graph_task() == -1
        and not _any_autocast()
        and not _transforms()
        and _top_hooks(False) is None
        and forward_ad._current_level < 0
        and _tracing() is None
    )


_KNOWN = None not in (_graph_task, _any_autocast, _transforms, _top_hooks, _forward_level, _tracing)


def will_run(node: Any) -> bool:
    """Whether the backward pass that is running comes to a node of the graph.

    Of a leaf torch does not tell: yes, then.
    """
    if node is None:
        return False
    leaf = hasattr(node, "variable")
    return leaf or _will_execute is None or bool(_will_execute(node))


def wanted(node: Any, *, drops: bool) -> tuple[bool, bool, bool, list[bool]]:
    """Of which inputs the backward pass that is running wants gradients.

    ``node`` is of a function of x, of x with entries dropped if there is one, of A and of every B:
    whether those of the three are wanted, and of each B. What leads to them is asked once: most B
    come from one.
    """
    sources = [source for source, _ in node.next_functions]
    known = {source: will_run(source) for source in dict.fromkeys(sources)}
    wants = [known[source] for source in sources]
    wants_dropped = wants.pop(1) if drops else False
    wants_x, wants_a, *wants_b = wants
    return wants_x, wants_dropped, wants_a, wants_b


def forget_graphs(model: nn.Module, paths: Iterable[str]) -> None:
    """Drop the compiled graphs in which a module at one of the paths may have been captured.

    torch does not ask a graph's modules for their hooks again; so a change of hooks drops it. A
    function around the model that was compiled itself cannot be found.
    """
    dynamo: Any = sys.modules.get("torch._dynamo.eval_frame")
    forget = getattr(dynamo, "remove_from_cache", None)
    if forget is None:
        return
    around = {id(model): model}
    for path in paths:
        module = model
        for name in path.split("."):
            module = module.get_submodule(name)
            around[id(module)] = module
    codes = {getattr(type(module).forward, "__code__", None) for module in around.values()}
    if any(module._compiled_call_impl is not None for module in around.values()):
        codes.add(nn.Module._call_impl.__code__)
    for code in codes - {None}:
        forget(code)
