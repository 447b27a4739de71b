"""The layers of a group in a model, run at once when the first of them is called.

That the others will be called with the same tensor is not taken for granted. What a layer does not
come for is thrown away; and where that happens again and again, the layers are run one by one from
then on.
"""

from __future__ import annotations

import weakref
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from tenslora.nn import reading
from tenslora.nn.autograd import asks_arguments, moment_of
from tenslora.nn.hooks import SiteHook, SiteStart, plain_weights
from tenslora.nn.joint import Job, Layer, run_joint

if TYPE_CHECKING:
    from tenslora.nn.bank import Bank
    from tenslora.nn.context import ForwardContext
    from tenslora.nn.reading import Group

__all__ = ["Outputs", "Team", "join"]

#: What throwing outputs away counts, and how much is borne. Each good end takes one off.
_WASTE, _PATIENCE = 2, 6


class Outputs:
    """The outputs of a team for one x, for each layer until it comes for its own.

    ``layers`` are what they were made of; without it they were refused, and nothing waits.
    """

    __slots__ = ("active", "layers", "moment", "team", "training", "waiting", "x")

    def __init__(
        self, team: Team, x: Tensor, active: Container[str], layers: Sequence[Layer] | None
    ) -> None:
        self.team, self.x, self.active, self.layers = team, x, active, layers
        self.moment, self.training = moment_of(x), team.bank.training
        self.waiting: dict[int, tuple[Tensor, int]] = {}  # with the version of the weight

    def settle(self) -> None:
        """Tell the team whether every layer has come for its output."""
        if self.layers is not None:
            self.team.wasted = max(0, self.team.wasted + (_WASTE if self.waiting else -1))


class Team:
    """The layers of a group, and the modules that they are.

    Attributes
    ----------
    group : what they share.
    bank : the first of the group.
    hooks : of the layers.
    wasted : rises where outputs are thrown away.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self.bank = next(iter(group.parts))
        self.hooks: list[SiteHook] = []
        self.wasted = 0
        # weakly: a module that a model has no longer may go
        self._modules: list[weakref.ref[nn.Module] | None] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_modules": [None if m is None else m() for m in self._modules]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _modules=[])
        for module in state["_modules"]:
            self._modules.append(None if module is None else weakref.ref(module))

    def add(self, hook: SiteHook) -> int:
        """Take in a layer, and return its number."""
        self.hooks.append(hook)
        self._modules.append(None)
        return len(self.hooks) - 1

    def take(self, number: int, module: nn.Module | None) -> None:
        """Say which module a layer is."""
        self._modules[number] = None if module is None else weakref.ref(module)

    def output(
        self, number: int, module: nn.Module, x: Any, active: Container[str]
    ) -> Tensor | None:
        """The output of one layer with its update; ``None`` where the layer has to be run.

        It may have been made when another layer was called with x: then it is asked whether all
        that it was made of is as it was. ``active`` are the adapters that are active.
        """
        # without a graph, and for few rows, it would gain nothing
        if type(x) is not Tensor or not torch.is_grad_enabled() or not _is_plain(x):
            return None
        context = self.hooks[number].registry.contexts.here()
        ref = self._modules[number]
        if (
            context is None
            or self.bank.adapter not in active
            or ref is None
            or ref() is not module
            or _is_watched()
        ):
            return None
        held = context.outputs
        if held is not None and held.team is self and held.x is x:
            return self._fetch(number, held, active)
        context.settle()
        if self.wasted >= _PATIENCE:
            return None
        context.outputs = held = self._run(x, context, active)
        output, _ = held.waiting.pop(number, (None, 0))
        return output

    def _fetch(self, number: int, held: Outputs, active: Container[str]) -> Tensor | None:
        """What waits for a layer, where nothing has changed since."""
        if (
            number not in held.waiting
            or held.layers is None
            or held.moment != moment_of(held.x)
            or held.training is not self.bank.training
            or not (held.active is active or held.active == active)
        ):
            return None
        layer, made = self._layer(number, held.x), held.layers[number]
        if layer is None or layer[0] is not made[0] or layer[1] is not made[1]:
            return None
        if held.waiting[number][1] != layer[0]._version:
            return None
        return held.waiting.pop(number)[0]

    def _run(self, x: Tensor, context: ForwardContext, active: Container[str]) -> Outputs:
        """Run every layer, if each is plain, frozen and watched by nobody, and A fits x."""
        group = self.group
        dropout = group.dropout()
        hoisted: Mapping[Bank, Any] = context.hoisted  # halves: a group has no other banks
        dtype = None if self.bank.recompute else group.dtype_for(x, hoisted)
        if dropout is None or dtype is None:
            return Outputs(self, x, active, None)
        layers = []
        for number in range(len(self.hooks)):
            layer = self._layer(number, x)
            if layer is None:
                return Outputs(self, x, active, None)
            layers.append(layer)
        a, widths, bs, books = group.factors(hoisted, dtype, True)
        if books is None or a.shape[-1] != x.shape[-1]:  # the layer itself will say so
            return Outputs(self, x, active, None)
        dropped = None
        if dropout:
            rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
            dropped = nn.functional.dropout(rows, dropout, training=True)
        made = run_joint(x, dropped, a, bs, Job(layers, widths, group.scale, books))
        found = Outputs(self, x, active, layers)
        for number, output in enumerate(made):
            found.waiting[number] = output, layers[number][0]._version
        return found

    def _layer(self, number: int, x: Tensor) -> Layer | None:
        """A layer, ``None`` where it is not plain, not frozen, or seen by others."""
        hook, ref = self.hooks[number], self._modules[number]
        module = None if ref is None else ref()
        if not isinstance(module, nn.Linear):
            return None
        found = plain_weights(module, frozen=True)
        if found is None:
            return None
        weight, bias = found
        if (
            weight.dtype is not x.dtype
            or weight.device != x.device
            or weight.shape != (module.out_features, module.in_features)
            or module._backward_hooks
            or module._backward_pre_hooks
        ):
            return None
        ours = not module._forward_pre_hooks  # the tuner of PEFT asks without hooks
        for before in module._forward_pre_hooks.values():
            if type(before) is not SiteStart:
                return None
        for after in module._forward_hooks.values():
            if after is hook:
                ours = True
            elif not isinstance(after, SiteHook) or after.is_on():
                return None
        member = hook.member
        return (weight, bias, member.pieces, member.parts) if ours and member else None


def _is_plain(x: Tensor) -> bool:
    """Whether x is a batch of more than a few rows, whose changes autograd counts."""
    return (
        x.ndim > 1
        and not x.is_nested
        and x.layout is torch.strided
        and x.numel() > reading.FEW * x.shape[-1]
        and not x.is_inference()
    )


def _is_watched() -> bool:
    """Whether somebody sees the calls of all layers, or stands in the place of torch's own."""
    return bool(
        torch_module._global_forward_pre_hooks
        or torch_module._global_forward_hooks
        or torch_module._global_backward_pre_hooks
        or torch_module._global_backward_hooks
        or nn.Linear.forward is not _FORWARD
        or nn.functional.linear is not _LINEAR
        or not asks_arguments()
    )


def _is_of(function: Any, module: Any) -> bool:
    """Whether a function was written in a module, and is not one that was put in its place."""
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename == module.__file__


#: What torch has there, where nobody has changed it before us.
_FORWARD: Any = nn.Linear.forward if _is_of(nn.Linear.forward, nn.modules.linear) else None
_LINEAR: Any = getattr(torch._C._nn, "linear", None)


def join(teams: dict[Group, Team], hook: SiteHook) -> None:
    """Put the hook of a layer into the team of its group, where it is in one."""
    if hook.member is not None:
        group = hook.member.group
        if group not in teams:
            teams[group] = Team(group)
        hook.start = SiteStart(hook, teams[group], teams[group].add(hook))
