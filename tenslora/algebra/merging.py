"""Laws about free cores: one takes another in where the set of W stays as it is."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from tenslora.algebra.edit import frozen_cores
from tenslora.algebra.step import Arrays, Cores, Rewrite
from tenslora.errors import SpecError
from tenslora.spec import Core, Network, Term, complete_sizes, core_shape

__all__ = ["absorb", "merge"]


def absorb(
    network: Network, sizes: Mapping[str, int], frozen: Collection[str] = ()
) -> Rewrite | None:
    """Take a trained core into another whose indices hold all of its own.

    Law: where ``b`` has some of the indices of ``B`` and both are free, ``b[i] B[i j]`` runs over
    all arrays on ``i j``, as ``B`` alone does; the way back has ones for ``b``. A bond that ``b``
    and ``B`` alone have is summed first, and then not an index of the result.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = b[out] B[out r] A[r in]")
    >>> print(absorb(n, {"out": 2, "in": 3, "r": 2}))
    absorb b into B: W[out in] = B[out r] A[r in]
    """
    sizes = complete_sizes(network, sizes)
    for term, small, large in _free_pairs(network, frozen):
        if not set(small.indices) <= set(large.indices):
            continue
        after = _replaced(network, term, small, None)
        if after is None or set(after.bonds) != set(network.bonds):
            continue
        return Rewrite(
            f"absorb {small.name} into {large.name}",
            network,
            after,
            sizes,
            _absorbing(small, large, sizes),
            _with_ones(small, sizes),
        )
    return None


def _absorbing(small: Core, large: Core, sizes: Mapping[str, int]) -> Arrays:
    def forward(cores: Cores) -> dict[str, Any]:
        held = {name: array for name, array in cores.items() if name != small.name}
        held[large.name] = _contract(
            [(cores[small.name], small), (cores[large.name], large)], large, sizes
        )
        return held

    return forward


def _with_ones(small: Core, sizes: Mapping[str, int]) -> Arrays:
    import numpy as np

    def back(cores: Cores) -> dict[str, Any]:
        dtype = np.result_type(*cores.values())
        return {**cores, small.name: np.ones(core_shape(small, sizes), dtype)}

    return back


def merge(
    network: Network, sizes: Mapping[str, int], frozen: Collection[str] = ()
) -> Rewrite | None:
    """Make one core of two whose product is any array.

    Law: let two free cores have bonds ``s`` that no other core has, indices ``z`` in common beside,
    and ``x`` and ``y`` on one only. For each ``z`` their product is an x by y matrix of rank s at
    most; where s is at least x or at least y, that is every matrix. The way back has an identity in
    the core on the shorter side.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out b] M[b a] A[a in]")
    >>> print(merge(n, {"out": 9, "in": 9, "a": 2, "b": 2}))
    merge B and M over b: W[out in] = B[out a] A[a in]
    """
    sizes = complete_sizes(network, sizes)
    for term, one, two in _free_pairs(network, frozen):
        if one.name > two.name and _mergeable(network, term, two, one, sizes):
            continue  # the pair is met the other way round as well
        bonds = _mergeable(network, term, one, two, sizes)
        if not bonds:
            continue
        slots = tuple(s for s in one.slots if not bonds.issuperset(s))
        slots += tuple(s for s in two.slots if not bonds.issuperset(s) and s not in slots)
        joined = Core(one.name, slots)
        after = _replaced(network, term, two, None, {one.name: joined})
        if after is None:
            continue
        left = {i: n for i, n in sizes.items() if i not in bonds}
        return Rewrite(
            f"merge {one.name} and {two.name} over {' '.join(sorted(bonds))}",
            network,
            after,
            left,
            _merging(one, two, joined, sizes),
            _parting(one, two, joined, bonds, sizes),
        )
    return None


def _mergeable(
    network: Network, term: Term, one: Core, two: Core, sizes: Mapping[str, int]
) -> set[str]:
    """Return the bonds over which two cores can be merged; none where they cannot."""
    others = {i for core in term.cores if core not in (one, two) for i in core.indices}
    elsewhere = {i for t in network.terms if t is not term for i in t.indices}
    both = set(one.indices) & set(two.indices)
    bonds = {i for i in both if i in network.bonds and i not in others | elsewhere}
    slots = [*one.slots, *two.slots]
    if any(not bonds.isdisjoint(s) and not bonds.issuperset(s) for s in slots):
        return set()
    if any(len(s) > 1 and not bonds.issuperset(s) for s in slots):
        return set()  # groups that one of the two has alone
    if any(set(s) & both - bonds and s not in two.slots for s in one.slots):
        return set()
    inner = math.prod(sizes[i] for i in bonds)
    sides = (math.prod(sizes[i] for i in core.indices if i not in both) for core in (one, two))
    return bonds if bonds and inner >= min(sides) else set()


def _merging(one: Core, two: Core, joined: Core, sizes: Mapping[str, int]) -> Arrays:
    def forward(cores: Cores) -> dict[str, Any]:
        held = {name: array for name, array in cores.items() if name != two.name}
        held[one.name] = _contract([(cores[one.name], one), (cores[two.name], two)], joined, sizes)
        return held

    return forward


def _parting(
    one: Core, two: Core, joined: Core, bonds: Collection[str], sizes: Mapping[str, int]
) -> Arrays:
    """Return the way back: an identity for the shorter side, the merged core for the other."""
    import numpy as np

    both = [i for i in joined.indices if i in one.indices and i in two.indices]
    inner = [i for i in one.indices if i in bonds]
    size = math.prod(sizes[i] for i in inner)
    own = {
        core.name: [i for i in core.indices if i not in both and i not in bonds]
        for core in (one, two)
    }
    counts = {name: math.prod(sizes[i] for i in held) for name, held in own.items()}
    short, long = (one, two) if counts[one.name] <= counts[two.name] else (two, one)

    def back(cores: Cores) -> dict[str, Any]:
        merged = cores[joined.name]
        order = [joined.indices.index(i) for i in (*both, *own[short.name], *own[long.name])]
        flat = merged.reshape([sizes[i] for i in joined.indices]).transpose(order)
        batch = [sizes[i] for i in both]
        flat = flat.reshape(*batch, counts[short.name], counts[long.name])
        filled = np.zeros((*batch, size, counts[long.name]), merged.dtype)
        filled[..., : counts[short.name], :] = flat
        unit = np.zeros((*batch, counts[short.name], size), merged.dtype)
        unit[..., :, :] = np.eye(counts[short.name], size)
        return {
            **cores,
            short.name: _laid(unit, [*both, *own[short.name], *inner], short, sizes),
            long.name: _laid(filled, [*both, *inner, *own[long.name]], long, sizes),
        }

    return back


def _laid(array: Any, names: list[str], core: Core, sizes: Mapping[str, int]) -> Any:
    """Lay an array whose axes are ``names`` out as the slots of a core."""
    split = array.reshape([sizes[i] for i in names])
    turned = split.transpose([names.index(i) for i in core.indices])
    return turned.reshape(core_shape(core, sizes))


def _free_pairs(network: Network, frozen: Collection[str]) -> list[tuple[Term, Core, Core]]:
    """Return pairs of trained cores of one term that stand in one place each."""
    frozen = frozen_cores(network, frozen)
    places = [core.name for term in network.terms for core in term.cores]
    pairs = []
    for term in network.terms:
        free = [
            core
            for core in term.cores
            if not core.is_constant and core.name not in frozen and places.count(core.name) == 1
        ]
        pairs += [(term, a, b) for a in free for b in free if a.name != b.name]
    return pairs


def _replaced(
    network: Network,
    term: Term,
    old: Core,
    new: Core | None,
    others: Mapping[str, Core] | None = None,
) -> Network | None:
    """Return the network with a core replaced or taken out; ``None`` where that is ill formed."""
    changed = {old.name: new, **(others or {})}
    terms = []
    for each in network.terms:
        cores = (changed.get(c.name, c) if each is term else c for c in each.cores)
        terms.append(Term(tuple(core for core in cores if core is not None)))
    try:
        return Network(network.target, tuple(terms))
    except SpecError:
        return None


def _contract(operands: list[tuple[Any, Core]], result: Core, sizes: Mapping[str, int]) -> Any:
    import numpy as np

    labels: dict[str, int] = {}
    args: list[Any] = []
    for array, core in operands:
        args.append(np.reshape(array, [sizes[i] for i in core.indices]))
        args.append([labels.setdefault(i, len(labels)) for i in core.indices])
    made = np.einsum(*args, [labels[i] for i in result.indices])
    return made.reshape(core_shape(result, sizes))
