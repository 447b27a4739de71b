"""Networks whose dimension is bounded at all ranks, and others that have more.

Where every bond of a network is bounded, so is the dimension of its W: by the number of its trained
entries at the largest ranks, and by the rank of their derivative. What bounds a bond:

- a frozen core with the value of a rule, or from the weights (:class:`~tenslora.algebra.Limits`);
- a frozen core that any rank can have, with one trained core at its other end that stands in no
  other place: at as many values as the other indices of the frozen core have, it can be an
  identity, and no larger rank adds to that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from tenslora.algebra.dimension import dimension
from tenslora.algebra.drawn import MOST_ENTRIES, drawn_arrays, evaluate, largest_array
from tenslora.algebra.limits import Limits
from tenslora.algebra.redundancy import rank_cap
from tenslora.errors import SizeError
from tenslora.spec import Network, Slot, complete_sizes

__all__ = ["exceeds"]

_RANK = 16  # of a bond that nothing bounds, where all of W is to be reached

_DECADES = 4  # that values of rules may be apart from 1, where no trained core has their scale

#: The first part of a grouped output or input, the whole output, the input, and the first site.
_SHAPES = ((2, 4, 4, 1), (4, 4, 4, 1), (1, 4, 4, 1), (2, 4, 2, 1), (4, 4, 4, 4), (6, 6, 6, 5))

#: A network, its frozen cores, and what bounds it.
Known = tuple[Network, frozenset[str], Limits]


def exceeds(
    special: Known, general: Known, seed: int, prime: Collection[str] = ()
) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield why ``special`` has more dimensions than ``general`` at any ranks, and at what sizes.

    The targets have to be the same; those of its indices in ``prime`` get one prime or 1. Nothing
    is yielded where a bond of ``general`` has no bound.
    """
    bare = not general[0].bonds
    for target in _targets(special[0], 3 if bare or prime else 0):
        if len(own := {target[index] for index in prime} - {1}) > 1 or own & {4, 6}:
            continue
        largest, sizes = _largest(general, target), _ranks(special, target, 3 if bare else _RANK)
        if largest is None:
            return
        most = _dimension(general, largest, seed)
        if most is None or most >= math.prod(target.values()) or sizes is None:
            continue
        found = _dimension(special, sizes, seed)
        if found is not None and found > most:
            yield f"{_bounded(bare, most)}; here W has {found}", sizes
            return


def _bounded(bare: bool, most: int) -> str:
    if bare:
        return f"the larger network has {most} dimensions and no rank to raise"
    return f"frozen cores bound the larger network to {most} dimensions at any ranks"


def _targets(network: Network, size: int) -> Iterator[dict[str, int]]:
    """Yield sizes of the target: all equal where one is given; square, tall, and of many sites."""
    if size:
        yield dict.fromkeys(network.target.indices, size)
    for first, rows, columns, count in _SHAPES:
        sizes = dict.fromkeys(network.target.indices, 1)
        sizes.update(_side(network.output, rows, first))
        sizes.update(_side(network.input, columns, first))
        yield {**sizes, **dict.fromkeys(network.sites[:1], count)}


def _side(slot: Slot, total: int, first: int) -> dict[str, int]:
    """The first part of a group gets ``first`` at most, the last the rest."""
    head = min(first, total) if len(slot) > 1 else 1
    return {slot[0]: head, slot[-1]: total // head}


def _largest(general: Known, target: Mapping[str, int]) -> dict[str, int] | None:
    """Return the target's sizes with the largest rank of each bond; ``None`` where one has none."""
    network, frozen, limits = general
    sizes = {**target, **limits.most(network, target)}
    while missing := [bond for bond in network.bonds if bond not in sizes]:
        found = {bond: size for bond in missing if (size := _most(network, frozen, bond, sizes))}
        if not found:
            return None
        sizes |= found
    try:
        return complete_sizes(network, sizes)
    except SizeError:  # an equation that ties sizes to each other
        return None


def _most(
    network: Network, frozen: frozenset[str], bond: str, sizes: Mapping[str, int]
) -> int | None:
    """Return the rank above which a bond between a frozen and a trained core adds nothing."""
    places = [core for term in network.terms for core in term.cores]
    ends = [core for core in places if bond in core.indices]
    held = [core for core in ends if core.name in frozen]
    if len(ends) != 2 or len(held) != 1 or any(core.is_constant for core in ends):
        return None
    (kept,) = held
    others = [index for index in kept.indices if index != bond]
    free = next(core for core in ends if core is not kept)
    if sum(core.name == free.name for core in places) > 1:  # it serves other places as well
        return None
    if set(others) & set(free.indices) or not all(index in sizes for index in others):
        return None
    return math.prod(sizes[index] for index in others)


def _ranks(special: Known, target: Mapping[str, int], rank: int) -> dict[str, int] | None:
    """Return ranks that are large, but no larger than what adds to W."""
    network, frozen, limits = special
    sizes = {**target, **limits.most(network, target)}
    for bond in (bond for bond in network.bonds if bond not in sizes):
        held = any(bond in network.cores[name].indices for name in frozen)
        cap = _most(network, frozen, bond, sizes) if held else rank_cap(network, bond, sizes)
        sizes[bond] = min(rank, cap or rank)
    try:
        return complete_sizes(network, sizes)
    except SizeError:
        return None


def _dimension(known: Known, sizes: Mapping[str, int], seed: int) -> int | None:
    """Return the dimension of W by the trained cores, the frozen ones drawn or given.

    Values of rules are used without their scale where that changes no dimension.
    """
    network, frozen, limits = known
    if largest_array(network, sizes) > MOST_ENTRIES:
        return None
    arrays = drawn_arrays(network, sizes, limits, seed)
    if _absorbed(network, frozen, limits):
        arrays |= {name: arrays[name] / scale for name, scale in limits.scales.items()}
    elif sum(abs(math.log10(scale)) for scale in limits.scales.values()) > _DECADES:
        return None  # what is small would be taken for zero
    fixed = {name: array for name, array in arrays.items() if name in frozen}
    free = {name: array for name, array in arrays.items() if name not in frozen}
    large = {name: abs(array) for name, array in fixed.items()}
    return dimension(
        lambda held: evaluate(network, sizes, {**fixed, **held}),
        free,
        seed,
        lambda held: evaluate(network, sizes, {**large, **held}),
    )


def _absorbed(network: Network, frozen: frozenset[str], limits: Limits) -> bool:
    """Whether each term with the value of a rule has a trained core that stands nowhere else.

    A factor of the term is then a factor of that core: the set of all W is the same without it.
    """
    places = Counter(core.name for term in network.terms for core in term.cores)
    return all(
        any(places[c.name] == 1 and c.name not in frozen for c in term.cores if not c.is_constant)
        for term in network.terms
        if any(core.name in limits.given for core in term.cores)
    )
