"""The callables that torch runs around forwards. Plain objects: a deep copy of a model copies them.

A hook on a target module adds ``scale * update`` to its output, unless the one before it has given
the module its output already, in place of its input; two hooks on the root open and close the
context of a forward. The module tree does not change.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from tenslora.nn.autograd import has_modes, in_checkpoint, plain_only
from tenslora.nn.bank import add_wide
from tenslora.nn.context import Call
from tenslora.nn.spans import Span, spread, take

if TYPE_CHECKING:
    from tenslora.nn.bank import Bank
    from tenslora.nn.context import ForwardContext
    from tenslora.nn.groups import Member
    from tenslora.nn.switch import Switch
    from tenslora.nn.team import Team

__all__ = [
    "PLAIN",
    "Done",
    "ForwardEnd",
    "ForwardStart",
    "Piece",
    "SiteHook",
    "SiteStart",
    "add_rows",
    "plain_weights",
    "remove_hooks",
]

#: The rows of a module (``None``: all), the bank, the number of the site in it.
Piece = tuple[Span | None, "Bank", int]


class Done:
    """What a linear layer gets in place of its input, where its output is made already.

    The layer hands it to torch's ``linear``, which asks it for the result, as it asks any object
    that has ``__torch_function__``. Another function is refused.
    """

    __slots__ = ("output",)

    def __init__(self, output: Tensor) -> None:
        self.output = output

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Tensor:
        """Return the output."""
        if func is not nn.functional.linear:
            return NotImplemented
        output: Tensor = args[0].output
        return output


class SiteStart:
    """Runs before a target module that may be run together with others.

    ``number`` is that of the layer in the ``team``.
    """

    def __init__(self, hook: SiteHook, team: Team, number: int) -> None:
        self.registry = hook.registry
        self.team, self.number = team, number

    def take(self, module: nn.Module | None) -> None:
        """Say which module it is, ``None`` where it stands in a model no longer."""
        self.team.take(self.number, module)

    def output(self, module: nn.Module, x: Any, active: Container[str]) -> Tensor | None:
        """The output of the module with its update, where the team is run at once."""
        return self.team.output(self.number, module, x, active)

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> Done | None:
        """Return what the module is to give, ``None`` where it has to run."""
        if len(args) != 1 or not torch.is_grad_enabled():
            return None
        active = self.registry.active_names()
        output = self.team.output(self.number, module, args[0], active)
        return None if output is None else Done(output)


class SiteHook:
    """Adds an adapter's update to the output of one target module.

    ``pieces`` holds, in the order of their rows, the sites that lie in the module; ``member`` how
    all of them are added in place, where they can be, and ``start`` what runs the module together
    with others, where that can be.
    """

    def __init__(
        self, registry: Switch, path: str, pieces: list[Piece], member: Member | None = None
    ) -> None:
        self.registry = registry
        self.path = path
        self.pieces = pieces
        self.member = member
        self.banks = tuple(dict.fromkeys(bank for _, bank, _ in pieces))
        self.start: SiteStart | None = None

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor
    ) -> Tensor | None:
        """Return the output with the update, ``None`` (unchanged) where the adapter is off."""
        x = args[0] if args else next(iter(kwargs.values()))
        if type(x) is Done:
            return None
        return self.apply(x, output, self.registry.active_names(), module)

    def apply(
        self, x: Tensor, output: Tensor, active: Container[str], module: nn.Module | None = None
    ) -> Tensor | None:
        """Return ``output`` with the update for x (..., in), where ``active`` holds the adapter.

        ``module`` is the layer that gave the output, where nothing was done with it since: then the
        update may be added in place.
        """
        if module is not None:
            context = self.registry.contexts.here()
            if context is not None:
                if self.banks[0].adapter not in active:
                    return None
                done = self._quietly(module, x, output, context)
                if done is not None:
                    return done
        calls: dict[Bank, Call] = {}
        for bank in self.banks:
            call = self.registry.contexts.enter(self.path, bank, bank.adapter in active)
            if call is None:
                return None
            calls[bank] = call
        if self.member is not None and module is not None and self._in_place(module, x, output):
            weight: Any = module.weight
            weight = weight if type(module) is nn.Linear else weight.mT
            if has_modes() and in_checkpoint():  # selective checkpointing may have kept the output
                output = output.clone()
            return self.member.run(x, output, weight, calls)
        return self.change(x, output, module, calls)

    def change(
        self, x: Tensor, output: Tensor, module: nn.Module | None, calls: Mapping[Bank, Call]
    ) -> Tensor:
        """Return ``output`` with what every piece adds to its rows."""
        if len(self.pieces) == 1 and self.pieces[0][0] is None:
            _, bank, site = self.pieces[0]
            return bank.add(site, take(x, -1, bank.sites[site].columns), calls[bank], output)
        updates = [
            (rows, bank.scale, self._update(bank, site, x, calls[bank]))
            for rows, bank, site in self.pieces
        ]
        return add_rows(output, updates)

    def _quietly(
        self, module: nn.Module, x: Tensor, output: Tensor, context: ForwardContext
    ) -> Tensor | None:
        """What most calls are: a plain linear layer, our hook the first, in plain eager mode.

        Asks all that :meth:`_in_place` asks, or what it follows from: a linear layer's output is of
        its weight's dtype and device, and so is x.
        """
        found = None if self.member is None else plain_weights(module, frozen=context.grad)
        if found is None or not output.is_contiguous() or torch_module._global_forward_hooks:
            return None
        hook = next(iter(module._forward_hooks.values()), None)
        if hook is not self and (
            hook is not None or module._forward_pre_hooks or torch_module._global_forward_pre_hooks
        ):
            return None
        member: Any = self.member
        done: Tensor | None = member.run_quiet(x, output, found[0], context)
        return done

    def _in_place(self, module: nn.Module, x: Tensor, output: Tensor) -> bool:
        """Whether the update may be added into the output of the frozen layer.

        The output has to be x W + b and nothing else, and seen by nobody yet; and the graph has to
        be one that autograd makes now.
        """
        weight = module.weight
        return (
            self.member is not None
            and isinstance(weight, Tensor)
            and is_plain_linear(module)
            and self._is_first(module)
            and self.member.fits(x, output, weight)
            and not (torch.is_grad_enabled() and _trains(module))
            and output.is_contiguous()
            and not plain_only()
        )

    def _is_first(self, module: nn.Module) -> bool:
        """Whether no other hook has seen the output, or may have put its own in place of it."""
        if torch_module._global_forward_hooks:
            return False
        for hook in module._forward_hooks.values():
            if hook is self:
                return True
            if not isinstance(hook, SiteHook) or hook.is_on():
                return False
        # called by a layer around the module, with the x that it gave to the module
        return not (module._forward_pre_hooks or torch_module._global_forward_pre_hooks)

    def is_on(self) -> bool:
        """Whether it changes outputs now."""
        active = self.registry.active_names()
        return any(bank.adapter in active for bank in self.banks)

    @staticmethod
    def _update(bank: Bank, site: int, x: Tensor, call: Call) -> Tensor:
        x = take(x, -1, bank.sites[site].columns)
        update = bank.update(site, x, call)
        return update.reshape(*x.shape[:-1], update.shape[-1])


def add_rows(output: Tensor, updates: list[tuple[Span | None, float, Tensor]]) -> Tensor:
    """Return ``output`` with factor * update added to the rows of each."""
    scales = {scale for _, scale, _ in updates}
    ranges = [rows for rows, _, _ in updates if rows is not None and len(rows) == 2]
    if len(ranges) < len(updates) or any(a[1] > b[0] for a, b in itertools.pairwise(ranges)):
        scaled = ((rows, scale * update) for rows, scale, update in updates)
        return add_wide(output, spread(output.shape[-1], scaled), 1.0)
    ends = [0, *(stop for _, stop in ranges)]
    whole = all(start == end for (start, _), end in zip(ranges, ends, strict=False))
    if whole and ends[-1] == output.shape[-1] and len(scales) == 1:
        return add_wide(output, torch.cat([update for _, _, update in updates], -1), scales.pop())
    pieces, end = [], 0
    for (start, stop), (_, scale, update) in zip(ranges, updates, strict=True):
        pieces.append(output[..., end:start])
        pieces.append(add_wide(output[..., start:stop], update, scale))
        end = stop
    return torch.cat([*pieces, output[..., end:]], -1)


def plain_weights(module: nn.Module, *, frozen: bool) -> tuple[Tensor, Tensor | None] | None:
    """Weight and bias of an ``nn.Linear`` as torch has it; if asked, only of one that is frozen.

    Not where a hook of somebody makes one of them anew in each call, as for pruning.
    """
    if type(module) is not nn.Linear or "forward" in module.__dict__:
        return None
    held = module._parameters
    weight, bias = held.get("weight"), held.get("bias")
    if weight is None or type(weight) not in PLAIN or (frozen and weight.requires_grad):
        return None
    if "bias" not in held if bias is None else (frozen and bias.requires_grad):
        return None
    return weight, bias


def is_plain_linear(module: nn.Module) -> bool:
    """Whether a module computes ``x @ weight.T + bias`` and nothing else: no subclass, no patch."""
    kind = type(module)
    plain = kind is nn.Linear or (kind.__name__ == "Conv1D" and kind.__module__ == _CONV1D)
    return plain and "forward" not in module.__dict__ and type(module.weight) in PLAIN


#: Where the class of GPT-2's layers is, which keep their weight as (in, out).
_CONV1D = "transformers.pytorch_utils"

#: Types of weights whose products are those of torch; others may be quantised or spread out.
PLAIN = (nn.Parameter, Tensor)


def _trains(module: nn.Module) -> bool:
    bias = module.bias
    return bool(module.weight.requires_grad or (bias is not None and bias.requires_grad))


class ForwardStart:
    """Runs before the root's forward."""

    def __init__(self, registry: Switch) -> None:
        self.registry = registry

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Open the context of this forward."""
        registry = self.registry
        registry.contexts.open(registry.active_names(), registry.banks())


class ForwardEnd:
    """Runs after the root's forward, also when it raised."""

    def __init__(self, registry: Switch) -> None:
        self.registry = registry

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Close it."""
        self.registry.contexts.close()


def remove_hooks(module: nn.Module, hooks: list[Any]) -> None:
    """Take ``hooks`` off ``module``, found by identity, so that it works in a deep copy too."""
    for table in (module._forward_hooks, module._forward_pre_hooks):
        for key, hook in list(table.items()):
            if any(hook is mine for mine in hooks):
                del table[key]
                for name in _SIDE_TABLES:
                    getattr(module, name, {}).pop(key, None)


_SIDE_TABLES = (
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
)
