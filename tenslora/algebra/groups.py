"""Laws about groups: an index written as several, several written as one, and equal groups."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from tenslora.algebra.edit import unknown
from tenslora.algebra.modify import join, split
from tenslora.algebra.step import Rewrite
from tenslora.errors import SizeError
from tenslora.spec import Core, Network, Slot, Term, complete_sizes

__all__ = ["join_group", "regrouped", "split_group"]


def split_group(
    network: Network, sizes: Mapping[str, int], index: str, parts: Mapping[str, int]
) -> Rewrite:
    """Write a bond or a feature as a group.

    Law: an index of n values is a group of indices whose sizes have the product n, in C order. No
    array changes, and W does not: a slot has as many values as before.

    Parameters
    ----------
    network : the equation.
    sizes : the size of every index.
    index : a bond, or an index of the output or input.
    parts : the names of the parts and their sizes, the slowest first.

    Raises
    ------
    SpecError
        E120 for an index that is a site or not there, or a name that is taken; E122 for fewer than
        two parts.
    SizeError
        E205 for parts whose product is another size.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out r] A[r in]")
    >>> print(split_group(n, {"out": 6, "in": 4, "r": 2}, "out", {"head": 3, "head_dim": 2}))
    split out: W[(head head_dim) in] = B[(head head_dim) r] A[r in]
    """
    known = complete_sizes(network, sizes)
    if index not in known or index in network.sites:
        raise unknown(network, index, "bond or feature", (*network.features, *network.bonds))
    after = split(network, index, *parts)
    left = {i: n for i, n in known.items() if i != index}
    checked = complete_sizes(after, {**left, **parts})
    if math.prod(checked[name] for name in parts) != known[index]:
        text = " x ".join(f"{name}={size}" for name, size in parts.items())
        what = f"{text} is {math.prod(parts.values())}, but {index} is {known[index]}"
        raise SizeError("E205", what, advice="Choose sizes with that product.")
    return Rewrite(f"split {index}", network, after, checked, dict, dict)


def join_group(
    network: Network, sizes: Mapping[str, int], parts: Collection[str], into: str
) -> Rewrite:
    """Write a group of bonds or features as one index, the way back from :func:`split_group`.

    Law: indices that stand side by side in one order wherever they stand are one index, whose size
    is their product. No array changes, and W does not.

    Parameters
    ----------
    network : the equation.
    sizes : the size of every index.
    parts : bonds, or indices of one side of the target, the slowest first.
    into : the name of the one index.

    Raises
    ------
    SpecError
        E120 for an index that is a site or not there, or a name that is taken; E122 where they
        stand apart or in another order.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out (r s)] A[(r s) in]")
    >>> done = join_group(n, {"out": 6, "in": 4, "r": 2, "s": 3}, ("r", "s"), "t")
    >>> print(done, done.sizes["t"])
    join r s: W[out in] = B[out t] A[t in] 6
    """
    known = complete_sizes(network, sizes)
    for part in parts:
        if part not in known or part in network.sites:
            raise unknown(network, part, "bond or feature", (*network.features, *network.bonds))
    after = join(network, *parts, into=into)
    left = {i: n for i, n in known.items() if i not in parts}
    checked = complete_sizes(after, {**left, into: math.prod(known[part] for part in parts)})
    return Rewrite(f"join {' '.join(parts)}", network, after, checked, dict, dict)


def regrouped(term: Term, free: Collection[str]) -> Term:
    """Remove an ``eye`` between groups of bonds, whatever their sizes are (law *group*).

    Law: ``eye[(r s) g]`` makes the group of bonds ``(r s)`` and the slot ``g`` one index: where
    ``r`` and ``s`` stand side by side wherever they stand, ``(r s)`` is written ``g``.

    >>> from tenslora.spec import parse
    >>> (term,) = parse("W[out in] = B[out (r s)] eye[(r s) (t u)] A[(t u) in]").terms
    >>> str(regrouped(term, ("out", "in")))
    'B[out (t u)] A[(t u) in]'
    """
    for n, eye in enumerate(term.cores):
        rest = (*term.cores[:n], *term.cores[n + 1 :])
        for group in (s for s in eye.slots if eye.name == "eye" and len(s) > 1):
            slots = tuple(slot for slot in eye.slots if slot != group)
            if set(group) & set(free) or len(slots) != len(eye.slots) - 1:
                continue
            for other in slots:
                cores = [_with(core, group, other) for core in rest]
                if set(group) & set(other) or None in cores:
                    continue
                left = [Core("eye", slots)] if len(slots) > 1 else []
                return regrouped(Term((*(c for c in cores if c is not None), *left)), free)
    return term


def _with(core: Core, group: Slot, other: Slot) -> Core | None:
    """Write a group as another in every slot; ``None`` where it stands apart, or one twice."""
    slots = tuple(_written(slot, group, other) for slot in core.slots)
    names = [index for slot in slots for index in slot]
    apart = set(group) & set(names)
    return None if apart or len(set(names)) < len(names) else Core(core.name, slots)


def _written(slot: Slot, group: Slot, other: Slot) -> Slot:
    at = slot.index(group[0]) if group[0] in slot else -1
    if at < 0 or slot[at : at + len(group)] != group:
        return slot
    return (*slot[:at], *other, *slot[at + len(group) :])
