"""Where an x comes from: normalisations, whose input autograd keeps anyway.

An adapter that recomputes keeps no x of its own for the backward pass. Where x is what a
normalisation has just given, it keeps that one's input, which is saved already, and the module.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from tenslora.nn.autograd import autocast_state, in_checkpoint

if TYPE_CHECKING:
    from tenslora.nn.switch import Switch

__all__ = ["NormHook", "Normed", "Source", "norms_of"]


class Source(NamedTuple):
    """A normalisation, its input, and the dtype of autocast that it ran under."""

    module: nn.Module
    input: Tensor
    autocast: torch.dtype | None

    def again(self) -> Tensor:
        """Compute its output again."""
        kind, run = self.input.device.type, self.module.forward
        if kind == "meta":  # torch has no autocast there
            found: Tensor = run(self.input)
        else:
            with torch.autocast(kind, dtype=self.autocast, enabled=self.autocast is not None):
                found = run(self.input)
        return found


class Normed:
    """What the last normalisation of a forward has given; the output itself is not kept alive."""

    __slots__ = ("_output", "_version", "source")

    def __init__(self, output: Tensor, source: Source) -> None:
        self._output, self._version = weakref.ref(output), output._version
        self.source = source

    def source_of(self, x: Tensor) -> Source | None:
        """The normalisation that gave x, where nothing has changed x since.

        None inside a checkpointed segment: there it may not be found again.
        """
        same = self._output() is x and x._version == self._version
        return self.source if same and not in_checkpoint() else None


class NormHook:
    """Notes the output of a normalisation in the context of the forward."""

    def __init__(self, registry: Switch) -> None:
        self.registry = registry

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Note it, where it has a graph and one input."""
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        context = self.registry.contexts.innermost()
        plain = len(args) == 1 and isinstance(args[0], Tensor) and isinstance(output, Tensor)
        if context is None or not plain or not output.requires_grad or not self._is_first(module):
            return
        cast = autocast_state(output.device.type)
        context.normed = Normed(output, Source(module, args[0], cast))

    def _is_first(self, module: nn.Module) -> bool:
        """Whether no other hook may have put its own in place of the output."""
        for hook in module._forward_hooks.values():
            if hook is self:
                return not torch_module._global_forward_hooks
            if not isinstance(hook, NormHook):
                return False
        return False


def norms_of(model: nn.Module) -> list[nn.Module]:
    """The normalisations of a model: of each row by itself, and with no state but their weights."""
    kinds = (nn.LayerNorm, nn.RMSNorm)
    return [
        module
        for module in model.modules()
        if isinstance(module, kinds) or type(module).__name__.endswith("RMSNorm")
    ]
