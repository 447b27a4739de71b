"""The layers of a group in a model, run at once when the first of them is called.

That the others will be called with the same tensor is not taken for granted. What a layer does not
come for is thrown away; and where that happens again, the layers are run one by one from then on.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from tenslora.nn.autograd import has_function_modes, moment_of
from tenslora.nn.hooks import PLAIN, SiteHook, SiteStart
from tenslora.nn.joint import Job, Layer, run_joint

if TYPE_CHECKING:
    from tenslora.nn.bank import Bank
    from tenslora.nn.context import ForwardContext
    from tenslora.nn.groups import Member
    from tenslora.nn.reading import Group

__all__ = ["Outputs", "Team", "join"]

#: So many times in a row outputs may be thrown away.
_PATIENCE = 2


class Outputs:
    """What a team has given for one x: the outputs of the layers that have not come for theirs.

    That is all but one.
    """

    __slots__ = ("active", "left", "moment", "team", "training", "waiting", "x")

    def __init__(
        self,
        team: Team,
        x: Tensor,
        active: Container[str],
        first: int,
        outputs: Sequence[Tensor],
    ) -> None:
        self.team, self.x, self.active = team, x, active
        self.moment, self.training = moment_of(x), team.bank.training
        self.waiting = [None if n == first else out for n, out in enumerate(outputs)]
        self.left = len(outputs) - 1

    def settle(self) -> None:
        """Tell the team whether every layer has come for its output."""
        self.team.wasted = self.team.wasted + 1 if self.left else 0


class Team:
    """The layers of a group, and the modules that they are.

    Attributes
    ----------
    hooks : of the layers.
    modules : of the layers, ``None`` where one does not stand in a model.
    wasted : how many times in a row outputs were thrown away.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self.banks = tuple(group.parts)
        self.bank = self.banks[0]
        self.hooks: list[SiteHook] = []
        self.members: list[Member] = []
        self.modules: list[nn.Module | None] = []
        self.wasted = 0

    def add(self, hook: SiteHook, member: Member) -> int:
        """Take in a layer, and return its number."""
        self.hooks.append(hook)
        self.members.append(member)
        self.modules.append(None)
        return len(self.hooks) - 1

    def output(
        self, number: int, module: nn.Module, x: Tensor, active: Container[str]
    ) -> Tensor | None:
        """The output of one layer with its update; ``None`` where the layer has to be run.

        ``active`` are the adapters that are active.
        """
        if not torch.is_grad_enabled():  # without a graph it would gain nothing
            return None
        context = self.hooks[number].registry.contexts.here()
        if context is None or self.bank.adapter not in active or type(x) is not Tensor:
            return None
        held = context.outputs
        if held is not None and held.team is self and held.x is x:
            same = (
                held.moment == moment_of(x)
                and (held.active is active or held.active == active)
                and held.training is self.bank.training
                and self.modules[number] is module
            )
            found = held.waiting[number] if same else None
            if found is not None:
                held.waiting[number] = None
                held.left -= 1
            return found
        if self.wasted >= _PATIENCE or self.modules[number] is not module:
            return None
        waiting = self._run(x, context)
        if waiting is None:
            return None
        context.settle()
        context.outputs = Outputs(self, x, active, number, waiting)
        return waiting[number]

    def _run(self, x: Tensor, context: ForwardContext) -> list[Tensor] | None:
        """The output of every layer, where all of them are as most are."""
        group = self.group
        dropout = group.dropout()
        if dropout is None or self.bank.recompute or not _is_plain(x) or _is_watched():
            return None
        hoisted: Mapping[Bank, Any] = context.hoisted  # halves: a group has no other banks
        dtype = group.dtype_for(x, hoisted)
        if dtype is None or not group.notes(x, dtype):
            return None
        layers = self._layers(x)
        if layers is None:
            return None
        a, widths, bs, books = group.factors(hoisted, dtype, True)
        if books is None or a.shape[-1] != x.shape[-1]:  # the layer itself will say so
            return None
        dropped = None
        if dropout:
            rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
            dropped = nn.functional.dropout(rows, dropout, training=True)
        return run_joint(x, dropped, a, bs, Job(layers, widths, group.scale, books))

    def _layers(self, x: Tensor) -> Sequence[Layer] | None:
        """Every layer, ``None`` where one is not plain, frozen, and seen by us alone."""
        found = []
        for hook, member, module in zip(self.hooks, self.members, self.modules, strict=True):
            if type(module) is not nn.Linear or "forward" in module.__dict__:
                return None
            held = module._parameters
            weight, bias = held.get("weight"), held.get("bias")
            if weight is None or type(weight) not in PLAIN or weight.dtype is not x.dtype:
                return None
            if bias is None and "bias" not in held:  # a layer that makes it anew in each call
                return None
            if weight.requires_grad or (bias is not None and bias.requires_grad):
                return None
            if weight.device != x.device:
                return None
            if module._backward_hooks or module._backward_pre_hooks:
                return None
            for before in module._forward_pre_hooks.values():
                if type(before) is not SiteStart:
                    return None
            for after in module._forward_hooks.values():
                if after is not hook and (not isinstance(after, SiteHook) or after.is_on()):
                    return None
            found.append((weight, bias, member.pieces, member.parts))
        return found


def _is_plain(x: Tensor) -> bool:
    """Whether x is a batch of rows that autograd counts changes of."""
    return x.ndim > 1 and not x.is_nested and x.layout is torch.strided and not x.is_inference()


def _is_watched() -> bool:
    """Whether somebody sees the calls of all layers, or has put something in the place of them."""
    return bool(
        torch_module._global_forward_pre_hooks
        or torch_module._global_forward_hooks
        or torch_module._global_backward_pre_hooks
        or torch_module._global_backward_hooks
        or nn.Linear.forward is not _FORWARD
        or nn.functional.linear is not _LINEAR
        or has_function_modes()
    )


#: What torch has there, where nobody has changed it before us.
_FORWARD = nn.Linear.forward if nn.Linear.forward.__module__ == nn.Linear.__module__ else None
_LINEAR: Any = getattr(torch._C._nn, "linear", None)


def join(teams: dict[Group, Team], hook: SiteHook) -> None:
    """Put the hook of a layer into the team of its group, where it is in one."""
    member = hook.member
    if member is not None:
        team = teams.setdefault(member.group, Team(member.group))
        hook.start = SiteStart(hook, team, team.add(hook, member))
