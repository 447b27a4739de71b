"""The layers of a group in a model, run at once when the first of them is called.

That the others will be called with the same tensor is not taken for granted. What a layer does not
come for is thrown away; and where that happens again and again, the layers are run one by one from
then on.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from tenslora.nn import reading
from tenslora.nn.autograd import asks_arguments, is_wrapped, moment_of
from tenslora.nn.hooks import SiteHook, SiteStart, plain_weights
from tenslora.nn.joint import Job, Layer, run_joint

if TYPE_CHECKING:
    from tenslora.nn.bank import Bank
    from tenslora.nn.context import ForwardContext
    from tenslora.nn.reading import Group

__all__ = ["Outputs", "Team", "join"]

_T = TypeVar("_T")

#: What throwing outputs away counts, and how much is borne. Each good end takes one off.
_WASTE, _PATIENCE = 2, 6


class Outputs:
    """The outputs of a team for one x, for each layer until it comes for its own.

    ``layers`` are what they were made of; without it they were refused, and nothing waits.
    """

    __slots__ = ("active", "layers", "marks", "moment", "team", "training", "waiting", "x")

    def __init__(
        self, team: Team, x: Tensor, active: Container[str], layers: Sequence[Layer] | None
    ) -> None:
        self.team, self.x, self.active, self.layers = team, x, active, layers
        self.moment, self.training = moment_of(x), team.bank.training
        self.marks = [_marks(layer) for layer in layers or ()]
        self.waiting: dict[int, Tensor] = {}

    def settle(self) -> None:
        """Tell the team whether every layer has come for its output."""
        if self.layers is not None:
            self.team.wasted = max(0, self.team.wasted + (_WASTE if self.waiting else -1))


def _nothing() -> None:
    return None


def _weakly(thing: _T | None) -> Callable[[], _T | None]:
    return _nothing if thing is None else weakref.ref(thing)


class Seat:
    """One layer of a team: its hook, and the module that it is.

    Both are held weakly: a module that a model has no longer may go, and a hook holds the team.
    """

    __slots__ = ("_hook", "_module", "shape")

    def __init__(self, hook: SiteHook) -> None:
        self._hook: Callable[[], SiteHook | None] = _weakly(hook)
        self._module: Callable[[], nn.Module | None] = _nothing
        self.shape: tuple[int, ...] = ()  # of its weight as it was then

    def __getstate__(self) -> tuple[SiteHook | None, nn.Module | None, tuple[int, ...]]:
        return self.hook, self.module, self.shape

    def __setstate__(
        self, state: tuple[SiteHook | None, nn.Module | None, tuple[int, ...]]
    ) -> None:
        hook, module, self.shape = state  # both may have nothing in them yet
        self._hook, self._module = _weakly(hook), _weakly(module)

    @property
    def hook(self) -> SiteHook | None:
        """The hook, ``None`` where nobody has it any longer."""
        return self._hook()

    @property
    def module(self) -> nn.Module | None:
        """The module, ``None`` where it stands in a model no longer."""
        return self._module()

    def take(self, module: nn.Module | None) -> None:
        """Say which module it is, with the shape of its weight as it is now."""
        self._module = _weakly(module)
        self.shape = tuple(getattr(getattr(module, "weight", None), "shape", ()))

    def layer(self, x: Tensor) -> Layer | None:
        """The layer as it is, ``None`` where it is not plain, not frozen, or seen by others."""
        hook, module = self.hook, self.module
        found = None if module is None else plain_weights(module, frozen=True)
        if hook is None or hook.member is None or module is None or found is None:
            return None
        weight, bias = found
        if (
            weight.dtype is not x.dtype
            or weight.device != x.device
            or weight.shape != self.shape
            or x.shape[-1] != weight.shape[1]
            or weight.is_inference()
            or (bias is not None and bias.is_inference())
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
        return (weight, bias, hook.member.pieces, hook.member.parts) if ours else None


class Team:
    """The layers of one group.

    Attributes
    ----------
    group : what they share.
    bank : the first of the group.
    seats : of the layers.
    wasted : rises where outputs are thrown away.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self.bank = next(iter(group.parts))
        self.seats: list[Seat] = []
        self.wasted = 0

    def add(self, hook: SiteHook) -> int:
        """Take in a layer, and return its number."""
        self.seats.append(Seat(hook))
        return len(self.seats) - 1

    def take(self, number: int, module: nn.Module | None) -> None:
        """Say which module a layer is."""
        self.seats[number].take(module)
        self.wasted = 0

    def output(
        self, number: int, module: nn.Module, x: Any, active: Container[str]
    ) -> Tensor | None:
        """The output of one layer with its update; ``None`` where the layer has to be run.

        It may have been made when another layer was called with x: then it is asked whether all
        that it was made of is as it was. ``active`` are the adapters that are active.
        """
        seat = self.seats[number]
        # without a graph it would gain nothing
        if type(x) is not Tensor or not torch.is_grad_enabled() or seat.hook is None:
            return None
        context = seat.hook.registry.contexts.here()
        if (
            context is None
            or self.bank.adapter not in active
            or seat.module is not module
            or not _is_plain(x)
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
        return held.waiting.pop(number, None)

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
        layer = self.seats[number].layer(held.x)
        if layer is None or _marks(layer) != held.marks[number]:
            return None
        return held.waiting.pop(number)

    def _run(self, x: Tensor, context: ForwardContext, active: Container[str]) -> Outputs:
        """Run every layer, if each is plain, frozen and watched by nobody, and A fits x."""
        group = self.group
        dropout = group.dropout()
        hoisted: Mapping[Bank, Any] = context.hoisted  # halves: a group has no other banks
        dtype = None if self.bank.recompute else group.dtype_for(x, hoisted)
        if dropout is None or dtype is None:
            return Outputs(self, x, active, None)
        layers = []
        for seat in self.seats:
            layer = seat.layer(x)
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
        found.waiting.update(enumerate(made))
        return found


def _marks(layer: Layer) -> tuple[object, ...]:
    """What tells whether a weight or a bias was changed in place, or is another."""
    weight, bias = layer[:2]
    return id(weight), weight._version, id(bias), None if bias is None else bias._version


def _is_plain(x: Tensor) -> bool:
    """Whether x is a batch of more than a few rows, and autograd counts its changes.

    Plain operations are faster for few. What a transform of ``torch.func`` has left behind is not
    plain.
    """
    return (
        x.ndim > 1
        and not x.is_nested
        and x.layout is torch.strided
        and x.numel() > reading.FEW * x.shape[-1]
        and not x.is_inference()
        and not is_wrapped(x)
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
