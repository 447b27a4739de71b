"""From a term to the arrays that are contracted: constants are taken out where they can be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tenslora.spec import Network, Slot, Term

__all__ = ["Operand", "operands_of"]


@dataclass(frozen=True)
class Operand:
    """An array in a term: a core or a constant, with one axis a slot.

    Attributes
    ----------
    name : the core's name, or ``eye`` or ``ones``.
    slots : one tuple of indices for each axis of the stored array.
    """

    name: str
    slots: tuple[Slot, ...]

    @property
    def indices(self) -> tuple[str, ...]:
        """The indices, groups taken apart."""
        return tuple(index for slot in self.slots for index in slot)

    @property
    def is_constant(self) -> bool:
        """Whether it is ``eye`` or ``ones``."""
        return self.name in ("eye", "ones")


def operands_of(network: Network, term: Term) -> tuple[Operand, ...]:
    """Return the arrays to contract for one term.

    ``eye`` over a bond renames the bond; ``ones`` goes where other cores carry its indices. Only
    constants that cannot be removed so are left, to be made as arrays.

    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = B[out (layer r)] eye[(layer r) s] A[s in]")
    >>> [(operand.name, operand.slots) for operand in operands_of(n, n.terms[0])]
    [('B', (('out',), ('layer', 'r'))), ('A', (('layer', 'r'), ('in',)))]
    """
    found = [Operand(core.name, core.slots) for core in term.cores]
    bonds = set(network.bonds)
    changed = True
    while changed:
        changed = False
        for at, operand in enumerate(found):
            if operand.name != "eye":
                continue
            smaller = _absorb(found, at, bonds)
            if smaller is not None:
                found, changed = smaller, True
                break
    return tuple(_drop_ones(found, bonds))


def _absorb(found: list[Operand], at: int, bonds: set[str]) -> list[Operand] | None:
    """Rename one bond of the ``eye`` at ``at`` to another of its slots; ``None`` if none can be."""
    slots = found[at].slots
    for slot in slots:
        if len(slot) != 1 or slot[0] not in bonds:
            continue
        for other in slots:
            if other == slot:
                continue
            rest = tuple(s for s in slots if s != slot)
            renamed = [_rename(o, slot[0], other) for n, o in enumerate(found) if n != at]
            if all(len(set(o.indices)) == len(o.indices) for o in renamed):
                kept = [Operand("eye", rest)] if len(rest) > 1 else []
                return renamed[:at] + kept + renamed[at:]
    return None


def _rename(operand: Operand, bond: str, slot: Slot) -> Operand:
    def spread(indices: Slot) -> Slot:
        return tuple(j for i in indices for j in (slot if i == bond else (i,)))

    return Operand(operand.name, tuple(spread(indices) for indices in operand.slots))


def _drop_ones(found: list[Operand], bonds: set[str]) -> Iterable[Operand]:
    """Leave out every ``ones`` whose indices stand on other operands often enough to be summed."""
    kept = list(found)
    for operand in found:
        if operand.name != "ones":
            continue
        others = list(kept)
        others.remove(operand)
        counts = {i: sum(i in o.indices for o in others) for i in operand.indices}
        if others and all(count > (index in bonds) for index, count in counts.items()):
            kept = others
    return kept
