"""Bonds that are larger than what their ends can carry: parameters that add nothing to W."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tenslora.algebra.edit import frozen_cores
from tenslora.spec import Core, Network, complete_sizes, core_shape

__all__ = ["Redundancy", "excess", "rank_cap", "rank_ends", "redundancies"]


@dataclass(frozen=True)
class Redundancy:
    """That a bond could be smaller with the same set of W.

    Attributes
    ----------
    bond, size : the bond and its rank.
    cap : the largest rank at which its ends can carry something more.
    parameters : how many parameters the cores lose when the bond is cut down to ``cap``.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> lora = parse("W[out in] = B[out r] A[r in]")
    >>> (found,) = redundancies(lora, {"out": 8, "in": 6, "r": 7})
    >>> found.cap, found.parameters
    (6, 14)
    """

    bond: str
    size: int
    cap: int
    parameters: int

    def __str__(self) -> str:
        return (
            f"bond {self.bond} has rank {self.size}, {self.size - self.cap} above the {self.cap} "
            f"that its ends can carry: {self.parameters:,} parameters are redundant"
        )


def redundancies(
    network: Network, sizes: Mapping[str, int], frozen: Collection[str] = ()
) -> tuple[Redundancy, ...]:
    """Find the bonds that are larger than what either side of them can carry.

    Law: a bond between two cores is a product of two matrices, whose rank is at most the smaller of
    the other sides; target indices on both cores are fixed and count on neither. A product of a
    larger inner size is also one of that size. It is asked of cores that stand in one place, and of
    bonds that no frozen core and no ``eye`` holds: these cannot become what a smaller core is.

    Parameters
    ----------
    network : the equation.
    sizes : the size of every index, ranks included.
    frozen : cores that are not trained.

    Raises
    ------
    SizeError
        E202 for a size that is missing, and others of sizes that do not fit the equation.
    SpecError
        E120 for a frozen core that is not there.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = B[layer out r] A[layer r in]")
    >>> print(*redundancies(n, {"layer": 2, "out": 4, "in": 6, "r": 5}))
    bond r has rank 5, 1 above the 4 that its ends can carry: 20 parameters are redundant
    """
    return excess(network, complete_sizes(network, sizes), frozen_cores(network, frozen))


def excess(
    network: Network, sizes: Mapping[str, int], frozen: Collection[str]
) -> tuple[Redundancy, ...]:
    """Find what :func:`redundancies` does, of sizes and cores that are known to fit."""
    found = []
    fixed = {index for name in frozen for index in network.cores[name].indices}
    fixed |= {i for t in network.terms for c in t.cores if c.name == "eye" for i in c.indices}
    places = [core.name for term in network.terms for core in term.cores]
    repeated = {
        i for t in network.terms for c in t.cores if places.count(c.name) > 1 for i in c.indices
    }
    for bond in network.bonds:
        cap = None if bond in repeated | fixed else rank_cap(network, bond, sizes)
        if cap is not None and sizes[bond] > cap:
            lost = _parameters(network, sizes) - _parameters(network, {**sizes, bond: cap})
            found.append(Redundancy(bond, sizes[bond], cap, lost))
    return tuple(found)


def _parameters(network: Network, sizes: Mapping[str, int]) -> int:
    return sum(math.prod(core_shape(core, sizes)) for core in network.cores.values())


def rank_cap(network: Network, bond: str, sizes: Mapping[str, int]) -> int | None:
    """The largest rank at which no parameter of a bond is redundant, as far as its ends tell.

    A bond joins two cores. Seen as a matrix from the bond to its other indices, either core has at
    most as many independent rows as those indices have values; target indices on both cores are
    fixed and do not count. Above that, the two cores could be replaced by smaller ones.

    Parameters
    ----------
    network : the equation.
    bond : the name of one of its bonds.
    sizes : the sizes of the target's indices, and the ranks that are known.

    Returns
    -------
    int or None
        ``None`` where nothing is known: the bond is in three cores or more (CP), or each end has
        an index without a size.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = B[layer out r] A[layer r in]")
    >>> rank_cap(n, "r", {"layer": 12, "out": 64, "in": 32})
    32
    """
    ends = rank_ends(network, bond)
    if ends is None:
        return None
    caps = [min((n for end in term if (n := _count(end, sizes))), default=None) for term in ends]
    known = [cap for cap in caps if cap is not None]
    return max(known) if known and len(known) == len(caps) else None


def _count(indices: Collection[str], sizes: Mapping[str, int]) -> int | None:
    known = all(index in sizes for index in indices)
    return math.prod(sizes[index] for index in indices) if known else None


def rank_ends(network: Network, bond: str) -> tuple[tuple[tuple[str, ...], ...], ...] | None:
    """Find what the two ends of a bond carry beside it: the product of these sizes bounds its rank.

    Returns
    -------
    tuple or None
        For each term with the bond, the indices of each end that bounds it; ``None`` where a term
        holds the bond in one core, or in three or more, or in an ``eye`` that ties it to several.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> rank_ends(parse("W[layer out in] = B[layer out r] A[layer r in]"), "r")
    ((('out',), ('in',)),)
    """
    found = []
    for term in network.terms:
        if bond not in term.indices:
            continue
        ends = [core for core in term.cores if bond in core.indices]
        if len(ends) != 2 or any(core.name == "eye" and len(core.slots) > 2 for core in ends):
            return None
        target = set(network.target.indices)
        batch = target.intersection(*(core.indices for core in ends))
        carried = [_carried(core, bond, batch) for core in ends]
        found.append(tuple(end for end in carried if end is not None))
    return tuple(found)


def _carried(core: Core, bond: str, batch: Collection[str]) -> tuple[str, ...] | None:
    if core.name == "ones":
        return ()
    if core.name == "eye":
        slots = [slot for slot in core.slots if bond not in slot]
        return slots[0] if slots else None
    return tuple(index for index in core.indices if index != bond and index not in batch)
