"""The hook of an adapter in a wrapper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tenslora.errors import AttachError
from tenslora.nn.bank import Bank, add_wide
from tenslora.nn.context import Call
from tenslora.nn.hooks import Piece, SiteHook, add_rows
from tenslora.nn.spans import Span, take
from tenslora.nn.switch import Switch
from tenslora.nn.wrappers.base import Runner

__all__ = ["WrappedHook", "not_alone"]


class WrappedHook(SiteHook):
    """Adds what a wrapper changes to the output of one target module.

    Examples
    --------
    >>> import tenslora as tl
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(6, 4))
    >>> adapter = tl.attach(model, tl.dora("lora"), targets="all-linear", ranks=2)
    >>> [type(hook).__name__ for hook in model[0]._forward_hooks.values()]
    ['WrappedHook']
    >>> adapter.detach()
    """

    def __init__(self, registry: Switch, path: str, pieces: list[Piece], runner: Runner) -> None:
        super().__init__(registry, path, pieces)
        self.runner = runner

    def change(
        self, x: Tensor, output: Tensor, module: nn.Module | None, calls: Mapping[Bank, Call]
    ) -> Tensor:
        """Return ``output`` with what the wrapper changes in the rows of each weight.

        Raises
        ------
        AttachError
            E521 where the wrapper needs the layer's own output, and another adapter has changed it.
        """
        if self.runner.alone:
            self._check_alone(module)
        found: list[tuple[Span | None, float, Tensor]] = []
        for rows, bank, number in self.pieces:
            part = take(x, -1, bank.weights[number].columns)
            seen = take(output, -1, rows)
            added = self.runner.change(bank, number, part, seen, module, calls[bank])
            if len(self.pieces) == 1 and rows is None:
                return add_wide(output, added, 1.0)
            found.append((rows, 1.0, added))
        return add_rows(output, found)

    def _check_alone(self, module: Any) -> None:
        for hook in module._forward_hooks.values():
            if isinstance(hook, SiteHook) and hook is not self and hook.is_on():
                advice = "Activate one of them, or merge the other."
                raise not_alone(self, hook, "active", advice)


def not_alone(hook: SiteHook, other: SiteHook, done: str, advice: str) -> AttachError:
    """The error for a layer that a wrapper needs to itself, and another adapter changes too.

    >>> from types import SimpleNamespace
    >>> def hook(name):
    ...     bank = SimpleNamespace(adapter=name, wrapper="dora")
    ...     return SimpleNamespace(banks=(bank,), path="layers.0.q")
    >>> not_alone(hook("b"), hook("a"), "active", "Have one active at a time.").code
    'E521'
    """
    names = sorted({bank.adapter for h in (hook, other) for bank in h.banks})
    what = f"{hook.banks[0].wrapper} needs {hook.path} to itself, and the adapters "
    what += f"{' and '.join(names)} are both {done}"
    return AttachError("E521", what, advice=advice)
