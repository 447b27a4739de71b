"""The parts of an equation: slots, cores and terms, and how each is written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

__all__ = ["RESERVED", "Core", "Slot", "Term", "format_slot"]

#: One index, or a group of them in C order (the first varies slowest).
Slot = tuple[str, ...]

#: Names of the constant cores.
RESERVED = frozenset({"eye", "ones"})


def format_slot(slot: Slot) -> str:
    """Write a slot as the language has it.

    >>> format_slot(("in",)), format_slot(("head", "head_dim"))
    ('in', '(head head_dim)')
    """
    return slot[0] if len(slot) == 1 else f"({' '.join(slot)})"


@dataclass(frozen=True)
class Core:
    """A named array with one axis a slot.

    >>> core = Core("G", (("a",), ("layer", "r")))
    >>> str(core), core.indices, core.is_constant
    ('G[a (layer r)]', ('a', 'layer', 'r'), False)
    """

    name: str
    slots: tuple[Slot, ...]

    @cached_property
    def indices(self) -> tuple[str, ...]:
        """Every index of the core, groups taken apart, in order."""
        return tuple(index for slot in self.slots for index in slot)

    @property
    def is_constant(self) -> bool:
        """Whether it is ``eye`` or ``ones``, which hold no parameters."""
        return self.name in RESERVED

    def __str__(self) -> str:
        return f"{self.name}[{' '.join(map(format_slot, self.slots))}]"


@dataclass(frozen=True)
class Term:
    """A product of cores, summed over its bonds.

    >>> str(Term((Core("B", (("out",), ("r",))), Core("A", (("r",), ("in",))))))
    'B[out r] A[r in]'
    """

    cores: tuple[Core, ...]

    @cached_property
    def indices(self) -> tuple[str, ...]:
        """The distinct indices of the term, in order of first appearance."""
        return tuple(dict.fromkeys(i for core in self.cores for i in core.indices))

    def __str__(self) -> str:
        return " ".join(map(str, self.cores))
