"""Sizes and ranks for the indices of a network: checked, completed, turned into shapes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from operator import index
from typing import SupportsIndex, TypeGuard

from tenslora.errors import SizeError
from tenslora.spec.index import Core, Slot, format_slot
from tenslora.spec.network import Network

__all__ = ["balanced", "complete_sizes", "core_shape", "is_count", "slot_size"]


def is_count(value: object) -> TypeGuard[SupportsIndex]:
    """Whether ``value`` is an integer of at least one (``True`` is not an integer here).

    Integers of numpy and other libraries are integers; ``operator.index`` makes them Python's.

    >>> is_count(3), is_count(0), is_count(2.0), is_count(True)
    (True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return False
    try:
        return index(value) >= 1
    except TypeError:  # an array that is not one integer
        return False


def slot_size(slot: Slot, sizes: Mapping[str, int]) -> int:
    """The length of the axis that a slot is: the product over its group.

    >>> slot_size(("head", "head_dim"), {"head": 12, "head_dim": 64})
    768
    """
    return math.prod(sizes[index] for index in slot)


def core_shape(core: Core, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a core's array: one axis a slot.

    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out (r s)] A[(r s) in]")
    >>> core_shape(n.cores["A"], {"out": 5, "in": 7, "r": 2, "s": 3})
    (6, 7)
    """
    return tuple(slot_size(slot, sizes) for slot in core.slots)


def complete_sizes(
    network: Network, sizes: Mapping[str, int], *, ranks: bool = True
) -> dict[str, int]:
    """Check sizes against a network and derive what follows from the totals.

    Parameters
    ----------
    network : the equation.
    sizes : a size for each index. ``out`` and ``in`` are accepted as the totals of the output and
        the input where the equation has no index of that name; a single missing member of a group
        is then derived.
    ranks : whether the bonds must be there; with ``False`` they may be left out.

    Returns
    -------
    dict
        Every index of the network (bonds only as far as known) with its size.

    Raises
    ------
    SizeError
        Unknown or missing names, sizes that are no positive integers, a split that does not fit,
        one core with two shapes.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[(head head_dim) in] = B[(head head_dim) r] A[r in]")
    >>> complete_sizes(n, {"out": 768, "head": 12, "in": 768, "r": 4})
    {'head': 12, 'head_dim': 64, 'in': 768, 'r': 4}
    """
    totals = {
        name: slot
        for name, slot in (("out", network.output), ("in", network.input))
        if name not in network.indices
    }
    for name, value in sizes.items():
        if name not in network.indices and name not in totals:
            raise _unknown(network, name)
        if not is_count(value):
            raise _not_a_count(network, name, value)
    sizes = {name: index(value) for name, value in sizes.items()}
    known = {name: value for name, value in sizes.items() if name not in totals}
    for name, slot in totals.items():
        if name in sizes:
            known.update(_split(name, slot, sizes[name], known))
    needed = network.indices if ranks else network.target.indices
    missing = [name for name in needed if name not in known]
    if missing:
        raise _missing(network, missing)
    complete = {name: known[name] for name in network.indices if name in known}
    _check_shapes(network, complete)
    return complete


def _split(name: str, slot: Slot, total: int, known: Mapping[str, int]) -> dict[str, int]:
    absent = [index for index in slot if index not in known]
    part = math.prod(known[index] for index in slot if index in known)
    if len(absent) > 1:
        return {}
    text = " x ".join(f"{i}={known[i]}" for i in slot if i in known)
    if not absent and part != total:
        what = f"{text} is {part}, but {name} is {total}"
        raise SizeError("E205", what, advice=f"Leave out {slot[-1]}: it follows from {name}.")
    if absent and total % part:
        what = f"{name}={total} cannot be split by {text}: it leaves a remainder of {total % part}"
        raise SizeError("E205", what, advice=f"Choose sizes whose product divides {total}.")
    return {absent[0]: total // part} if absent else {}


def _unknown(network: Network, name: str) -> SizeError:
    close = difflib.get_close_matches(str(name), network.indices, n=1, cutoff=0.5)
    advice = f"Did you mean {close[0]!r}? " if close else ""
    advice += f"The indices are {', '.join(network.indices)}."
    return SizeError("E201", f"{name!r} is no index of {network}", advice=advice)


def _not_a_count(network: Network, name: str, value: object) -> SizeError:
    if name in network.bonds:
        what = f"rank {name}={value!r} is not a positive integer"
        return SizeError("E206", what, advice="Give a rank of at least 1.")
    what = f"size {name}={value!r} is not a positive integer"
    return SizeError("E203", what, advice="Give a whole number of at least 1.")


def _missing(network: Network, missing: list[str]) -> SizeError:
    bonds = [name for name in missing if name in network.bonds]
    others = [name for name in missing if name not in network.bonds]
    parts = [f"size of {', '.join(others)}"] if others else []
    parts += [f"rank of {', '.join(bonds)}"] if bonds else []
    example = " ".join(f"{name}=..." for name in missing)
    advice = f"Give {example}"
    advice += "; rank=... sets every bond." if bonds else "."
    return SizeError("E202", f"missing: {' and '.join(parts)}, in {network}", advice=advice)


def _check_shapes(network: Network, sizes: Mapping[str, int]) -> None:
    first: dict[str, tuple[Core, tuple[int, ...]]] = {}
    for term in network.terms:
        for core in term.cores:
            if any(index not in sizes for index in core.indices):
                continue
            shape = core_shape(core, sizes)
            if core.name == "eye" and len(set(shape)) > 1:
                slots = ", ".join(
                    f"{format_slot(s)}={n}" for s, n in zip(core.slots, shape, strict=True)
                )
                advice = "Every slot of eye has the same size."
                raise SizeError("E204", f"{core} joins different sizes: {slots}", advice=advice)
            if core.is_constant:
                continue
            known, expected = first.setdefault(core.name, (core, shape))
            if shape != expected:
                what = f"core {core.name} has shape {expected} as {known} and {shape} as {core}"
                advice = "The same name is the same array: give equal sizes, or two names."
                raise SizeError("E204", what, advice=advice)


def balanced(total: int, count: int) -> tuple[int, ...]:
    """Split ``total`` into ``count`` integer factors, as equal as they can be, ascending.

    >>> balanced(768, 2), balanced(768, 3), balanced(7, 2), balanced(5, 1)
    ((24, 32), (8, 8, 12), (1, 7), (5,))
    """
    if count == 0:
        return ()
    best = min(_factorisations(total, count, 1), key=lambda factors: (sum(factors), factors))
    return tuple(best)


def _factorisations(total: int, count: int, least: int) -> Iterator[Sequence[int]]:
    if count == 1:
        yield (total,)
        return
    for first in range(least, math.isqrt(total) + 1 if count == 2 else int(total ** (1 / 3)) + 2):
        if total % first == 0 and first**count <= total:
            for rest in _factorisations(total // first, count - 1, first):
                yield (first, *rest)
