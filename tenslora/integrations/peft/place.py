"""The sites of one adapter in one layer of the tuner."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tenslora.integrations.peft.shared import Shared
from tenslora.nn.exact import ExactBank
from tenslora.nn.groups import Member
from tenslora.nn.hooks import Piece
from tenslora.nn.reading import Group
from tenslora.nn.team import Team, join
from tenslora.nn.wrappers import WrappedHook, hook_of

__all__ = ["Place"]


class Place(nn.Module):
    """The sites of one adapter in one module. Its bank is not registered here, but on the tuner."""

    def __init__(
        self, shared: Shared, path: str, pieces: list[Piece], member: Member | None = None
    ) -> None:
        super().__init__()
        self.hook = hook_of(shared, path, pieces, member)
        self._names = frozenset({pieces[0][1].adapter})

    @property
    def wrapped(self) -> WrappedHook | None:
        """The hook, where the family stands in a wrapper."""
        return self.hook if isinstance(self.hook, WrappedHook) else None

    def join(self, teams: dict[Group, Team], layer: nn.Module) -> None:
        """Let ``layer`` be run at once with the others of its group."""
        join(teams, self.hook)
        if self.hook.start is not None:
            self.hook.start.take(layer)

    def at_once(self, x: object, layer: nn.Module) -> Tensor | None:
        """The output of the base layer with the update, where all of its group are run at once."""
        start = self.hook.start
        return None if start is None else start.output(layer, x, self._names)

    def add(
        self, x: Tensor, output: Tensor, layer: nn.Module, *, active: bool, fresh: bool
    ) -> Tensor:
        """Return the output, with the update for x (..., in) where the adapter is active.

        ``layer`` is the base layer, ``fresh`` whether the output is as that gave it, all of it.
        """
        names = self._names if active else ()
        seen = layer if fresh or self.wrapped is not None else None
        updated = self.hook.apply(x, output, names, seen)
        return output if updated is None else updated

    def exact(self, shared: Shared, device: torch.device) -> list[tuple[ExactBank, int]]:
        """The sites of the module as they are merged."""
        return [(shared.exact(bank, device), number) for _, bank, number in self.hook.pieces]

    def extra_repr(self) -> str:
        """Show the family, in its wrapper."""
        bank = self.hook.pieces[0][1]
        label = bank.bound.family.label
        return label if bank.wrapper is None else f"{bank.wrapper}({label})"
